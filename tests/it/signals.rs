//! The program and its signals: those that end it, and those that it survives.

use std::io::{BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::program::{Program, await_line, folder_with};

fn a_signal_ends_the_program_in_order(signal: Signal) {
    let program = Program::with("shutdown: {timeout: 600s}");
    let mut clients = [(); 5].map(|()| program.connect("/room"));
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
fn sigint_closes_all_clients_with_1001_and_ends_with_status_0() {
    a_signal_ends_the_program_in_order(Signal::INT);
}

#[test]
fn sigterm_closes_all_clients_with_1001_and_ends_with_status_0() {
    a_signal_ends_the_program_in_order(Signal::TERM);
}

#[test]
fn a_second_signal_waits_for_nobody_and_the_status_is_still_0() {
    let program = Program::with("shutdown: {timeout: 600s}");
    let mut silent = program.join("/room");
    program.signal(Signal::TERM);
    assert_eq!(silent.close().0, 1001);
    program.signal(Signal::INT);
    assert_eq!(program.end().0, Some(0));
    silent.expect_cut();
}

#[test]
fn a_client_that_never_answers_delays_the_end_only_until_the_timeout() {
    let program = Program::with("shutdown: {timeout: 300ms}");
    let mut silent = program.join("/room");
    program.signal(Signal::TERM);
    assert_eq!(silent.close().0, 1001);
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn sighup_and_sigpipe_are_survived() {
    let mut program = Program::with("shutdown: {timeout: 600s}");
    let mut client = program.connect("/room");
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
fn the_program_continues_when_the_reader_of_its_log_is_gone() {
    let mut program = Program::with("shutdown: {timeout: 600s}");
    let (reader, _) = std::io::pipe().unwrap();
    // The last reader of the log closes.
    drop(std::mem::replace(&mut program.log, BufReader::new(reader)));
    let mut client = program.connect("/room");
    program.signal(Signal::HUP);
    client.say("still here");
    assert_eq!(client.hear(), "still here");
    program.signal(Signal::TERM);
    assert_eq!(client.expect_close().code, CloseCode::Away);
    assert_eq!(program.await_exit().code(), Some(0));
}

#[test]
fn the_log_is_json_if_configured() {
    let folder = folder_with(
        "server: {host: 127.0.0.1, port: 0}\nmetrics: {port: 0}\nlog: {format: json}\n",
    );
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
