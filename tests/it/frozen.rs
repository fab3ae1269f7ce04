//! A thread of the program stands still, as in a debugger or in a call that never returns. All other threads run.
//!
//! It is told from a pause of the whole process, it shows in the health and in the log, and it does not keep the program
//! from ending.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::health::probe;
use crate::program::Program;
use crate::support::eventually;

/// The time between two looks of the tracer.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A thread that stands still until this is dropped. A tracer stops it, as a debugger does.
pub(crate) struct Frozen {
    thaw: Sender<()>,
    tracer: Option<JoinHandle<()>>,
}

impl Frozen {
    /// Stops a thread of the program, by its name.
    pub(crate) fn thread(program: &Program, name: &str) -> Frozen {
        let tid = thread_id(program.child.id(), name);
        let (thaw, thawed) = channel();
        let (tell, told) = channel();
        // A thread is traced by a thread, so it is this one that waits for it.
        let tracer = thread::spawn(move || {
            ptrace::seize(tid, ptrace::Options::empty()).unwrap();
            ptrace::interrupt(tid).unwrap();
            waitpid(tid, Some(WaitPidFlag::__WALL)).unwrap();
            tell.send(()).unwrap();
            // When the program dies, its tracer has to be told so before its parent is.
            while thawed.try_recv() == Err(TryRecvError::Empty) {
                let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
                match waitpid(tid, Some(flags)) {
                    Ok(WaitStatus::StillAlive) => thread::sleep(LOOK_AGAIN),
                    Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => return,
                    Ok(other) => panic!("{other:?}"),
                }
            }
            // It may have died meanwhile.
            let _ = ptrace::detach(tid, None);
        });
        told.recv().unwrap();
        Frozen {
            thaw,
            tracer: Some(tracer),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The tracer may have ended with the program.
        let _ = self.thaw.send(());
        let tracer = self.tracer.take().unwrap();
        assert!(tracer.join().is_ok() || thread::panicking());
    }
}

fn thread_id(process: u32, name: &str) -> Pid {
    let tasks = PathBuf::from(format!("/proc/{process}/task"));
    let mut found = None;
    // A thread gives itself its name when it begins.
    eventually("the thread has its name", || {
        found = fs::read_dir(&tasks).unwrap().find_map(|task| {
            let tid = task.unwrap().file_name().into_string().unwrap();
            let comm = fs::read_to_string(tasks.join(&tid).join("comm")).ok()?;
            (comm.trim() == name).then_some(tid)
        });
        found.is_some()
    });
    Pid::from_raw(found.unwrap().parse().unwrap())
}

/// The program with two workers. Each client lives on the worker that owns its topic.
fn program(sections: &str) -> Program {
    let config = format!(
        "server: {{host: 127.0.0.1, port: 0, workers: 2}}\nmetrics: {{port: 0}}\n{sections}\n"
    );
    Program::spawn(&config, Command::new(env!("CARGO_BIN_EXE_fanwire")))
}

/// The path of a topic of worker 1.
fn path_on_worker_1(program: &Program) -> String {
    for n in 0..100 {
        let path = format!("/{n}");
        let client = program.connect(&path);
        program.await_metric("websocket_connected_clients", 1);
        let is_there = program.metric("fanwire_shard_clients{shard=\"1\"}") > 0.5;
        client.leave();
        program.await_metric("websocket_connected_clients", 0);
        if is_there {
            return path;
        }
    }
    panic!("worker 1 owns no topic");
}

fn live(program: &Program) -> (u16, String) {
    probe(program.metrics, "/livez")
}

#[test]
fn a_worker_that_stands_still_shows_in_the_health_and_clients_of_the_others_are_told_the_end() {
    let mut program = program("shutdown: {timeout: 600s}");
    let path = path_on_worker_1(&program);
    let mut old = program.connect(&path);
    let _frozen = Frozen::thread(&program, "worker-0");
    assert_eq!(live(&program), (200, "ok\n".into()), "it may be busy");
    program.await_log("a worker stands still");
    assert_eq!(live(&program), (503, "frozen\n".into()));
    assert_eq!(probe(program.metrics, "/readyz"), (503, "frozen\n".into()));
    // The worker that runs gets all who come, and serves its topics.
    for _ in 0..6 {
        let mut new = program.connect(&path);
        new.say("hello");
        assert_eq!((new.hear(), old.hear()), ("hello".into(), "hello".into()));
    }
    program.signal(Signal::TERM);
    assert_eq!(old.expect_close().code, CloseCode::Error);
    let (code, log) = program.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("worker 0 stands still"), "{log}");
}

#[test]
fn a_worker_that_runs_again_is_well_again() {
    let mut program = program("");
    let frozen = Frozen::thread(&program, "worker-1");
    program.await_log("a worker stands still");
    drop(frozen);
    program.await_log("the worker runs again");
    assert_eq!(live(&program), (200, "ok\n".into()));
    program.connect("/room").leave();
    program.end_well();
}

#[test]
fn the_timeout_of_the_shutdown_ends_the_program_although_a_worker_stands_still() {
    let program = program("shutdown: {timeout: 1s}");
    let _frozen = Frozen::thread(&program, "worker-0");
    program.signal(Signal::TERM);
    let (code, log) = program.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("worker 0 stands still"), "{log}");
}

#[test]
fn a_second_signal_ends_the_program_although_a_thread_stands_still() {
    for thread in ["worker-0", "metrics", "control"] {
        let mut program = program("shutdown: {timeout: 600s}");
        // Only a client that does not answer keeps the relay from ending at the first signal.
        let _silent = program.join("/room");
        let _frozen = Frozen::thread(&program, thread);
        let mut code = None;
        // Signals of the same kind may become one.
        eventually("a signal ends it", || {
            program.signal(Signal::TERM);
            thread::sleep(Duration::from_millis(300));
            code = program.child.try_wait().unwrap();
            code.is_some()
        });
        let (code, log) = program.end();
        assert_eq!(code, Some(1), "{thread}: {log}");
        assert!(log.contains("stands still"), "{thread}: {log}");
    }
}
