//! The program and its signals: how it is asked to end, how it does, and what it survives.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{Client, eventually};
use crate::wire::Wire;

/// The program, running. Killed when the test forgets it.
struct Program {
    child: Child,
    address: SocketAddr,
    log: BufReader<ChildStderr>,
    _folder: TempDir,
}

impl Program {
    /// Starts it, and waits until it says that it is ready. `shutdown_timeout` is spelled as in the configuration.
    fn start(shutdown_timeout: &str) -> Program {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "server: {{host: 127.0.0.1, port: 0, workers: 2}}\nmetrics: {{port: 0}}\n\
             shutdown: {{timeout: {shutdown_timeout}}}\n"
        );
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanwire"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = ready_address(&mut log);
        Program {
            child,
            address,
            log,
            _folder: folder,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line of the log that contains `text`.
    fn await_log(&mut self, text: &str) {
        await_line(&mut self.log, text);
    }

    /// Waits for the end, and returns the exit code and what was still logged.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn await_line(log: &mut impl BufRead, text: &str) -> String {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(
            log.read_line(&mut line).unwrap() > 0,
            "no {text:?} was logged"
        );
    }
    line
}

/// The address in the line that says that the relay is ready.
fn ready_address(log: &mut impl BufRead) -> SocketAddr {
    let line = await_line(log, "ready");
    let field = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("address="));
    field
        .unwrap_or_else(|| panic!("no address in {line:?}"))
        .parse()
        .unwrap()
}

fn a_signal_ends_the_program_in_order(signal: Signal) {
    let program = Program::start("600s");
    let mut clients = [(); 5].map(|()| Client::connect(program.address, "/room"));
    clients[0].say("hello");
    for client in &mut clients {
        assert_eq!(client.hear(), "hello");
    }
    program.signal(signal);
    for client in &mut clients {
        assert_eq!(client.expect_close().code, CloseCode::Away);
    }
    let (code, log) = program.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn sigint_tells_everybody_1001_and_ends_with_status_0() {
    a_signal_ends_the_program_in_order(Signal::INT);
}

#[test]
fn sigterm_tells_everybody_1001_and_ends_with_status_0() {
    a_signal_ends_the_program_in_order(Signal::TERM);
}

#[test]
fn a_second_signal_waits_for_nobody_and_the_status_is_still_0() {
    let program = Program::start("600s");
    let mut silent = Wire::over(std::net::TcpStream::connect(program.address).unwrap());
    silent.upgrade("/room");
    program.signal(Signal::TERM);
    assert_eq!(silent.close().0, 1001);
    program.signal(Signal::INT);
    assert_eq!(program.end().0, Some(0));
    silent.expect_cut();
}

#[test]
fn a_client_that_never_answers_is_waited_for_no_longer_than_the_timeout() {
    let program = Program::start("300ms");
    let mut silent = Wire::over(std::net::TcpStream::connect(program.address).unwrap());
    silent.upgrade("/room");
    program.signal(Signal::TERM);
    assert_eq!(silent.close().0, 1001);
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn sighup_and_sigpipe_are_survived() {
    let mut program = Program::start("600s");
    let mut client = Client::connect(program.address, "/room");
    program.signal(Signal::PIPE);
    program.signal(Signal::HUP);
    program.await_log("SIGHUP");
    client.say("still here");
    assert_eq!(client.hear(), "still here");
    program.signal(Signal::TERM);
    assert_eq!(client.expect_close().code, CloseCode::Away);
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn the_program_goes_on_when_the_reader_of_its_log_is_gone() {
    let mut program = Program::start("600s");
    let (reader, _) = std::io::pipe().unwrap();
    // The last reader of the log is closed.
    drop(std::mem::replace(
        &mut program.log,
        BufReader::new(ChildStderr::from(std::os::fd::OwnedFd::from(reader))),
    ));
    let mut client = Client::connect(program.address, "/room");
    program.signal(Signal::HUP);
    client.say("still here");
    assert_eq!(client.hear(), "still here");
    program.signal(Signal::TERM);
    assert_eq!(client.expect_close().code, CloseCode::Away);
    let mut code = None;
    eventually("the program has ended", || {
        code = program.child.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0));
}

#[test]
fn the_log_is_json_where_the_configuration_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = "server: {host: 127.0.0.1, port: 0}\nmetrics: {port: 0}\nlog: {format: json}\n";
    fs::write(folder.path().join("config.yaml"), config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let ready: serde_json::Value = serde_json::from_str(&await_line(&mut log, "ready")).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(ready["level"], "INFO");
    let address: SocketAddr = ready["fields"]["address"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_ne!(address.port(), 0);
    for line in rest.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}
