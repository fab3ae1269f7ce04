//! Files with certificates and keys, as an operator sees them: what the program says of them, and what it never shows.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::program::Program;
use crate::support::config;
use crate::tls_support::{Authority, Files, TlsWorld};

/// Runs the program until it ends. Returns the exit code and all that it printed.
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

/// A key as it looks after a bad way to the file, with a word of the message that says so.
fn mangled(key: &str) -> Vec<(String, &'static str)> {
    let cut = &key[..key.len() - 30];
    vec![
        (key.replace('\n', ""), "line breaks are lost"),
        (key.replace('\n', " "), "line breaks are lost"),
        (key.replace('\n', "\\n"), "in place of line breaks"),
        (
            key.replacen('\n', "", 1),
            "malformed BEGIN or END on line 1",
        ),
        (
            key.replace("\n-----END", "-----END"),
            "malformed BEGIN or END on line 4",
        ),
        (cut.to_owned(), "has no END line"),
        (
            key.replace("-----BEGIN PRIVATE KEY-----\n", ""),
            "no BEGIN line stands before it",
        ),
        (key.replacen('M', "é", 1), "not Base64"),
        (
            key.replace("PRIVATE KEY", "SECRET KEY"),
            "no private key in it",
        ),
        (
            key.replace("BEGIN PRIVATE", "BEGIN EC PRIVATE"),
            "another name than it ends with",
        ),
    ]
}

/// Asserts that a text shows no byte of a key: neither its Base64 nor its bytes as numbers.
fn assert_hides(text: &str, key: &str) {
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    for chunk in body.as_bytes().windows(6) {
        let quoted = str::from_utf8(chunk).unwrap();
        assert!(!text.contains(quoted), "{quoted} is shown: {text}");
        let [one, two, three, ..] = chunk else {
            unreachable!()
        };
        let numbers = format!("{one}, {two}, {three}");
        assert!(!text.contains(&numbers), "{numbers} is shown: {text}");
    }
}

#[test]
fn no_byte_of_a_mangled_key_is_shown_at_the_start_by_the_check_or_in_the_log() {
    let issued = Authority::new().issue();
    let files = Files::of(&issued);
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let tls = format!("tls: {{enabled: true, cert_file: {cert:?}, key_file: {key:?}}}");
    let mut program = Program::with_server(&format!(", {tls}"), "");
    fs::write(
        files.path("config.yaml"),
        format!("server: {{port: 0, {tls}}}\n"),
    )
    .unwrap();
    let folder = cert.parent().unwrap();
    for (text, words) in mangled(&issued.key) {
        fs::write(&key, &text).unwrap();
        for arguments in [&["--check"][..], &[]] {
            let (code, printed) = run(folder, arguments);
            assert_eq!(code, Some(2), "{printed}");
            assert!(printed.contains(words), "{words}: {printed}");
            assert_hides(&printed, &issued.key);
        }
        program.signal(Signal::HUP);
        let line = program.await_log("stay in force");
        assert!(line.contains(words), "{words}: {line}");
        assert_hides(&line, &issued.key);
    }
    program.signal(Signal::TERM);
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn no_byte_of_a_key_in_place_of_a_path_or_of_the_configuration_is_shown() {
    let issued = Authority::new().issue();
    let files = Files::of(&issued);
    let (cert, config) = (files.path("cert.pem"), files.path("config.yaml"));
    let folder = cert.parent().unwrap();
    let block = issued.key.replace('\n', "\n      ");
    let body: Vec<&str> = issued
        .key
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    for text in [
        issued.key.clone(),
        body.join("\n"),
        format!(
            "server:\n  tls:\n    enabled: true\n    cert_file: cert.pem\n    key_file: |\n      {block}\n"
        ),
        format!("server:\n  tls:\n    enabled: false\n    key_file: |\n      {block}\n"),
        format!(
            "server:\n  tls:\n    enabled: true\n    cert_file: cert.pem\n    key_file: {}\n",
            body.join("")
        ),
    ] {
        fs::write(&config, &text).unwrap();
        for arguments in [&["--check"][..], &["--print-config"], &[]] {
            let (code, printed) = run(folder, arguments);
            assert_eq!(code, Some(2), "{printed}");
            assert_hides(&printed, &issued.key);
        }
    }
}

#[test]
fn no_byte_of_a_key_that_a_client_takes_for_an_authority_is_shown() {
    let issued = Authority::new().issue();
    let files = Files::of(&issued);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://localhost:{}/", listener.local_addr().unwrap().port());
    let folder = files.path("key.pem").parent().unwrap().to_owned();
    let whole = (issued.key.clone(), "has no certificate in it");
    for (text, _) in mangled(&issued.key).into_iter().chain([whole]) {
        fs::write(files.path("key.pem"), &text).unwrap();
        let (code, printed) = run(&folder, &["client", "--ca", "key.pem", &url]);
        assert_eq!(code, Some(2), "{printed}");
        assert!(
            printed.starts_with("fanwire: --ca: \"key.pem\" "),
            "{printed}"
        );
        assert_hides(&printed, &issued.key);
    }
}

const DAY: Duration = Duration::from_hours(24);

/// Starts the program, and waits until its log warns of a certificate.
fn first_warning(folder: &Path) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let warning = lines.find(|line| line.as_ref().unwrap().contains("server.tls.cert_file"));
    child.kill().unwrap();
    child.wait().unwrap();
    warning.unwrap().unwrap()
}

