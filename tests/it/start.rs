//! The start of the program in its own words: its limits, its warnings, and the reason for which it cannot start.

use std::io::{self, BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{failed_start, folder_with};

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
    let told = |name: &str| -> f64 {
        let (_, value) = ready.split_once(&format!(" {name}=")).unwrap();
        let mut words = value.split(' ');
        let number: f64 = words.next().unwrap().parse().unwrap();
        match words.next().unwrap() {
            "MiB" => number,
            "GiB" => number * 1024.0,
            unit => panic!("{unit} in {ready}"),
        }
    };
    // Both are rounded to a tenth of their unit, and the half to whole MiB.
    let half = (told("memory") / 2.0).min(1024.0);
    let derived = told("max_buffered_bytes");
    assert!(
        (derived - half).abs() <= 0.05 * 1024.0 + 1.0,
        "{half} in {ready}"
    );
}

#[test]
fn the_check_prints_every_warning_that_a_start_logs() {
    let metrics = "metrics: {port: 0}\n";
    for (config, words) in [
        (
            format!("{LOOPBACK}, workers: 8}}\n{metrics}limits: {{max_buffered_bytes: 16MiB}}\n"),
            "server.workers: 8 workers may hold",
        ),
        (
            format!("{LOOPBACK}, workers: 1}}\n{metrics}limits: {{max_buffered_bytes: 1024GiB}}\n"),
            "limits.max_buffered_bytes: slow clients",
        ),
        (
            format!("server: {{port: 0, workers: 1}}\n{metrics}"),
            "the default of server.host: everybody may",
        ),
        (
            format!("{LOOPBACK}, workers: 1, allowed_origins: [anyone]}}\n{metrics}"),
            "server.allowed_origins[0]: `anyone`",
        ),
    ] {
        let folder = folder_with(&config);
        let checked = fanwire()
            .arg("--check")
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(checked.status.code(), Some(0));
        let printed = String::from_utf8(checked.stderr).unwrap();
        let log = log_of(&config, fanwire());
        let logged = warnings(&log);
        assert!(printed.contains(words), "{words}: {printed}");
        assert_eq!(printed.lines().count(), logged.len(), "{printed}: {log:?}");
        for (printed, logged) in printed.lines().zip(logged) {
            let warning = printed.strip_prefix("fanwire: warning: ").unwrap();
            assert!(logged.ends_with(warning), "{warning}: {logged}");
        }
    }
}

#[test]
fn workers_that_may_hold_more_than_configured_are_warned_of() {
    let config = format!(
        "{LOOPBACK}, workers: 8}}\nmetrics: {{port: 0}}\nlimits: {{max_buffered_bytes: 16MiB}}\n"
    );
    let log = log_of(&config, fanwire());
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log:?}");
    let told = "config.yaml:1: server.workers: 8 workers may hold 64 MiB together, more than limits.max_buffered_bytes (16 MiB)";
    assert!(warnings[0].contains(told), "{warnings:?}");
}

#[test]
fn more_than_the_memory_of_the_machine_is_warned_of() {
    let config = format!(
        "{LOOPBACK}, workers: 1}}\nmetrics: {{port: 0}}\nlimits: {{max_buffered_bytes: 1024GiB}}\n"
    );
    let log = log_of(&config, fanwire());
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log:?}");
    let told =
        "config.yaml:3: limits.max_buffered_bytes: slow clients may need 1 TiB, but there are ";
    assert!(warnings[0].contains(told), "{warnings:?}");
}

#[test]
fn a_relay_that_trusts_every_page_on_every_address_warns_of_it() {
    let open = "server: {host: 0.0.0.0, port: 0, workers: 1";
    let log = log_of(&format!("{open}}}\nmetrics: {{port: 0}}\n"), fanwire());
    let told = "config.yaml:1: server.host: everybody may connect and publish, even any web page";
    assert!(
        warnings(&log).iter().any(|line| line.contains(told)),
        "{log:?}"
    );
    let origins = format!("{open}, allowed_origins: [a.example]}}\nmetrics: {{port: 0}}\n");
    let log = log_of(&origins, fanwire());
    assert_eq!(warnings(&log), Vec::<&String>::new());
}

