//! Tests with processes of their own.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::*;

/// A process and one that it has started. Both end with this value.
pub(crate) struct Family(Child);

impl Family {
    /// Starts both, and waits until they are there.
    pub(crate) fn start() -> (Family, Processes) {
        let mut parent = Command::new("sh");
        let parent = parent.args(["-c", "sleep 600 & wait"]).process_group(0);
        let family = Family(parent.spawn().unwrap());
        let mut processes = Processes::of(family.0.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Until the child is another program, it shares all with its parent.
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

/// The memory of all if shared pages count for each. [`Processes::resident`] is too inexact for such small processes.
pub(crate) fn apart(processes: &Processes) -> u64 {
    let bytes = |process: &Process| rolled_up(process, "Rss").ok();
    processes.all.iter().filter_map(bytes).sum()
}

fn has_grown_up(processes: &Processes) -> bool {
    let child = processes.all.get(1);
    let name = child.and_then(|child| Some(child.stat().ok()?.comm));
    name.is_some_and(|name| name == "sleep")
}

fn has(processes: &Processes, child: &Child) -> bool {
    let mut pids = processes.all.iter().map(Process::pid);
    pids.any(|pid| i64::from(pid) == i64::from(child.id()))
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
    let mut ending = Command::new("sleep").arg("600").spawn().unwrap();
    let ended = Processes::of(ending.id()).unwrap();
    ending.kill().unwrap();
    ending.wait().unwrap();
    processes.all.extend(ended.all);
    // The C library at least is shared.
    let exactly = processes.resident_exactly();
    assert!(exactly > 0 && exactly < apart(&processes), "{exactly}");
}

#[test]
fn the_own_process_and_its_child_are_seen() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let mut processes = Processes::of(std::process::id()).unwrap();
    assert!(has(&processes, &child));
    assert!(processes.resident() > 1 << 20);
    assert!(processes.resident_exactly() > 1 << 20);
    assert!(!processes.command().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    processes.look_for_children();
    assert!(!has(&processes, &child));
    assert!(processes.is_alive());
}

#[test]
fn a_process_that_has_ended_is_refused_before_anybody_has_waited_for_it_too() {
    let mut child = Command::new("sh").args(["-c", "exit 0"]).spawn().unwrap();
    let pid = child.id();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Processes::of(pid).is_ok() {
        assert!(Instant::now() < deadline, "{pid} does not end");
        thread::sleep(Duration::from_millis(1));
    }
    child.wait().unwrap();
    assert!(Processes::of(pid).unwrap_err().contains("no such process"));
}

#[test]
fn a_name_with_parentheses_does_not_confuse() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("a) S (b) S 3");
    std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    let mut child = Command::new(&program).arg("600").spawn().unwrap();
    let processes = Processes::of(child.id()).unwrap();
    let parent = stat(processes.root()).unwrap().ppid;
    let name = processes.name();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(i64::from(parent), i64::from(std::process::id()));
    assert_eq!(name, "a) S (b) S 3");
}

#[test]
fn arguments_are_shown_even_if_they_are_not_text_but_secrets_are_not() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut child = Command::new("sh")
        .args(["-c", "sleep 600 & wait"])
        .arg(OsStr::from_bytes(b"\xff"))
        .args(["--token", "hunter2"])
        .process_group(0)
        .spawn()
        .unwrap();
    let processes = Processes::of(child.id()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut command = processes.command();
    // Until it is another program, its arguments are ours.
    while !command.contains(&"\u{fffd}".to_owned()) {
        assert!(Instant::now() < deadline, "{command:?}");
        thread::sleep(Duration::from_millis(1));
        command = processes.command();
    }
    kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    let shown: Vec<&str> = command.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(shown, ["…", "--token"]);
}