#[test]
fn a_certificate_near_its_end_is_warned_of_by_the_check_at_the_start_and_after_a_reload() {
    let authority = Authority::new();
    let now = SystemTime::now();
    let ending = authority.issue_between(now - 80 * DAY, now + 10 * DAY);
    let expired = authority.issue_between(now - 90 * DAY, now - 2 * DAY);
    let early = authority.issue_between(now + 2 * DAY, now + 90 * DAY);
    let good = authority.issue_between(now - DAY, now + 90 * DAY);
    let files = Files::of(&good);
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let tls = format!("tls: {{enabled: true, cert_file: {cert:?}, key_file: {key:?}}}");
    fs::write(
        files.path("config.yaml"),
        format!("server: {{host: 127.0.0.1, port: 0, {tls}}}\nmetrics: {{port: 0}}\n"),
    )
    .unwrap();
    let mut program = Program::with_server(&format!(", {tls}"), "");
    for (issued, words) in [
        (&ending, "expires on"),
        (&expired, "expired on"),
        (&early, "is not valid before"),
    ] {
        files.replace(issued);
        let (code, printed) = run(cert.parent().unwrap(), &["--check"]);
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains("the configuration is valid"), "{printed}");
        let warning =
            "config.yaml:1: server.tls.cert_file: the certificate in section 1 (line 1) of ";
        assert!(
            printed.contains(&format!("fanwire: warning: {warning}")) && printed.contains(words),
            "{printed}"
        );
        let line = first_warning(cert.parent().unwrap());
        assert!(
            line.contains("WARN") && line.contains(warning) && line.contains(words),
            "{line}"
        );
        program.signal(Signal::HUP);
        program.await_log("read again");
        let line = program.await_log("needs attention");
        assert!(line.contains("WARN") && line.contains(words), "{line}");
    }
    files.replace(&good);
    let (code, printed) = run(cert.parent().unwrap(), &["--check"]);
    assert_eq!((code, printed.lines().count()), (Some(0), 1), "{printed}");
    program.signal(Signal::HUP);
    program.await_log("read again");
    let log = program.end_well();
    assert!(!log.contains("needs attention"), "{log}");
}

#[test]
fn clients_of_an_expired_authority_get_in_as_its_warning_says() {
    let authority = Authority::until(2020);
    let tls = TlsWorld::prepare(config(1), |config, _, files| {
        fs::write(files.path("ca.pem"), authority.pem()).unwrap();
        config.server.tls.client_ca_file = Some(files.path("ca.pem"));
        let warnings = fanwire::server::check(config).unwrap();
        let is_told = |words: &str| warnings.iter().any(|told| told.to_string().contains(words));
        assert!(is_told("from it still get in"), "{warnings:?}");
    });
    let own = tls.authority.client_with(&authority.issue());
    let mut client = tls.connect_as(&Arc::new(own), "/");
    client.say("hello");
    assert_eq!(client.hear(), "hello");
    client.leave();
    tls.world.end();
}
