//! The start of the program in its own words: its limits, its warnings, and the reason for which it cannot start.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::folder_with;

/// Listens on loopback, on free ports.
const LOOPBACK: &str = "server: {host: 127.0.0.1, port: 0";

/// Starts `command` with this configuration, ends it once it is ready, and returns the log up to then.
fn log_of(config: &str, mut command: Command) -> Vec<String> {
    let folder = folder_with(config);
    let (reader, writer) = io::pipe().unwrap();
    let child = command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    drop(command);
    let ended = Ended(child);
    let mut lines = Vec::new();
    for line in BufReader::new(reader).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().contains("ready") {
            break;
        }
    }
    drop(ended);
    assert!(lines.last().unwrap().contains("ready"), "{lines:?}");
    lines
}

/// A program that is stopped and awaited when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn fanwire() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fanwire"))
}

fn warnings(log: &[String]) -> Vec<&String> {
    log.iter().filter(|line| line.contains("WARN")).collect()
}

#[test]
fn the_ready_line_has_the_words_of_an_operator() {
    let config = format!(
        "{LOOPBACK}, workers: 2}}\nmetrics: {{port: 0}}\nlimits: {{max_buffered_bytes: 64MiB}}\n"
    );
    let log = log_of(&config, fanwire());
    assert_eq!(warnings(&log), Vec::<&String>::new());
    let ready = log.last().unwrap();
    for words in [
        " address=127.0.0.1:",
        " metrics=127.0.0.1:",
        " tls=false",
        " workers=2",
        " memory=",
        " max_buffered_bytes=64 MiB",
        " max_message_bytes=1 MiB",
        " handshake_timeout=10s",
        " policy=disconnect",
        " max_lag_bytes=4 MiB",
        " publish=everyone",
    ] {
        assert!(ready.contains(words), "no {words:?} in {ready}");
    }
}

#[test]
fn half_of_the_memory_is_said_if_nothing_is_configured() {
    let log = log_of(&format!("{LOOPBACK}}}\nmetrics: {{port: 0}}\n"), fanwire());
    let ready = log.last().unwrap();
    assert!(!ready.contains("max_buffered_bytes=0"), "{ready}");
    assert!(ready.contains("max_buffered_bytes="), "{ready}");
}

#[test]
fn workers_that_may_hold_more_than_configured_are_warned_of() {
    let config = format!(
        "{LOOPBACK}, workers: 8}}\nmetrics: {{port: 0}}\nlimits: {{max_buffered_bytes: 16MiB}}\n"
    );
    let log = log_of(&config, fanwire());
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log:?}");
    let told = "the workers may hold more than limits.max_buffered_bytes";
    assert!(warnings[0].contains(told), "{warnings:?}");
    assert!(warnings[0].contains("together=64 MiB"), "{warnings:?}");
}

#[test]
fn more_than_the_memory_of_the_machine_is_warned_of() {
    let config = format!(
        "{LOOPBACK}, workers: 1}}\nmetrics: {{port: 0}}\nlimits: {{max_buffered_bytes: 1024GiB}}\n"
    );
    let log = log_of(&config, fanwire());
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log:?}");
    let told = "slow clients may need more memory than there is";
    assert!(warnings[0].contains(told), "{warnings:?}");
}

#[test]
fn a_relay_that_trusts_every_page_on_every_address_warns_of_it() {
    let open = "server: {host: 0.0.0.0, port: 0, workers: 1";
    let log = log_of(&format!("{open}}}\nmetrics: {{port: 0}}\n"), fanwire());
    let told = "everybody may connect and publish, even any web page";
    assert!(
        warnings(&log).iter().any(|line| line.contains(told)),
        "{log:?}"
    );
    let origins = format!("{open}, allowed_origins: [a.example]}}\nmetrics: {{port: 0}}\n");
    let log = log_of(&origins, fanwire());
    assert_eq!(warnings(&log), Vec::<&String>::new());
}
