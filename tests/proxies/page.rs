//! Finds the configurations on the pages in `docs/`, by section and language. Each test asks for its own.

use std::fs;
use std::path::Path;

use crate::support::runs_as_root;

/// A configuration from the page, perhaps adapted to a test.
pub(crate) struct Block {
    text: String,
}

/// The page about proxies.
pub(crate) const PROXIES: &str = "behind-a-proxy.md";

/// The first block of `language` behind the heading `section`, at any level, on a page.
pub(crate) fn block(page: &str, section: &str, language: &str) -> Block {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let path = docs.join(page);
    let page = fs::read_to_string(path).unwrap();
    let heading =
        |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == section;
    let fence = format!("```{language}");
    let text: Vec<&str> = page
        .lines()
        .skip_while(|line| !heading(line))
        .skip_while(|line| *line != fence)
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    assert!(!text.is_empty(), "no {language} behind `{section}`");
    Block {
        text: text.join("\n") + "\n",
    }
}

impl Block {
    /// The block with `to` instead of `from`, which must be in it.
    pub(crate) fn replaced(self, from: &str, to: &str) -> Block {
        assert!(self.text.contains(from), "no {from:?} in\n{}", self.text);
        Block {
            text: self.text.replace(from, to),
        }
    }

    /// The block with `to` instead of `from`, if that is in it.
    pub(crate) fn adapted(self, from: &str, to: &str) -> Block {
        Block {
            text: self.text.replace(from, to),
        }
    }

    /// The block without lines that only root can carry out, unless root runs the test.
    pub(crate) fn without_unless_root(self, lines: &[&str]) -> Block {
        if runs_as_root() {
            return self;
        }
        lines
            .iter()
            .fold(self, |block, line| block.replaced(line, ""))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
