//! The program under systemd: what it tells through `NOTIFY_SOCKET`, and the unit file in `deploy/systemd`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::frozen::Frozen;
use crate::program::Program;
use crate::support::PATIENCE;

/// The program with two workers, which notifies this socket.
fn program(socket: impl AsRef<OsStr>, watchdog_micros: Option<&str>) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    command.env("NOTIFY_SOCKET", socket);
    if let Some(micros) = watchdog_micros {
        command.env("WATCHDOG_USEC", micros);
    }
    let config = "server: {host: 127.0.0.1, port: 0, workers: 2}\nmetrics: {port: 0}\n\
                  shutdown: {timeout: 600s}\n";
    Program::spawn(config, command)
}

/// The other end of the link: systemd, as far as the program sees it.
struct Systemd {
    socket: UnixDatagram,
}

impl Systemd {
    fn over(socket: UnixDatagram) -> Systemd {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Systemd { socket }
    }

    /// The next state.
    fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("a state in time");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Waits for this state, and returns those before it.
    fn wait_for(&self, expected: &str) -> Vec<String> {
        let mut others = Vec::new();
        loop {
            let state = self.next();
            if state.starts_with(expected) {
                return others;
            }
            others.push(state);
        }
    }
}

#[test]
fn systemd_is_told_of_the_start_a_reload_the_clients_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = Systemd::over(UnixDatagram::bind(&path).unwrap());
    let program = program(&path, None);
    assert_eq!(systemd.next(), "READY=1");
    systemd.wait_for("STATUS=clients: 0");

    let mut client = program.connect("/room");
    systemd.wait_for("STATUS=clients: 1");

    program.signal(Signal::HUP);
    let reloading = systemd.next();
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let micros: i64 = micros.expect(&reloading).parse().unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    assert!(micros / 1_000_000 <= now.tv_sec && micros > 0, "{micros}");
    assert_eq!(systemd.next(), "READY=1");

    program.signal(Signal::TERM);
    assert_eq!(client.expect_close().code, CloseCode::Away);
    let before = systemd.wait_for("STOPPING=1");
    assert!(!before.contains(&"READY=1".into()), "{before:?}");
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn an_abstract_socket_is_as_good_and_one_that_nobody_reads_delays_nobody() {
    let name = format!("fanwire-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let systemd = Systemd::over(UnixDatagram::bind_addr(&address).unwrap());
    let mut program = program(format!("@{name}"), None);
    // More states than the socket holds.
    for _ in 0..50 {
        program.signal(Signal::HUP);
        program.await_log("SIGHUP");
    }
    let mut client = program.connect("/room");
    client.say("hello");
    assert_eq!(client.hear(), "hello");
    client.leave();
    assert_eq!(systemd.next(), "READY=1");
    program.end_well();
}

#[test]
fn the_watchdog_is_fed_until_a_worker_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = Systemd::over(UnixDatagram::bind(&path).unwrap());
    let program = program(&path, Some("30000000"));
    for _ in 0..3 {
        systemd.wait_for("WATCHDOG=1");
    }
    let _frozen = Frozen::thread(&program, "worker-1");
    // One may be on its way. Another is for a turn just before.
    let fed = systemd.wait_for("STATUS=worker 1 stands still");
    let fed = fed.iter().filter(|state| *state == "WATCHDOG=1").count();
    assert!(fed <= 2, "fed {fed} times");
    program.signal(Signal::TERM);
    assert_eq!(program.end().0, Some(1));
}

// The unit

/// The output of `systemd-analyze` for the unit, with the program of this build. `None` if systemd is not installed.
fn analyze(arguments: &[&str]) -> Option<String> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/fanwire.service");
    let unit = fs::read_to_string(unit).unwrap();
    let installed = "ExecStart=/usr/local/bin/fanwire";
    assert!(unit.contains(installed));
    let built = format!("ExecStart={}", env!("CARGO_BIN_EXE_fanwire"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fanwire.service");
    fs::write(&path, unit.replace(installed, &built)).unwrap();
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(&path)
        .output();
    match output {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8(text).unwrap();
            assert!(output.status.success(), "{text}");
            Some(text)
        }
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && std::env::var_os("CI").is_none() =>
        {
            let _ = writeln!(io::stderr(), "skipped: systemd-analyze is not installed");
            None
        }
        Err(error) => panic!("systemd-analyze (Debian's package systemd): {error}"),
    }
}

#[test]
fn systemd_finds_nothing_to_complain_of_in_the_unit() {
    if let Some(complaints) = analyze(&["verify"]) {
        assert_eq!(complaints, "");
    }
}

#[test]
fn the_unit_exposes_little() {
    // Tenths of systemd's scale, on which 100 is no protection at all.
    analyze(&["security", "--offline=true", "--threshold=20"]);
}
