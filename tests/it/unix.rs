//! The Unix socket beside the TCP port: the same relay, and the lifetime of the socket file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fanwire::config::Config;
use fanwire::server::{Relay, StartError, Stat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{World, config};
use crate::wire::{CLOSE, FIN, TEXT, Wire, close_body, frame};

/// A configuration with a Unix socket in a new folder.
fn with_socket() -> (Config, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.sock");
    let mut config = config(2);
    config.server.unix_socket = Some(path.clone());
    (config, folder, path)
}

fn dial(path: &Path) -> Wire {
    Wire::over_unix(UnixStream::connect(path).unwrap())
}

fn join(path: &Path, topic: &str) -> Wire {
    let mut wire = dial(path);
    wire.upgrade(topic);
    wire
}

fn refusal(config: &Config) -> String {
    let refusal = Relay::start(config).expect_err("must not start");
    let line = refusal.to_string();
    assert!(
        line.starts_with("server.unix_socket: \"") && !line.contains('\n'),
        "{line}"
    );
    line
}

#[test]
fn clients_of_both_sockets_share_a_topic() {
    let (config, _folder, path) = with_socket();
    let world = World::with(&config);
    assert_eq!(world.relay.unix_socket(), Some(&*path));
    let mut near = join(&path, "/room");
    let mut far = world.connect("/room");
    near.send(frame(FIN | TEXT, b"near"));
    assert_eq!(far.hear(), "near");
    assert_eq!(near.hear(), "near");
    // More than the buffers of a Unix socket hold.
    let long = "x".repeat(1 << 20);
    far.say(long.clone());
    assert_eq!(near.hear(), long);
    near.send(frame(FIN | CLOSE, &close_body(1000, "")));
    assert_eq!(near.close().0, 1000);
    near.expect_end();
    drop((near, far));
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedByClient), 1);
    assert!(!path.exists());
}

#[test]
fn more_clients_than_one_round_of_accepts_are_all_served() {
    let (config, _folder, path) = with_socket();
    let world = World::with(&config);
    let crowd: Vec<Wire> = (0..200).map(|_| dial(&path)).collect();
    for mut wire in crowd {
        wire.upgrade("/room");
    }
    world.await_total(Stat::Connections, 200);
    world.end();
}

#[test]
fn the_limit_on_connections_counts_both_sockets_but_the_limit_per_address_only_tcp() {
    let (mut config, _folder, path) = with_socket();
    config.server.max_connections = 4;
    config.server.max_connections_per_ip = 1;
    let world = World::with(&config);
    let near: Vec<Wire> = (0..3).map(|_| join(&path, "/room")).collect();
    let far = world.join("/room");
    let mut surplus = dial(&path);
    assert_eq!(surplus.answer().status, 503);
    surplus.expect_end();
    drop((near, far));
    let stats = world.end();
    assert_eq!(stats.value(Stat::HandshakeCapacity), 1);
    assert_eq!(stats.value(Stat::HandshakePerIp), 0);
}

#[test]
fn the_file_has_the_configured_mode() {
    let (mut config, _folder, path) = with_socket();
    let mode = || fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
    let world = World::with(&config);
    assert_eq!(mode(), 0o660);
    world.end();
    config.server.unix_socket_mode = 0o606;
    let world = World::with(&config);
    assert_eq!(mode(), 0o606);
    world.end();
}

#[test]
fn a_file_that_an_earlier_run_left_is_replaced() {
    let (config, _folder, path) = with_socket();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let world = World::with(&config);
    drop(join(&path, "/room"));
    world.end();
}

#[test]
fn a_second_relay_is_refused_and_the_first_is_unharmed() {
    let (config, _folder, path) = with_socket();
    let world = World::with(&config);
    let line = refusal(&config);
    assert!(
        line.contains("another process listens there; stop it"),
        "{line}"
    );
    drop(join(&path, "/room"));
    world.end();
}

#[test]
fn a_file_that_is_not_a_socket_is_refused_and_unharmed() {
    let (config, _folder, path) = with_socket();
    fs::write(&path, "precious").unwrap();
    let line = refusal(&config);
    assert!(
        line.contains("the file there is not a socket; remove it"),
        "{line}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_missing_folder_is_named() {
    let (mut config, folder, _) = with_socket();
    config.server.unix_socket = Some(folder.path().join("absent/relay.sock"));
    let line = refusal(&config);
    assert!(
        line.contains("absent/relay.sock\": cannot listen there (No such file"),
        "{line}"
    );
}

#[test]
fn a_start_that_fails_later_leaves_no_file() {
    let (mut config, _folder, path) = with_socket();
    // An address for documentation (RFC 5737), which no machine has.
    config.metrics.host = "192.0.2.1".into();
    Relay::start(&config).expect_err("the address is not of this machine");
    assert!(!path.exists());
}

#[test]
fn the_file_is_removed_when_the_shutdown_begins_and_clients_are_still_served() {
    let (mut config, _folder, path) = with_socket();
    config.shutdown.timeout = std::time::Duration::from_mins(10);
    let world = World::with(&config);
    let mut client = join(&path, "/room");
    world.relay.shutdown();
    assert_eq!(client.close().0, u16::from(CloseCode::Away));
    // The relay is waiting for the answer to its Close.
    assert!(!path.exists());
    client.send(frame(FIN | CLOSE, &close_body(1001, "")));
    client.expect_end();
    drop(client);
    world.join_ended();
}

// The program

/// Starts the program with a Unix socket at `path`.
fn program(folder: &Path, path: &Path) -> Command {
    let config = format!(
        "server: {{host: 127.0.0.1, port: 0, unix_socket: {}}}\nmetrics: {{port: 0}}\n",
        path.display()
    );
    fs::write(folder.join("config.yaml"), config).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    program
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    program
}

#[test]
fn the_program_logs_its_socket_and_removes_it() {
    let (_, folder, path) = with_socket();
    let mut child = program(folder.path(), Path::new("relay.sock"))
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it is never ready");
    }
    assert!(line.contains("unix_socket=relay.sock"), "{line}");
    drop(join(&path, "/room"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn the_program_refuses_a_path_in_use_with_one_line_and_status_1() {
    let (_, folder, path) = with_socket();
    let _listener = UnixListener::bind(&path).unwrap();
    let output = program(folder.path(), &path).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.starts_with("fanwire: "))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("server.unix_socket: ") && lines[0].contains("listens there"),
        "{log}"
    );
    assert!(path.exists());
}

#[test]
fn a_group_that_the_machine_does_not_have_is_named_with_its_key() {
    let (mut config, _folder, _path) = with_socket();
    config.server.unix_socket_group = Some("no-such-group-here".into());
    let error = fanwire::server::check(&config).unwrap_err().to_string();
    assert_eq!(
        error,
        "configuration: server.unix_socket_group: this machine has no group `no-such-group-here`; \
         use the name or the number of a group, such as www-data"
    );
    let error = Relay::start(&config).unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error}");
}
