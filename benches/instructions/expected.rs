//! The expected counts, which are in a file beside this one, and their comparison with those of this run. `main` calls it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::callgrind::{Valgrind, first_line};

/// The largest difference that passes, in percent, either way. Another compiler changes a count a little. A count that is far
/// too low fails as well, because an expectation that is too high would let the next regression pass.
const TOLERANCE_PERCENT: f64 = 5.0;

const HEAD: &str =
    "# Instructions per item. Written by: cargo bench --bench instructions -- --bless\n";

/// Instructions for one item, by the name of the case.
pub(crate) type Counts = BTreeMap<String, f64>;

/// The content of the file.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) origin: Origin,
    pub(crate) counts: Counts,
}

impl Expected {
    /// Reads the file. A missing file expects nothing.
    pub(crate) fn read(file: &Path) -> io::Result<Expected> {
        match fs::read_to_string(file) {
            Ok(text) => Expected::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Expected::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> io::Result<Expected> {
        let mut expected = Expected::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let wrong = || {
                io::Error::other(format!(
                    "expected.txt: the line `{line}` is not `NAME: COUNT`"
                ))
            };
            let (key, value) = line.split_once(": ").ok_or_else(wrong)?;
            if !expected.origin.set(key, value) {
                let count = value.trim().parse().map_err(|_| wrong())?;
                expected.counts.insert(key.to_owned(), count);
            }
        }
        Ok(expected)
    }
}

/// Replaces the file by the counts that were measured `here`.
pub(crate) fn bless(file: &Path, here: &Origin, counts: &Counts) -> io::Result<()> {
    let origin = here
        .entries()
        .map(|(key, value)| format!("{key}: {value}\n"));
    let counts = counts
        .iter()
        .map(|(name, count)| format!("{name}: {count:.2}\n"));
    let lines = [HEAD.to_owned()].into_iter().chain(origin).chain(counts);
    fs::write(file, lines.collect::<String>())
}

/// The tools that counts depend on, beside the source.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    rustc: String,
    valgrind: String,
    libc: String,
    cpu: String,
}

impl Origin {
    /// The tools of this run.
    pub(crate) fn here(valgrind: &Valgrind) -> io::Result<Origin> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let cpu = model.and_then(|line| line.split_once(": "));
        Ok(Origin {
            rustc: first_line("rustc".into(), "--version")?,
            valgrind: valgrind.version()?,
            libc: first_line("getconf".into(), "GNU_LIBC_VERSION")?,
            cpu: cpu.map_or_else(String::new, |(_, name)| name.to_owned()),
        })
    }

    fn entries(&self) -> [(&'static str, &str); 4] {
        [
            ("rustc", &self.rustc),
            ("valgrind", &self.valgrind),
            ("libc", &self.libc),
            ("cpu", &self.cpu),
        ]
    }

    /// Takes an entry of the file. Returns whether it is about a tool.
    fn set(&mut self, key: &str, value: &str) -> bool {
        let field = match key {
            "rustc" => &mut self.rustc,
            "valgrind" => &mut self.valgrind,
            "libc" => &mut self.libc,
            "cpu" => &mut self.cpu,
            _ => return false,
        };
        value.clone_into(field);
        true
    }

    /// One line for each tool that is different `here`.
    pub(crate) fn differences(&self, here: &Origin) -> Vec<String> {
        let both = self.entries().into_iter().zip(here.entries());
        both.filter(|(expected, found)| expected != found)
            .map(|((key, expected), (_, found))| {
                format!(
                    "the expected counts were made with {key} `{expected}`, these with `{found}`"
                )
            })
            .collect()
    }
}

/// A count, and the expected one if there is one.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: &'static str,
    pub(crate) item: &'static str,
    pub(crate) expected: Option<f64>,
    pub(crate) count: f64,
}

impl Verdict {
    /// Whether the difference is small enough.
    pub(crate) fn is_as_expected(&self) -> bool {
        self.percent()
            .is_some_and(|percent| percent.abs() <= TOLERANCE_PERCENT)
    }

    /// The difference, in percent of the expected count.
    fn percent(&self) -> Option<f64> {
        let expected = self.expected?;
        Some(100.0 * (self.count - expected) / expected)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            name, item, count, ..
        } = self;
        write!(f, "{name}: {count:.2} instructions per {item}")?;
        let (Some(expected), Some(percent)) = (self.expected, self.percent()) else {
            return write!(f, ", and no count is expected yet");
        };
        write!(f, ", expected {expected:.2}: {percent:+.2} %")?;
        if percent > TOLERANCE_PERCENT {
            write!(f, ", a regression")?;
        } else if percent < -TOLERANCE_PERCENT {
            write!(f, ", an improvement: keep it with --bless")?;
        }
        Ok(())
    }
}