/// The lines of a start that fails, each of which must be JSON. The last is the error.
fn failed_in_json(config: &str, variables: &[(&str, &str)], args: &[&str]) -> Vec<Value> {
    let mut command = fanwire();
    command.envs(variables.iter().copied()).args(args);
    let (code, log) = failed_start(config, command);
    assert!(code.is_some_and(|code| code != 0), "{log}");
    let lines = log.lines().map(|line| {
        let parsed = serde_json::from_str(line);
        parsed.unwrap_or_else(|_| panic!("no JSON: {line}"))
    });
    let lines: Vec<Value> = lines.collect();
    assert_eq!(lines.last().unwrap()["level"], "ERROR", "{log}");
    lines
}

fn message(line: &Value) -> &str {
    line["fields"]["message"].as_str().unwrap()
}

#[test]
fn a_wrong_configuration_is_refused_in_json_wherever_the_format_comes_from() {
    let variable = ("FANWIRE__LOG__FORMAT", "json");
    let unknown = "server.prt: unknown key; did you mean `port`?";
    for (config, variables, args, start) in [
        (
            "log: {format: json}\nserver: {prt: 1}\n",
            &[][..],
            &[][..],
            format!("config.yaml:2: {unknown}"),
        ),
        (
            "server: {prt: 1}\n",
            &[variable],
            &[],
            format!("config.yaml:1: {unknown}"),
        ),
        (
            "server: {prt: 1}\n",
            &[],
            &["--set", "log.format=json"],
            format!("config.yaml:1: {unknown}"),
        ),
        (
            "server: {\nlog:\n  format: json\n",
            &[],
            &[],
            "config.yaml:".to_owned(),
        ),
        (
            "log: {format: json}\n",
            &[("FANWIRE__SERVER__PORT", "x")],
            &[],
            "FANWIRE__SERVER__PORT: server.port: found string".to_owned(),
        ),
        (
            "log: {format: json}\nserver: {tls: {enabled: true}}\n",
            &[],
            &[],
            "config.yaml".to_owned(),
        ),
        (
            "log: {format: json}\n",
            &[],
            &["--nonsense"],
            "error: unexpected argument '--nonsense'".to_owned(),
        ),
        (
            "",
            &[variable],
            &["--config-file", "absent.yaml"],
            "absent.yaml: cannot be read".to_owned(),
        ),
    ] {
        let lines = failed_in_json(config, variables, args);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(message(&lines[0]).starts_with(&start), "{lines:?}");
    }
}

#[test]
fn an_address_in_use_is_the_last_line_in_both_formats() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = format!(
        "server: {{host: 127.0.0.1, port: {port}}}\nmetrics: {{port: 0}}\nlog: {{format: json}}\n"
    );
    let lines = failed_in_json(&config, &[], &[]);
    assert_eq!(message(&lines[0]), "configuration loaded");
    let start = format!("config.yaml:1: server.port: {port}: the port is in use");
    assert!(
        message(lines.last().unwrap()).starts_with(&start),
        "{lines:?}"
    );

    let mut in_text = fanwire();
    in_text.args(["--set", "log.format=text"]);
    let (_, log) = failed_start(&config, in_text);
    let last = log.lines().last().unwrap();
    assert!(last.starts_with(&format!("fanwire: {start}")), "{log}");
}

#[test]
fn the_answer_to_a_flag_is_for_people_whatever_the_format_of_the_log() {
    for flag in ["--check", "--print-config"] {
        let mut command = fanwire();
        command.arg(flag);
        let (code, log) = failed_start("log: {format: json}\nserver: {prt: 1}\n", command);
        assert_eq!(code, Some(2));
        assert!(
            log.starts_with("fanwire: config.yaml:2: server.prt"),
            "{log}"
        );
    }
}
