//! Lists of processors, and pinning a thread to them. Processes that a pinned thread starts are pinned as well.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors by number, ascending. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub(crate) Vec<usize>);

impl Cpus {
    /// Those that this thread may use.
    pub fn available() -> io::Result<Cpus> {
        let set = sched_getaffinity(None)?;
        Ok(Cpus(
            (0..CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .collect(),
        ))
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> Cpus {
        Cpus(self.0.iter().take(1).copied().collect())
    }

    /// Those that are not among `others`; all of them if none would be left.
    #[must_use]
    pub fn without(&self, others: &Cpus) -> Cpus {
        let rest: Vec<usize> = self
            .0
            .iter()
            .copied()
            .filter(|cpu| !others.0.contains(cpu))
            .collect();
        if rest.is_empty() {
            self.clone()
        } else {
            Cpus(rest)
        }
    }
}

impl FromStr for Cpus {
    type Err = String;

    /// `0`, `0,2` or `0-3,6`.
    fn from_str(text: &str) -> Result<Cpus, String> {
        let number = |text: &str| {
            let cpu: Option<usize> = text.trim().parse().ok();
            let cpu = cpu.filter(|cpu| *cpu < CpuSet::MAX_CPU);
            cpu.ok_or(format!(
                "{text:?} is not a list of processors such as 0,2-3"
            ))
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            cpus.extend(number(first)?..=number(last)?);
        }
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.is_empty() {
            Err(format!("{text} names no processor"))
        } else {
            Ok(Cpus(cpus))
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

/// Pins this thread, and all that it starts from now on.
pub fn pin(cpus: &Cpus) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in &cpus.0 {
        set.set(*cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_understood_and_nonsense_is_not() {
        assert_eq!("0".parse(), Ok(Cpus(vec![0])));
        assert_eq!("4,0-2,1".parse(), Ok(Cpus(vec![0, 1, 2, 4])));
        for wrong in ["", "a", "3-1", "1,", "99999", "-1"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_generator_gets_the_processors_that_the_servers_leave_or_shares_them() {
        let all = Cpus(vec![0, 1, 2]);
        assert_eq!(all.without(&all.first()), Cpus(vec![1, 2]));
        let one = Cpus(vec![5]);
        assert_eq!(one.without(&one), one);
    }
}
