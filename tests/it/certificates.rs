//! Files with certificates and keys, as an operator sees them: what the program says of them, and what it never shows.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::program::Program;
use crate::tls_support::{Authority, Files};

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
