//! `fanwire --health`: the answer and the exit code of a check of a running relay.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::program::{Program, folder_with};

/// Runs `fanwire --health` with more `args`. Returns the exit code, and what it prints on either output.
fn health(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    let output: Output = command
        .current_dir(folder)
        .arg("--health")
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_relay_is_healthy_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let server = format!(", unix_socket: {}, health_path: /healthz", socket.display());
    let program = Program::with_server(&server, "");
    let address = program.address;
    let metrics = program.metrics;
    let ask = |url: &str| health(folder.path(), &[url]);
    assert_eq!(
        ask(&format!("http://{metrics}/livez")),
        (Some(0), "ok\n".into())
    );
    assert_eq!(
        ask(&format!("http://{metrics}/readyz")),
        (Some(0), "ready\n".into())
    );
    assert_eq!(
        ask(&format!("http://{address}/healthz")),
        (Some(0), "ready\n".into())
    );
    let unix = format!("unix:{}:/healthz", socket.display());
    assert_eq!(ask(&unix), (Some(0), "ready\n".into()));
    let config = format!("metrics: {{port: {}}}\n", metrics.port());
    let here = folder_with(config);
    assert_eq!(health(here.path(), &[]), (Some(0), "ok\n".into()));
    let (code, text) = ask(&format!("http://{address}/"));
    assert_eq!(code, Some(1));
    assert!(
        text.starts_with(&format!("fanwire: http://{address}/: 426 ")),
        "{text}"
    );
    program.end_well();
    let (code, text) = health(here.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/livez: "), "{text}");
}

#[test]
fn a_server_that_says_nothing_is_not_healthy_and_is_not_waited_for() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/livez", mute.local_addr().unwrap());
    let (code, text) = health(Path::new("/"), &[&url]);
    assert_eq!(code, Some(1));
    assert_eq!(text, format!("fanwire: {url}: no answer within 3s\n"));
}

#[test]
fn a_mistake_is_said_and_has_the_code_that_docker_allows() {
    for (config, args, expected) in [
        ("", &["https://a/"][..], "does not speak TLS"),
        ("", &["a"], "the URL must be like"),
        ("metrics: {enabled: false}\n", &[], "no port to ask"),
        (
            "metrics: {enable: false}\n",
            &[],
            "metrics.enable: unknown key",
        ),
    ] {
        let (code, text) = health(folder_with(config).path(), args);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains(expected) && text.lines().count() == 1,
            "{text}"
        );
    }
}
