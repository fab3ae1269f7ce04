//! Configurations that nobody would write by mistake. The program refuses each with one line that names the key or the
//! place, with status 2, without a panic, and in little memory.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::folder_with;

/// The memory that the program may allocate while it reads its configuration, in KiB for `ulimit`. With more it aborts,
/// which is not status 2.
const MEMORY_KIB: u32 = 128 << 10;

/// Every key whose value is a number, a size or a duration.
const NUMBERS: [(&str, &str); 14] = [
    ("server", "port"),
    ("server", "workers"),
    ("server", "fill_workers_to"),
    ("server", "max_connections"),
    ("server", "handshake_timeout"),
    ("server", "tcp_notsent_lowat"),
    ("limits", "max_message_bytes"),
    ("limits", "max_header_bytes"),
    ("slow_consumer", "max_lag_bytes"),
    ("slow_consumer", "stall_timeout"),
    ("keepalive", "ping_interval"),
    ("keepalive", "pong_timeout"),
    ("shutdown", "timeout"),
    ("metrics", "port"),
];

/// The error of `--check` for a file in `folder`: one line, with status 2.
fn refusal_in(folder: &Path, args: &[&str]) -> String {
    let limited = format!("ulimit -d {MEMORY_KIB} && exec \"$0\" --check \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &limited, env!("CARGO_BIN_EXE_fanwire")])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(
        line.starts_with("fanwire: ") && !line.contains("panic"),
        "{line}"
    );
    assert!(output.stdout.is_empty());
    line
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    refusal_in(folder_with(text).path(), &[])
}

#[test]
fn a_value_that_is_not_a_number_is_refused_with_its_key() {
    for (section, key) in NUMBERS {
        for value in [
            "-1",
            "1e23",
            "100000000000000000000000",
            "[1]",
            "{a: 1}",
            "true",
            "~",
            "\"\"",
        ] {
            let line = refusal(format!("{section}:\n  {key}: {value}\n"));
            assert!(
                line.starts_with(&format!("fanwire: config.yaml:2: {section}.{key}: ")),
                "{value}: {line}"
            );
        }
        let line = refusal(format!("{section}:\n  {key}: many\n"));
        assert!(line.contains("found string \"many\""), "{line}");
    }
}

#[test]
fn a_number_out_of_range_is_refused_with_the_range() {
    for (text, line) in [
        ("server: {port: 65536}", "server.port"),
        ("server: {port: 70000}", "server.port"),
        ("metrics: {port: 70000}", "metrics.port"),
        ("server: {workers: 257}", "server.workers: 257 is too large"),
        (
            "server: {fill_workers_to: 65537}",
            "server.fill_workers_to: 65537 is too large; use 0 to 65536",
        ),
        (
            "server: {max_connections: 18446744073709551615}",
            "server.max_connections",
        ),
        (
            "server: {handshake_timeout: 0s}",
            "server.handshake_timeout: 0s is too small",
        ),
        (
            "limits: {max_message_bytes: 99999999999999999999999 GiB}",
            "is too large",
        ),
        (
            "limits: {max_message_bytes: 0.0000000001GiB}",
            "is too small",
        ),
        (
            "limits: {max_message_bytes: 64MiB}",
            "slow_consumer.max_lag_bytes",
        ),
        (
            "limits: {max_header_bytes: 1}",
            "limits.max_header_bytes: 1 is too small",
        ),
        ("shutdown: {timeout: 18446744073709551615s}", "is too large"),
        (
            "shutdown: {timeout: 99999999999999999999999s}",
            "shutdown.timeout",
        ),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(line), "{text}: {refusal}");
    }
}

#[test]
fn features_of_yaml_that_no_configuration_needs_are_refused() {
    let laugh = |n: usize| {
        format!(
            "l{}: &l{} [{}]\n",
            n + 1,
            n + 1,
            vec![format!("*l{n}"); 10].join(",")
        )
    };
    let laughs: String = (0..30).map(laugh).collect();
    for (text, line) in [
        // Each of these at least doubles the size of the last one.
        (
            format!("l0: &l0 [ha]\n{laughs}server: *l30\n"),
            "unknown key",
        ),
        (
            format!("server: {{host: &l0 [ha]}}\n{laughs}"),
            "server.host: found sequence",
        ),
        (
            "server: &server {port: 1, more: *server}".into(),
            "server.more: unknown key",
        ),
        ("server: {port: *nothing}".into(), "config.yaml:1"),
        (
            "server: {<<: {port: 1}}".into(),
            "server: found an unknown key, which",
        ),
        ("server: [port]".into(), "server: found sequence"),
        ("server: ~".into(), "server: found no value"),
        ("~".into(), "found no value"),
        ("--- {}\n--- {}\n".into(), "more than one YAML document"),
        (
            "server: {port: 1, port: 2}".into(),
            "server.port: given twice",
        ),
        ("\"\\0\": 1".into(), "unknown key"),
        ("? [a, b]\n: c".into(), "use a name as the key"),
        ("%YAML 9.9\n---\nserver: {}".into(), "not valid YAML"),
        (
            "server: {host: \"a\\nb\"}".into(),
            "server.host: `a\\nb` is neither",
        ),
        (
            format!("server: {{host: {}}}", "a".repeat(60_000)),
            "server.host",
        ),
        (format!("{}: 1", "a".repeat(1000)), "unknown key"),
        ("{".repeat(5_000_000), "the largest allowed is 4 MiB"),
        ("{a: ".repeat(10_000), "nested more than 32 deep"),
        ("- ".repeat(30_000), "found sequence"),
        ("&a ".repeat(20_000), "config.yaml: "),
        ("!a ".repeat(20_000), "config.yaml: "),
        ("'".repeat(60_001), "not valid YAML"),
    ] {
        let refusal = refusal(&text);
        let excerpt: String = text.chars().take(60).collect();
        assert!(refusal.contains(line), "{excerpt}: {refusal}");
        assert!(refusal.len() < 1000, "{excerpt}: {} bytes", refusal.len());
    }
}

#[test]
fn anything_but_a_text_file_is_refused() {
    let folder = folder_with([0xff, 0xfe, b's', 0]);
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    assert!(refusal_in(folder.path(), &[]).contains("not UTF-8"));
    for (file, line) in [
        ("/dev/zero", "the largest allowed is 4 MiB"),
        ("/dev/urandom", "the largest allowed is 4 MiB"),
        ("loop", "cannot be read"),
        ("absent", "cannot be read"),
        ("config.yaml/absent", "cannot be read"),
        (".", "cannot be read"),
        (
            env!("CARGO_BIN_EXE_fanwire"),
            "the largest allowed is 4 MiB",
        ),
    ] {
        let refusal = refusal_in(folder.path(), &["--config-file", file]);
        assert!(refusal.contains(line), "{file}: {refusal}");
    }
}
