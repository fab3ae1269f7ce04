//! Processes that a test starts, and what is seen of them.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::*;

/// A process and one that it has started, which end with this value.
pub(crate) struct Family(Child);

impl Family {
    /// Both are there.
    pub(crate) fn start() -> (Family, Processes) {
        let mut parent = Command::new("sh");
        let parent = parent.args(["-c", "sleep 600 & wait"]).process_group(0);
        let family = Family(parent.spawn().unwrap());
        let mut processes = Processes::of(family.0.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Until the child is another program, it is all shared with its parent.
        while !has_grown_up(&processes) {
            assert!(Instant::now() < deadline, "{processes:?}");
            thread::sleep(Duration::from_millis(1));
            processes.look_for_children();
        }
        (family, processes)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

/// What they hold if shared pages are counted for each. What [`Processes::resident`] says may be off by all that so small
/// ones hold.
pub(crate) fn apart(processes: &Processes) -> u64 {
    let bytes = |pid: &u32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        Some(kib_of(&rollup, "Rss:")? << 10)
    };
    processes.pids.iter().filter_map(bytes).sum()
}

fn has_grown_up(processes: &Processes) -> bool {
    let child = processes.pids.get(1);
    let name = child.map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")));
    name.is_some_and(|name| name.is_ok_and(|name| name.trim() == "sleep"))
}

impl Drop for Family {
    fn drop(&mut self) {
        kill_process_group(Pid::from_child(&self.0), Signal::KILL).unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn memory_that_processes_share_counts_once_though_one_of_them_has_ended() {
    let (_family, mut processes) = Family::start();
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    processes.pids.push(ended.id());
    // The C library at least is shared.
    let exactly = processes.resident_exactly();
    assert!(exactly > 0 && exactly < apart(&processes), "{exactly}");
}

#[test]
fn the_own_process_and_its_child_are_seen() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let mut processes = Processes::of(std::process::id()).unwrap();
    assert!(processes.pids.contains(&child.id()));
    assert!(processes.resident() > 1 << 20);
    assert!(processes.resident_exactly() > 1 << 20);
    assert!(!processes.command().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    processes.look_for_children();
    assert!(!processes.pids.contains(&child.id()));
    assert!(processes.is_alive());
}

#[test]
fn a_name_with_parentheses_does_not_confuse() {
    let stat = parse_stat("7 (a) S (b) S 3 7 7 0 -1 0 0 0 0 0 10 20 1 2 20 0").unwrap();
    assert_eq!((stat.parent, stat.user, stat.system), (3, 11, 22));
    assert_eq!(
        parse_stat("7 (a) Z 3 7 7 0 -1 0 0 0 0 0 10 20 1 2 20 0"),
        None
    );
}
