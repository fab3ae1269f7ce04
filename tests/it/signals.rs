//! The program and its signals: those that end it, and those that it survives.

use std::fs;
use std::io::{BufReader, PipeReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use rustix::process::{Pid, Signal, kill_process};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::program::{Program, await_line, folder_with};
use crate::support::{Client, eventually};

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
fn the_line_of_a_shutdown_says_over_which_time_clients_are_closed() {
    let spread = [
        ("", "shutting down: ", false),
        ("spread: 2s", "shutting down: ", true),
        ("spread: 2s, delay: 1ms", "the delay is over", true),
    ];
    for (keys, line, is_said) in spread {
        let log = Program::with(&format!("shutdown: {{{keys}}}")).end_well();
        let line = log.lines().find(|text| text.contains(line)).expect(&log);
        assert_eq!(line.contains("spread=2s"), is_said, "{line}");
        assert_eq!(line.contains("spread"), is_said, "{line}");
    }
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
fn signals_that_mean_nothing_to_the_program_do_not_end_it() {
    let mut program = Program::with("");
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        program.signal(signal);
        let line = program.await_log("the signal is ignored");
        assert!(line.contains(name), "{line}");
    }
    program.connect("/room").leave();
    program.end_well();
}

#[test]
fn a_log_at_the_limit_of_its_file_does_not_end_the_program() {
    let folder = folder_with("server: {host: 127.0.0.1, port: 0}\nmetrics: {port: 0}\n");
    let log = folder.path().join("log");
    let mut child = Command::new("sh")
        // One block, of 512 or 1024 bytes. The lines until the relay is ready are longer.
        .args(["-c", "ulimit -f 1 && exec \"$0\" 2>log"])
        .arg(env!("CARGO_BIN_EXE_fanwire"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Enough lines to reach the limit in any case. The first may come before the program listens to signals.
    let is_full = || fs::metadata(&log).unwrap().len() >= 512;
    eventually("the log is full", || {
        if fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("ready")
        {
            kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
        }
        log.exists() && is_full()
    });
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(10));
        kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(fs::metadata(&log).unwrap().len() <= 1024);
}

#[test]
fn a_terminal_that_closes_does_not_end_the_program() {
    let folder = folder_with("server: {host: 127.0.0.1, port: 0}\nmetrics: {port: 0}\n");
    let terminal = openpty(None, None).unwrap();
    let stream = || Stdio::from(terminal.slave.try_clone().unwrap());
    // The program leads the session of this terminal, as from a shell that it replaced.
    let mut child = Command::new("setsid")
        .args(["--ctty", env!("CARGO_BIN_EXE_fanwire")])
        .current_dir(folder.path())
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .unwrap();
    drop(terminal.slave);
    let mut screen = BufReader::new(PipeReader::from(terminal.master));
    let ready = await_line(&mut screen, "ready");
    let plain = ready.replace(|c: char| c.is_control(), " ");
    let address = plain.split("127.0.0.1:").nth(1).unwrap();
    let port = address.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap()));
    let mut client = Client::connect(address, "/room");
    // The kernel sends SIGHUP, and the log has nowhere to go.
    drop(screen);
    client.say("still here");
    assert_eq!(client.hear(), "still here");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(client.expect_close().code, CloseCode::Away);
    assert_eq!(child.wait().unwrap().code(), Some(0));
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
