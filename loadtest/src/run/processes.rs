//! The relay's process and its children: their CPU time, memory and sockets, from `/proc`.
//!
//! `watch.rs` calls it, and so does a comparison that waits for a server. It changes nothing.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;

use procfs::ProcError;
use procfs::process::{FDTarget, Process, Stat, all_processes};

use crate::secrets;

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CpuTime {
    pub(super) user: f64,
    pub(super) system: f64,
}

impl CpuTime {
    pub(super) fn total(&self) -> f64 {
        self.user + self.system
    }
}

/// A process and its children.
#[derive(Debug)]
pub(crate) struct Processes {
    /// The process itself first, then its descendants as of the last look.
    all: Vec<Process>,
}

impl Processes {
    /// A process, which must be there, and its children.
    pub(crate) fn of(root: u32) -> Result<Processes, String> {
        let process = i32::try_from(root).ok().map(Process::new);
        match process {
            Some(Ok(process)) if process.is_alive() => {
                let mut processes = Processes { all: vec![process] };
                processes.look_for_children();
                Ok(processes)
            }
            _ => Err(format!(
                "--server-pid {root}: there is no such process, or /proc cannot be read"
            )),
        }
    }

    /// Finds the children that there are now.
    pub(super) fn look_for_children(&mut self) {
        let mut by_parent: HashMap<i32, Vec<Process>> = HashMap::new();
        for process in all_processes().into_iter().flatten().flatten() {
            if let Some(stat) = stat(&process) {
                by_parent.entry(stat.ppid).or_default().push(process);
            }
        }
        self.all.truncate(1);
        let mut next = 0;
        while let Some(process) = self.all.get(next) {
            let children = by_parent.remove(&process.pid());
            self.all.extend(children.into_iter().flatten());
            next += 1;
        }
    }

    fn root(&self) -> &Process {
        &self.all[0]
    }

    /// Whether the process is still there.
    pub(super) fn is_alive(&self) -> bool {
        self.root().is_alive()
    }

    /// The CPU time of all of them since they were started, with that of children that have ended.
    pub(super) fn cpu(&self) -> CpuTime {
        let ticks = procfs::ticks_per_second() as f64;
        let mut cpu = CpuTime::default();
        for stat in self.all.iter().filter_map(stat) {
            cpu.user += (stat.utime as f64 + stat.cutime as f64) / ticks;
            cpu.system += (stat.stime as f64 + stat.cstime as f64) / ticks;
        }
        cpu
    }

    /// Whether there is more than one process.
    pub(super) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// Resident bytes, from a counter that is cheap to read and may be some pages off.
    pub(super) fn resident(&self) -> u64 {
        let pages = |process: &Process| Some(process.statm().ok()?.resident);
        self.all.iter().filter_map(pages).sum::<u64>() * procfs::page_size()
    }

    /// Resident bytes, which the kernel counts for us. Pages that several processes share count once.
    pub(super) fn resident_exactly(&self) -> u64 {
        let field = if self.are_several() { "Pss" } else { "Rss" };
        let mut bytes = 0;
        for process in &self.all {
            match rolled_up(process, field) {
                Ok(held) => bytes += held,
                // The maps of another user's process cannot be read.
                Err(ProcError::PermissionDenied(_)) => return self.resident(),
                // It has ended since it was looked for.
                Err(_) => {}
            }
        }
        // Old kernels do not have this count.
        if bytes > 0 { bytes } else { self.resident() }
    }

    /// The sockets that they hold, by their inodes.
    pub(crate) fn sockets(&self) -> HashSet<u64> {
        let mut sockets = HashSet::new();
        // The descriptors of another user's process cannot be read: its sockets are not known then.
        for file in self.all.iter().filter_map(|process| process.fd().ok()) {
            for file in file.flatten() {
                if let FDTarget::Socket(inode) = file.target {
                    sockets.insert(inode);
                }
            }
        }
        sockets
    }

    /// The program's name.
    pub(super) fn name(&self) -> String {
        self.root().stat().map(|stat| stat.comm).unwrap_or_default()
    }

    /// The command line, without secrets.
    pub(super) fn command(&self) -> Vec<String> {
        let mut bytes = Vec::new();
        // The crate's own reader refuses arguments that are not UTF-8.
        let file = self.root().open_relative("cmdline");
        if let Ok(mut file) = file.map(|file| file.take(MAX_COMMAND_BYTES)) {
            // After an error, the part that was read is shown.
            let _ = file.read_to_end(&mut bytes);
        }
        let arguments = bytes.split(|byte| *byte == 0);
        let arguments = arguments.map(|text| String::from_utf8_lossy(text).into_owned());
        let mut arguments: Vec<String> = arguments.collect();
        while arguments.last().is_some_and(String::is_empty) {
            arguments.pop();
        }
        secrets::hide(arguments)
    }
}

/// The longest command line that is read: usually the kernel allows no longer one.
const MAX_COMMAND_BYTES: u64 = 2 << 20;

/// The state of a process, unless it has ended.
fn stat(process: &Process) -> Option<Stat> {
    let stat = process.stat().ok()?;
    (!matches!(stat.state, 'Z' | 'X')).then_some(stat)
}

/// A field of `smaps_rollup`, in bytes.
fn rolled_up(process: &Process, field: &str) -> Result<u64, ProcError> {
    let maps = process.smaps_rollup()?.memory_map_rollup;
    let of_all = maps.iter().filter_map(|map| map.extension.map.get(field));
    Ok(of_all.sum())
}

#[cfg(test)]
pub(super) mod tests;
