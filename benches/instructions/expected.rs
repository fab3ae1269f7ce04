//! The counts that are expected, in a file beside this one, and what to say of a count that is another.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::callgrind::{Valgrind, first_line};

/// How far a count may be off, in percent, either way. Another compiler changes a count by some; an expectation that is
/// far too high would let the next regression pass.
const TOLERANCE_PERCENT: f64 = 5.0;

const HEAD: &str =
    "# Instructions per item. Written by: cargo bench --bench instructions -- --bless\n";

/// Instructions per item, by the name of the case.
pub(crate) type Counts = BTreeMap<String, f64>;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) origin: Origin,
    pub(crate) counts: Counts,
}

impl Expected {
    /// Reads the file; one that is not there expects nothing.
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
            let wrong = || io::Error::other(format!("expected.txt: what is `{line}`?"));
            let (key, value) = line.split_once(": ").ok_or_else(wrong)?;
            if !expected.origin.set(key, value) {
                let count = value.trim().parse().map_err(|_| wrong())?;
                expected.counts.insert(key.to_owned(), count);
            }
        }
        Ok(expected)
    }
}

/// Writes what was measured `here`, instead of all that was expected.
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

/// What counts depend on beside the source.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    rustc: String,
    valgrind: String,
    libc: String,
    cpu: String,
}

impl Origin {
    /// Of this run.
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

    /// Takes in an entry of the file. Says whether it is one of these.
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

    /// What is another one `here`, a line each.
    pub(crate) fn differences(&self, here: &Origin) -> Vec<String> {
        let both = self.entries().into_iter().zip(here.entries());
        both.filter(|(expected, found)| expected != found)
            .map(|((key, expected), (_, found))| {
                format!("the expected counts are from {key} `{expected}`, these from `{found}`")
            })
            .collect()
    }
}

/// A count beside what is expected, if anything is.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: &'static str,
    pub(crate) item: &'static str,
    pub(crate) expected: Option<f64>,
    pub(crate) count: f64,
}

impl Verdict {
    /// Whether it is near enough.
    pub(crate) fn is_as_expected(&self) -> bool {
        self.percent()
            .is_some_and(|percent| percent.abs() <= TOLERANCE_PERCENT)
    }

    /// How far off it is.
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
            return write!(f, ", and nothing is expected yet");
        };
        write!(f, ", expected {expected:.2}: {percent:+.2} %")?;
        if percent > TOLERANCE_PERCENT {
            write!(f, ", a regression")?;
        } else if percent < -TOLERANCE_PERCENT {
            write!(f, ", an improvement to be kept")?;
        }
        Ok(())
    }
}
