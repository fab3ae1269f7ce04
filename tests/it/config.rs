//! The program run with good and bad configurations, as an operator sees it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Runs the program in `directory` until it ends.
fn fanwire(directory: &Path, args: &[&str]) -> Output {
    fanwire_with(directory, &[], args)
}

/// The same, with variables in its environment.
fn fanwire_with(directory: &Path, variables: &[(&str, &str)], args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .args(args)
        .envs(variables.iter().copied())
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("the program was built for this test")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A folder whose `config.yaml` is `text`.
fn folder_with(text: impl AsRef<[u8]>) -> TempDir {
    let folder = folder();
    fs::write(folder.path().join("config.yaml"), text).expect("a temporary file");
    folder
}

/// Asserts that the program refuses a configuration with one line and status 2. Returns the line.
fn refusal(output: &Output) -> String {
    let line = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(
        line.starts_with("fanwire: ") && !line.contains("panicked"),
        "{line}"
    );
    assert!(output.stdout.is_empty());
    line
}

/// The error of `--check` for a bad `config.yaml`.
fn check(text: impl AsRef<[u8]>) -> String {
    let folder = folder_with(text);
    refusal(&fanwire(folder.path(), &["--check"]))
}

#[test]
fn a_valid_file_passes_the_check_with_one_line() {
    let folder = folder_with("server: {host: 127.0.0.1, port: 0}\n");
    let output = fanwire(folder.path(), &["--check"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"config.yaml: the configuration is valid\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn a_file_with_comments_only_means_the_defaults() {
    for text in ["", "# server:\n#   port: 1\n", "\n \n", &" ".repeat(60_000)] {
        let folder = folder_with(text);
        let given = fanwire(folder.path(), &["--print-config"]);
        assert_eq!(given.status.code(), Some(0));
        let defaults = folder_with("{}\n");
        let defaults = fanwire(defaults.path(), &["--print-config"]);
        assert_eq!(given.stdout, defaults.stdout);
    }
    let output = fanwire(folder().path(), &["--config-file", "/dev/null", "--check"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_word_that_is_no_site_is_warned_of_and_passes_the_check() {
    let folder = folder_with("server: {allowed_origins: [file://, same-origin, anyone]}\n");
    let output = fanwire(folder.path(), &["--check"]);
    assert_eq!(output.status.code(), Some(0));
    let warning = String::from_utf8(output.stderr).expect("UTF-8");
    let rest = warning
        .strip_prefix("fanwire: warning: ")
        .expect("a warning");
    let words = "config.yaml:1: server.allowed_origins[2]: `anyone` is taken for a host name";
    assert!(rest.starts_with(words), "{warning}");
    assert_eq!(warning.lines().count(), 1, "{warning}");
}

#[test]
fn without_a_file_the_check_says_that_it_uses_the_defaults() {
    let output = fanwire(folder().path(), &["--check"]);
    assert_eq!(output.status.code(), Some(0));
    let line = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(
        line,
        "the defaults (there is no config.yaml here): the configuration is valid\n"
    );
}

#[test]
fn the_file_of_the_repository_is_valid() {
    let output = fanwire(Path::new(env!("CARGO_MANIFEST_DIR")), &["--check"]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn each_error_has_the_file_line_key_value_and_fix() {
    for (text, line) in [
        (
            "server:\n  prt: 1\n",
            "config.yaml:2: server.prt: unknown key; did you mean `port`?",
        ),
        (
            "server:\n  port: 70000\n",
            "config.yaml:2: server.port: found integer `70000`; use a port number from 0",
        ),
        (
            "server: {port: '1'}\n",
            "config.yaml:1: server.port: found string \"1\"; use a port number",
        ),
        (
            "shutdown: {timeout: -1}\n",
            "config.yaml:1: shutdown.timeout: found integer `-1`; use a duration",
        ),
        (
            "limits: {max_message_bytes: 1e-3}\n",
            "config.yaml:1: limits.max_message_bytes: found floating point `0.001`",
        ),
        (
            "shutdown: {timeout: 1h}\n",
            "config.yaml:1: shutdown.timeout: 1h is too large; use 0s to 10m",
        ),
        (
            "log: {}\nlog: {}\n",
            "config.yaml:2: log: given twice; keep one",
        ),
        (
            "- 1\n",
            "config.yaml:1: found sequence; use a mapping of sections",
        ),
        (
            "server:\n\tport: 1\n",
            "config.yaml:2: the line is indented with a tab; indent with spaces",
        ),
        (
            "server: {\n",
            "config.yaml:2: not valid YAML: a bracket is not closed",
        ),
        (
            "server:\n  host: ::\n",
            "config.yaml:2: not valid YAML: a value has a colon that YAML takes for the end of a key; put the value in quotes",
        ),
    ] {
        let refusal = check(text);
        assert!(
            refusal.starts_with(&format!("fanwire: {line}")),
            "for {text:?}: {refusal}"
        );
    }
}

#[test]
fn hostile_files_are_refused_like_other_files() {
    let mut bomb = b"log: &a [x,x]\n".to_vec();
    for _ in 0..20 {
        bomb.extend(b"log: &a [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n");
    }
    assert!(check(bomb).contains("config.yaml:1: log: found sequence"));
    assert!(check("[".repeat(5_000_000)).contains("the largest allowed is 4 MiB"));
    assert!(check("[".repeat(60_000)).contains("nested more than 32 deep"));
    assert!(check(b"log:\n  level: \xff\n").contains("config.yaml:2: not UTF-8"));
    assert!(check([0; 100]).contains("config.yaml:1: not valid YAML: control characters"));
}

#[test]
fn a_missing_certificate_is_named() {
    let line = check(
        "server:\n  tls:\n    enabled: true\n    cert_file: absent.pem\n    key_file: absent.key\n",
    );
    assert!(
        line.contains(
            "config.yaml:4: server.tls.cert_file: the certificate `absent.pem` cannot be read"
        ),
        "{line}"
    );
}

#[test]
fn unusable_certificates_are_refused_with_and_without_the_check() {
    let folder = folder_with("server: {tls: {enabled: true, certfile: a.pem, keyfile: a.pem}}\n");
    fs::write(folder.path().join("a.pem"), "").expect("a temporary file");
    for args in [&["--check"][..], &[]] {
        let line = refusal(&fanwire(folder.path(), args));
        assert!(
            line.contains(
                "config.yaml: server.tls.cert_file: the certificate `a.pem` is empty; name a PEM file"
            ),
            "{line}"
        );
    }
}

#[test]
fn a_bad_configuration_is_also_refused_without_the_check() {
    let folder = folder_with("server: {prt: 1}\n");
    for args in [&[][..], &["--print-config"]] {
        assert!(
            refusal(&fanwire(folder.path(), args)).contains("did you mean `port`?"),
            "for {args:?}"
        );
    }
}

#[test]
fn a_file_named_with_one_dash_or_two_must_exist() {
    for flag in ["--config-file", "-config-file"] {
        let line = refusal(&fanwire(folder().path(), &["--check", flag, "absent.yaml"]));
        assert!(
            line.contains("absent.yaml: cannot be read: No such file or directory"),
            "{line}"
        );
        assert!(
            refusal(&fanwire(folder().path(), &["--check", flag, "."])).contains("Is a directory")
        );
    }
}

#[test]
fn bad_usage_exits_with_2() {
    let output = fanwire(folder().path(), &["--nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--nonsense"));
}

#[test]
fn a_printed_configuration_is_complete_and_loads_again() {
    let folder = folder_with("server: {port: 1}\nslow_consumer: {max_lag_bytes: 64MiB}\n");
    let printed = fanwire(folder.path(), &["--print-config"]);
    assert_eq!(printed.status.code(), Some(0));
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(
        text.contains("port: 1\n") && text.contains("max_lag_bytes: 64MiB\n"),
        "{text}"
    );

    fs::write(folder.path().join("printed.yaml"), &printed.stdout).expect("a temporary file");
    let again = fanwire(
        folder.path(),
        &["--print-config", "--config-file", "printed.yaml"],
    );
    assert_eq!(again.stdout, printed.stdout);
}

#[test]
fn a_token_is_neither_printed_nor_quoted() {
    let folder = folder_with("relay:\n  publish: token\n  publish_tokens: [secret-4711-secret]\n");
    let printed = fanwire(folder.path(), &["--print-config"]);
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(
        text.contains("(hidden)") && !text.contains("4711"),
        "{text}"
    );
    for tokens in [
        "[secret-4711]",
        "secret-4711-secret",
        "[secret-4711 secret]",
    ] {
        let line = check(format!(
            "relay:\n  publish: token\n  publish_tokens: {tokens}\n"
        ));
        assert!(
            line.contains("config.yaml:3: relay.publish_tokens") && !line.contains("4711"),
            "{line}"
        );
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = fanwire(folder().path(), &["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        output.stdout,
        concat!("fanwire ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()
    );
}

#[test]
fn a_reader_that_is_gone_is_not_a_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .arg("--print-config")
        .current_dir(folder().path())
        .stdout(writer)
        .status()
        .expect("the program was built for this test");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_flag_wins_over_a_variable_and_both_are_named_as_places() {
    let folder = folder_with("server: {port: 1, workers: 1}\n");
    let variables = [
        ("FANWIRE__SERVER__PORT", "2"),
        ("FANWIRE__SERVER__WORKERS", "2"),
        ("PORT", "4"),
    ];
    let args = ["--set", "server.port=3", "--set", "relay.echo=false"];
    let output = fanwire_with(
        folder.path(),
        &variables,
        &[&args[..], &["--print-config"]].concat(),
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for line in ["  port: 3\n", "  workers: 2\n", "  echo: false\n"] {
        assert!(text.contains(line), "{text}");
    }
    let output = fanwire_with(
        folder.path(),
        &variables,
        &[&args[..], &["--check"]].concat(),
    );
    assert_eq!(
        String::from_utf8(output.stdout).expect("UTF-8"),
        "config.yaml, FANWIRE__SERVER__PORT, FANWIRE__SERVER__WORKERS, --set server.port, --set relay.echo: the \
         configuration is valid\n"
    );
    let warning = String::from_utf8(output.stderr).expect("UTF-8");
    let start = "fanwire: warning: the default of server.host: everybody may connect and publish";
    assert!(warning.starts_with(start), "{warning}");
}

#[test]
fn a_wrong_variable_or_flag_is_named_with_its_key_value_and_fix() {
    let refuse = |variables: &[(&str, &str)], args: &[&str]| {
        refusal(&fanwire_with(folder().path(), variables, args))
    };
    let fix = "use a port number from 0 to 65535\n";
    assert_eq!(
        refuse(&[("FANWIRE__SERVER__PORT", "70000")], &[]),
        format!("fanwire: FANWIRE__SERVER__PORT: server.port: found integer `70000`; {fix}")
    );
    assert_eq!(
        refuse(&[], &["--set", "server.port=70000"]),
        format!("fanwire: --set server.port: found integer `70000`; {fix}")
    );
    assert_eq!(
        refuse(&[("FANWIRE__SERVER__PRT", "1")], &["--check"]),
        "fanwire: FANWIRE__SERVER__PRT: server.prt: unknown key; did you mean `FANWIRE__SERVER__PORT`?\n"
    );
    let absent = [
        ("FANWIRE__SERVER__TLS__ENABLED", "true"),
        ("FANWIRE__SERVER__TLS__CERT_FILE", "absent.pem"),
    ];
    let line = refuse(&absent, &["--check"]);
    let start = "fanwire: FANWIRE__SERVER__TLS__CERT_FILE: server.tls.cert_file: the certificate `absent.pem`";
    assert!(line.starts_with(start), "{line}");
}

#[test]
fn a_token_from_the_environment_is_neither_printed_nor_quoted() {
    let variables = [
        ("FANWIRE__RELAY__PUBLISH", "token"),
        ("FANWIRE__RELAY__PUBLISH_TOKENS", "[secret-4711-secret]"),
    ];
    for args in ["--print-config", "--check"] {
        let output = fanwire_with(folder().path(), &variables, &[args]);
        assert_eq!(output.status.code(), Some(0));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("4711"));
    }
    let wrong = [
        variables[0],
        ("FANWIRE__RELAY__PUBLISH_TOKENS", "secret-4711"),
    ];
    let line = refusal(&fanwire_with(folder().path(), &wrong, &[]));
    assert!(
        line.contains("relay.publish_tokens: found a text that is not shown; use a list")
            && !line.contains("4711")
    );
}

#[test]
fn variables_that_only_look_like_ours_are_a_warning_of_the_check() {
    let variables = [("FANWIRE_SERVER_PORT", "tcp://10.0.0.1:80")];
    let args = ["--check", "--set", "server.host=127.0.0.1"];
    let output = fanwire_with(folder().path(), &variables, &args);
    assert_eq!(output.status.code(), Some(0));
    let warning = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        warning.starts_with("fanwire: warning: ")
            && warning.contains(": ignoring FANWIRE_SERVER_PORT: "),
        "{warning}"
    );
    assert_eq!(warning.lines().count(), 1, "{warning}");
}

#[test]
fn a_port_in_use_is_named_with_the_place_that_chose_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let host = "server:\n  host: 127.0.0.1\n";
    let start = |text: &str, variables: &[(&str, &str)], args: &[&str]| {
        let output = fanwire_with(folder_with(text).path(), variables, args);
        assert!(!output.status.success());
        let log = String::from_utf8(output.stderr).expect("UTF-8");
        log.lines().last().expect("a line").to_owned()
    };
    let refusal =
        format!("server.port: {port}: the port is in use on 127.0.0.1; stop the other process");
    let in_file = format!("{host}  port: {port}\n");
    for (line, start) in [
        (start(&in_file, &[], &[]), "config.yaml:3: "),
        (start(host, &[("PORT", &port)], &[]), "PORT: "),
        (
            start(host, &[("FANWIRE__SERVER__PORT", &port)], &[]),
            "FANWIRE__SERVER__PORT: ",
        ),
        (
            start(host, &[], &["--set", &format!("server.port={port}")]),
            "--set ",
        ),
    ] {
        assert!(
            line.starts_with(&format!("fanwire: {start}{refusal}")),
            "{line}"
        );
    }
}
