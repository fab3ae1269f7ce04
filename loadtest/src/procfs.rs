//! What `/proc` says: of the relay's process and its children, of this machine, of the calling thread.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;

use crate::secrets;

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CpuTime {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl CpuTime {
    pub(crate) fn total(&self) -> f64 {
        self.user + self.system
    }
}

/// A process and those that it has started.
#[derive(Debug)]
pub(crate) struct Processes {
    root: u32,
    /// The process and its descendants, as of the last look.
    pids: Vec<u32>,
}

impl Processes {
    /// A process that must be there.
    pub(crate) fn of(root: u32) -> Result<Processes, String> {
        if stat(root).is_none() {
            return Err(format!(
                "--server-pid {root}: there is no such process, or /proc cannot be read"
            ));
        }
        let mut processes = Processes {
            root,
            pids: vec![root],
        };
        processes.look_for_children();
        Ok(processes)
    }

    /// Learns which children there are now.
    pub(crate) fn look_for_children(&mut self) {
        let mut by_parent: HashMap<u32, Vec<u32>> = HashMap::new();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for entry in entries {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, stat(pid)?))) {
                by_parent.entry(stat.parent).or_default().push(pid);
            }
        }
        self.pids = vec![self.root];
        let mut next = 0;
        while let Some(pid) = self.pids.get(next) {
            self.pids
                .extend(by_parent.remove(pid).into_iter().flatten());
            next += 1;
        }
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        stat(self.root).is_some()
    }

    /// What they have used since they were started, children that have ended included.
    pub(crate) fn cpu(&self) -> CpuTime {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let mut cpu = CpuTime::default();
        for stat in self.pids.iter().filter_map(|pid| stat(*pid)) {
            cpu.user += stat.user as f64 / ticks;
            cpu.system += stat.system as f64 / ticks;
        }
        cpu
    }

    /// Whether there are more than one.
    pub(crate) fn are_several(&self) -> bool {
        self.pids.len() > 1
    }

    /// Resident bytes, from a counter of the kernel's that is cheap to read and may be some pages off.
    pub(crate) fn resident(&self) -> u64 {
        let page = rustix::param::page_size() as u64;
        let pages = |pid: &u32| {
            let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
            statm.split(' ').nth(1)?.parse::<u64>().ok()
        };
        self.pids.iter().filter_map(pages).sum::<u64>() * page
    }

    /// Resident bytes, counted by the kernel for us; pages that several of them share count once.
    pub(crate) fn resident_exactly(&self) -> u64 {
        let field = if self.are_several() { "Pss:" } else { "Rss:" };
        let mut kib = 0;
        for pid in &self.pids {
            match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                Ok(rollup) => kib += kib_of(&rollup, field).unwrap_or(0),
                // Another user's process does not show its maps.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return self.resident();
                }
                // It has ended since it was looked for.
                Err(_) => {}
            }
        }
        // Old kernels do not show anybody's.
        if kib > 0 { kib << 10 } else { self.resident() }
    }

    /// The program's name.
    pub(crate) fn name(&self) -> String {
        let comm = fs::read_to_string(format!("/proc/{}/comm", self.root));
        comm.map(|name| name.trim().to_owned()).unwrap_or_default()
    }

    /// The command line, secrets left out.
    pub(crate) fn command(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.root)).unwrap_or_default();
        let arguments = bytes.split(|byte| *byte == 0);
        let arguments = arguments.map(|text| String::from_utf8_lossy(text).into_owned());
        let mut arguments: Vec<String> = arguments.collect();
        while arguments.last().is_some_and(String::is_empty) {
            arguments.pop();
        }
        secrets::hide(arguments)
    }
}

/// A field of `smaps_rollup`.
fn kib_of(rollup: &str, field: &str) -> Option<u64> {
    let line = rollup.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What is needed of `/proc/pid/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user: u64,
    system: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name is in parentheses, and may contain anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    if fields.first() == Some(&"Z") {
        return None;
    }
    Some(Stat {
        parent: number(1)? as u32,
        user: number(11)? + number(13)?,
        system: number(12)? + number(14)?,
    })
}

/// How long the calling thread has waited for a CPU since it was started, in nanoseconds; 0 where the kernel does not say.
pub(crate) fn thread_wait() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text.split(' ').nth(1).and_then(|field| field.parse().ok());
    waited.unwrap_or(0)
}

/// The processor's name.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.to_owned(),
    )
}

/// The kernel's name and release.
pub(crate) fn kernel() -> String {
    let part = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    format!("{} {}", part("ostype").trim(), part("osrelease").trim())
}

#[cfg(test)]
pub(crate) mod tests;
