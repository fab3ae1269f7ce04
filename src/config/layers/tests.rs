//! Tests of the places that a configuration comes from: their order, and the errors in each.

use super::*;
use crate::config::{SlowConsumerPolicy, Topics};
use proptest::prelude::*;
use std::path::PathBuf;
use tempfile::TempDir;

/// A file, variables and flags.
struct Places {
    folder: TempDir,
    file: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    flags: Vec<OsString>,
}

fn places() -> Places {
    Places {
        folder: tempfile::tempdir().unwrap(),
        file: None,
        variables: Vec::new(),
        flags: Vec::new(),
    }
}

impl Places {
    fn file(mut self, text: &str) -> Places {
        let path = self.folder.path().join("a.yaml");
        std::fs::write(&path, text).unwrap();
        self.file = Some(path);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Places {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, argument: &str) -> Places {
        self.flags.push(argument.into());
        self
    }

    fn gather(&self) -> Layers {
        Layers::gather(self.file.as_deref(), self.variables.clone(), &self.flags)
    }

    fn accept(&self) -> Config {
        self.gather().load().unwrap()
    }

    /// The error, without the folder of the file.
    fn refuse(&self) -> String {
        let error = self.gather().load().unwrap_err().to_string();
        assert!(!error.contains('\n') && error.len() < 2500, "{error}");
        error.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let file = places().file("server: {port: 1, workers: 1}\nlog: {level: warn}\n");
    let both = file
        .variable("FANWIRE__SERVER__PORT", "2")
        .variable("FANWIRE__SERVER__WORKERS", "2");
    let config = both.flag("server.port=3").accept();
    assert_eq!((config.server.port, config.server.workers), (3, 2));
    assert_eq!(config.log.level, crate::config::LogLevel::Warn);
    assert_eq!(config.server.host, Config::default().server.host);
}

#[test]
fn of_two_flags_for_a_key_the_later_wins() {
    let config = places()
        .flag("server.port=1")
        .flag("server.port=2")
        .accept();
    assert_eq!(config.server.port, 2);
}

#[test]
fn values_are_yaml_lists_and_null_too() {
    let config = places()
        .file("server: {unix_socket: a.sock, allowed_origins: [a.example]}\n")
        .variable("FANWIRE__SERVER__UNIX_SOCKET", "null")
        .variable(
            "FANWIRE__SERVER__ALLOWED_ORIGINS",
            "[b.example, 'null', null]",
        )
        .variable("FANWIRE__SERVER__UNIX_SOCKET_MODE", "0600")
        .variable("FANWIRE__RELAY__TOPICS", "single")
        .flag("limits.max_message_bytes=64KiB")
        .flag("keepalive.ping_interval=1m 30s")
        .flag("relay.echo=false")
        .flag("slow_consumer.policy=\"drop\"")
        .accept();
    assert_eq!(config.server.unix_socket, None);
    let origins: Vec<String> = config
        .server
        .allowed_origins
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(origins, ["b.example", "null", "null"]);
    assert_eq!(config.server.unix_socket_mode, 0o600);
    assert_eq!(config.relay.topics, Topics::Single);
    assert_eq!(config.limits.max_message_bytes, 64 << 10);
    assert_eq!(config.keepalive.ping_interval.as_secs(), 90);
    assert!(!config.relay.echo);
    assert_eq!(config.slow_consumer.policy, SlowConsumerPolicy::Drop);
}

#[test]
fn an_address_of_version_6_needs_no_quotes() {
    for host in ["::", "::1", "fe80::1%eth0", "'::'"] {
        let config = places().flag(&format!("server.host={host}")).accept();
        assert_eq!(config.server.host, host.trim_matches('\''));
    }
}

#[test]
fn an_entry_keeps_its_spelling_in_every_place() {
    let tokens = "[1234567890123456, 0x12345678901234567890, 1e1000000000000000]";
    let file = format!("relay: {{publish: token, publish_tokens: {tokens}}}");
    let from_file = places().file(&file).accept();
    let from_variable = places()
        .file("relay: {publish: token}\nserver: {port: 1}")
        .variable("FANWIRE__RELAY__PUBLISH_TOKENS", tokens)
        .accept();
    let beside = places().file(&file).flag("server.port=1").accept();
    assert_eq!(
        from_file.relay.publish_tokens,
        from_variable.relay.publish_tokens
    );
    assert_eq!(from_file.relay.publish_tokens, beside.relay.publish_tokens);
    assert_eq!(from_file.relay.publish_tokens.len(), 3);
}

#[test]
fn a_section_that_the_file_leaves_out_or_empty_can_be_set() {
    for text in [
        "",
        "# nothing\n",
        "server:\n",
        "server:\n  proxy_protocol:\n",
        "log: {}\n",
        "server: {proxy_protocol: {}}",
    ] {
        let layers = places()
            .file(text)
            .flag("server.proxy_protocol.from=[10.0.0.1]")
            .gather();
        let config = layers.load().unwrap();
        assert_eq!(config.server.proxy_protocol.from.len(), 1, "for {text:?}");
    }
}

#[test]
fn a_variable_replaces_a_key_in_an_old_spelling() {
    let refusal = places()
        .file("server: {tls: {enabled: true, certFile: a.pem, keyfile: b.pem}}")
        .variable("FANWIRE__SERVER__TLS__CERT_FILE", "c.pem")
        .refuse();
    assert!(
        refusal.contains("the certificate `c.pem` cannot be read"),
        "{refusal}"
    );
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_the_flag() {
    for (key, default) in suggest::defaults() {
        let text = serde_yaml::to_string(&default).unwrap();
        let text = text.trim_end();
        let by_variable = places()
            .variable(&setting::variable_of(&key), text)
            .accept();
        let by_flag = places().flag(&format!("{key}={text}")).accept();
        assert_eq!(
            (by_variable, by_flag),
            (Config::default(), Config::default()),
            "for {key}"
        );
    }
}

#[test]
fn an_error_names_the_place_that_the_value_came_from() {
    let port = |places: Places| places.refuse();
    let fix = "use a port number from 0 to 65535";
    assert_eq!(
        port(places().variable("FANWIRE__SERVER__PORT", "70000")),
        format!("FANWIRE__SERVER__PORT: server.port: found integer `70000`; {fix}")
    );
    assert_eq!(
        port(places().flag("server.port=abc")),
        format!("--set server.port: found string \"abc\"; {fix}")
    );
    assert_eq!(
        port(places().variable("PORT", "tcp://10.0.0.1:80")),
        format!("PORT: server.port: found string \"tcp://10.0.0.1:80\"; {fix}")
    );
    assert_eq!(
        port(
            places()
                .file("log: {}\nserver:\n  port: abc")
                .flag("server.port=1")
        ),
        format!("a.yaml:3: server.port: found string \"abc\"; {fix}")
    );
    assert_eq!(
        places()
            .flag("server.allowed_origins=[a.example, https://b.example/]")
            .refuse(),
        "--set server.allowed_origins[1]: found `https://b.example/`, which has more than a scheme, host and port; \
         use an origin without a path"
    );
}

#[test]
fn an_error_of_a_range_or_relation_names_the_place_as_well() {
    let small = "1 is too small; use 125 to 64MiB";
    assert_eq!(
        places()
            .variable("FANWIRE__LIMITS__MAX_MESSAGE_BYTES", "1")
            .refuse(),
        format!("FANWIRE__LIMITS__MAX_MESSAGE_BYTES: limits.max_message_bytes: {small}")
    );
    assert_eq!(
        places()
            .file("log: {}")
            .flag("limits.max_message_bytes=1")
            .refuse(),
        format!("--set limits.max_message_bytes: {small}")
    );
    let text = places()
        .file("log: {}\nlimits: {max_message_bytes: 1}")
        .flag("log.level=warn")
        .refuse();
    assert_eq!(text, format!("a.yaml:2: limits.max_message_bytes: {small}"));
    // The key at fault has its default, so every place is named.
    let text = places()
        .file("log: {}")
        .flag("limits.max_message_bytes=64MiB")
        .refuse();
    let start =
        "a.yaml, --set limits.max_message_bytes: slow_consumer.max_lag_bytes: 4MiB is too small";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn an_unknown_key_is_refused_with_the_name_that_was_meant() {
    for (variable, meant) in [
        ("FANWIRE__SERVER__PRT", "FANWIRE__SERVER__PORT"),
        ("FANWIRE__SEVER__PORT", "FANWIRE__SERVER__PORT"),
        ("FANWIRE__METRIC__PORT", "FANWIRE__METRICS__PORT"),
        (
            "FANWIRE__MAX_MESSAGE_BYTES",
            "FANWIRE__LIMITS__MAX_MESSAGE_BYTES",
        ),
        (
            "FANWIRE__SERVER__TLS_CERT_FILE",
            "FANWIRE__SERVER__TLS__CERT_FILE",
        ),
        (
            "FANWIRE__SERVER__MAXCONNECTIONS",
            "FANWIRE__SERVER__MAX_CONNECTIONS",
        ),
    ] {
        let text = places().variable(variable, "secret-4711").refuse();
        let start = format!("{variable}: ");
        let end = format!(": unknown key; did you mean `{meant}`?");
        assert!(text.starts_with(&start) && text.ends_with(&end), "{text}");
    }
    assert_eq!(
        places().flag("sever.port=1").refuse(),
        "--set sever.port: unknown key; did you mean `server.port`?"
    );
    assert_eq!(
        places().flag("shutdown=1").refuse(),
        "--set shutdown: this is a section; set its keys one by one, such as shutdown.delay"
    );
    assert!(
        places()
            .flag("log.zzz=1")
            .refuse()
            .ends_with("use one of log.level, log.format")
    );
    assert_eq!(
        places().variable("FANWIRE__", "1").refuse(),
        "FANWIRE__: it names no key; use a key in its section, such as FANWIRE__SERVER__PORT; --print-config shows all"
    );
    let end =
        "unknown key; use a key in its section, such as server.port; --print-config shows all";
    for flag in ["zzz=1", "zzz.yyy=1"] {
        assert!(places().flag(flag).refuse().ends_with(end));
    }
    let text = places()
        .variable("FANWIRE__SERVER__ALLOWED_ORIGINS__0", "a")
        .refuse();
    assert!(text.contains("unknown key; "), "{text}");
}

#[test]
fn a_value_that_is_missing_empty_or_given_twice_is_refused() {
    for (text, refusal) in [
        (
            places().flag("server.port").refuse(),
            "--set: an argument has no `=`; use --set KEY=VALUE, such as --set server.port=9000",
        ),
        (
            places().flag("server.port=").refuse(),
            "--set server.port: the value is empty; write a value, or null for none",
        ),
        (
            places().flag("server.port=null").refuse(),
            "--set server.port: found no value; use a port number from 0 to 65535",
        ),
        (
            places().variable("FANWIRE__LOG__LEVEL", "").refuse(),
            "FANWIRE__LOG__LEVEL: log.level: the value is empty; unset the variable, or write null for none",
        ),
        (
            places()
                .variable("FANWIRE__LOG__LEVEL", "warn")
                .variable("FANWIRE__log__level", "warn")
                .refuse(),
            "FANWIRE__log__level: log.level: given twice; keep one of the two variables",
        ),
    ] {
        assert_eq!(text, refusal);
    }
    let long = format!("server.host={}", "a".repeat(file::MAX_FILE_BYTES + 1));
    assert!(
        places()
            .flag(&long)
            .refuse()
            .contains("the value is too long")
    );
    let deep = format!("server.host={}", "[".repeat(60_000));
    assert!(
        places()
            .flag(&deep)
            .refuse()
            .contains("--set server.host: nested more than 32 deep")
    );
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let broken = |text: &str| OsString::from_vec([text.as_bytes(), b"\xff"].concat());
    let variables = |name: &str| vec![(name.into(), broken("secret"))];
    let refuse = |variables, flags: &[OsString]| {
        Layers::gather(None, variables, flags)
            .load()
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refuse(variables("FANWIRE__SERVER__HOST"), &[]),
        "FANWIRE__SERVER__HOST: the value is not UTF-8; use UTF-8 text"
    );
    assert!(refuse(variables("PORT"), &[]).starts_with("PORT: server.port: found a text that is"));
    assert!(
        refuse(vec![], &[broken("server.host=")]).starts_with("--set: an argument is not UTF-8")
    );
    let name = broken("FANWIRE__SERVER__PORT");
    assert!(refuse(vec![(name, "1".into())], &[]).contains("is not that of a key"));
}

#[test]
fn the_port_of_the_platform_is_used_if_nothing_else_names_one() {
    let port = |places: Places| places.variable("PORT", "5000").accept().server.port;
    assert_eq!(port(places()), 5000);
    assert_eq!(port(places().file("server: {host: 127.0.0.1}")), 5000);
    assert_eq!(port(places().file("server: {port: 1}")), 1);
    assert_eq!(port(places().variable("FANWIRE__SERVER__PORT", "2")), 2);
    assert_eq!(port(places().flag("server.port=3")), 3);
    assert_eq!(places().variable("PORT", "").accept().server.port, 8443);
    let text = places().variable("PORT", "5000").gather().to_string();
    assert!(text.ends_with(", PORT"), "{text}");
    // A port that is not used may be anything.
    let odd = places()
        .file("server: {port: 1}")
        .variable("PORT", "tcp://1.2.3.4:80");
    assert_eq!(odd.accept().server.port, 1);
}

#[test]
fn other_variables_that_look_like_ours_are_ignored_with_one_warning() {
    let kubernetes = places()
        .variable("FANWIRE_SERVER_PORT", "tcp://10.0.0.1:8443")
        .variable("FANWIRE_SERVER_SERVICE_HOST", "10.0.0.1")
        .variable("FANWIRE_SEED", "1")
        .variable("FANWIRE", "x")
        .variable("HOME", "x");
    assert_eq!(kubernetes.accept(), Config::default());
    assert_eq!(
        kubernetes.gather().warning().unwrap(),
        "ignoring FANWIRE_SERVER_PORT, FANWIRE_SERVER_SERVICE_HOST: the variable of a key has two underscores between \
         its parts, such as FANWIRE__SERVER__PORT; Kubernetes sets some for each service, unless enableServiceLinks is \
         false"
    );
    let mistake = places()
        .variable("FANWIRE_LOG_LEVEL", "secret")
        .gather()
        .warning()
        .unwrap();
    assert!(mistake.contains("such as FANWIRE__LOG__LEVEL") && !mistake.contains("secret"));
    let many = (0..20).fold(places(), |places, n| {
        places.variable(&format!("FANWIRE_{n}"), "")
    });
    assert!(many.gather().warning().unwrap().contains(" and 12 more: "));
    assert_eq!(
        places().variable("FANWIRE_SEED", "1").gather().warning(),
        None
    );
}

#[test]
fn no_mistake_near_a_token_shows_it() {
    for value in [
        "secret-4711-secret-4711",
        "'secret-4711-secret-4711'",
        "[secret-4711",
        "[secret-4711 secret]",
        "{a: secret-4711-secret-4711}",
        "[[secret-4711-secret-4711]]",
        "[{secret-4711-secret-4711: 1}]",
        "!secret-4711-secret-4711 x",
        "[!!binary secret-4711-secret-4711]",
        "[*secret-4711-secret-4711]",
        "@secret-4711-secret-4711",
        "4711471147114711",
        "-4711",
        "4711.5",
        "secret-4711: secret-4711",
        "\"secret-4711\\q\"",
        "secret-4711\n---\nsecret-4711",
    ] {
        for name in [
            "FANWIRE__RELAY__PUBLISH_TOKENS",
            "FANWIRE__RELAY__PUBLISH_TOKEN",
        ] {
            let text = places().variable(name, value).refuse();
            assert!(
                !text.contains("4711") && !text.contains("secret"),
                "for {value}: {text}"
            );
        }
        for key in ["relay.publish_tokens=", "relay.publish_token=", ""] {
            let text = places().flag(&format!("{key}{value}")).refuse();
            assert!(
                !text.contains("4711") && !text.contains("secret"),
                "for {value}: {text}"
            );
        }
    }
    let valid = places().variable("FANWIRE__RELAY__PUBLISH_TOKENS", "[secret-4711-secret]");
    // Without `relay.publish` they have no effect.
    assert!(!valid.refuse().contains("4711"));
    let layers = valid.flag("relay.publish=token").gather();
    assert_eq!(layers.load().unwrap().relay.publish_tokens.len(), 1);
    assert!(!format!("{layers} {layers:?}").contains("4711"));
}

#[test]
fn a_key_in_the_place_of_its_path_is_not_shown() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIE4711\n-----END PRIVATE KEY-----\n";
    let one_line = pem.replace('\n', " ");
    for (key, text) in [
        ("SERVER__TLS__KEY_FILE", pem),
        ("SERVER__TLS__KEY_FILE", &one_line),
        ("SERVER__TLS__CERT_FILE", pem),
        ("SERVER__TLS__CLIENT_CA_FILE", pem),
        ("SERVER__TLS__KEY_FILE", &"4711".repeat(400)),
        (
            "SERVER__TLS__KEY_FILE",
            "/IGHAgEAMBMGByqGSM47114711AgEGCCqGSM49AwEHBG0waw",
        ),
    ] {
        for enabled in ["true", "false"] {
            let refusal = places()
                .variable(&format!("FANWIRE__{key}"), text)
                .variable("FANWIRE__SERVER__TLS__ENABLED", enabled)
                .refuse();
            let end =
                "is given in place of the path of its file; write it to a file, and name that";
            let start = format!("FANWIRE__{key}: server.tls.");
            assert!(
                refusal.starts_with(&start) && refusal.ends_with(end),
                "{refusal}"
            );
        }
    }
}

#[test]
fn a_token_that_stands_in_place_of_a_key_is_not_shown() {
    for argument in [
        "relay.publish_tokens:[3q2-7wAAx5Jq9pQm==]",
        "relay.publish_tokens: 3q2-7wAAx5Jq9pQm==",
        "relay.3q2-7wAAx5Jq9pQm=",
        "3q2-7wAAx5Jq9pQm.port=1",
        "3q2-7wAAx5Jq9pQm==",
        "relay.eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0=",
    ] {
        assert_eq!(
            places().flag(argument).refuse(),
            "--set: an argument does not begin with a key; use --set KEY=VALUE, such as --set server.port=9000",
            "{argument}"
        );
    }
    assert_eq!(
        places()
            .variable("FANWIRE__RELAY__PUBLISH_TOKENS:3q2-7wAAx5Jq9pQm", "")
            .refuse(),
        "FANWIRE__RELAY__PUBLISH_TOKENS…: the name of the variable is not that of a key; \
         write the value behind an equals sign, such as FANWIRE__SERVER__PORT=9000"
    );
    let ignored = places().variable("FANWIRE_RELAY_PUBLISH_TOKENS:3q2-7wAAx5Jq9pQm", "");
    let warning = ignored.gather().warning().unwrap();
    assert!(
        warning.starts_with("ignoring FANWIRE_RELAY_PUBLISH_TOKENS…: "),
        "{warning}"
    );
    let flag = places().flag("server.compression_threshold=1").refuse();
    assert!(
        flag.starts_with("--set server.compression_threshold: unknown key; use one of "),
        "{flag}"
    );
    let flag = places().flag("server.maxConnectionsPerIp=1").refuse();
    assert!(
        flag.ends_with(
            "server.maxConnectionsPerIp: unknown key; did you mean `server.max_connections_per_ip`?"
        ),
        "{flag}"
    );
}

#[test]
fn no_token_of_a_file_is_shown_either() {
    let file = "relay: {publish: token, publish_tokens: [secret-4711-secret]}";
    let layers = places().file(file).flag("log.level=warn").gather();
    assert!(layers.load().is_ok());
    assert!(!format!("{layers} {layers:?}").contains("4711"));
}

#[test]
fn a_warning_names_the_place_that_the_value_came_from() {
    let about = |places: &Places, keys| {
        let warning = Warning::about(keys, "a problem");
        let warnings = places.gather().warnings(&[warning]).join(" and ");
        warnings.replace(&format!("{}/", places.folder.path().display()), "")
    };
    let keys = ["limits.max_buffered_bytes", "server.workers"];
    let none = places();
    assert_eq!(
        about(&none, keys),
        "the default of limits.max_buffered_bytes: a problem"
    );
    let file = places().file("log: {}\nserver: {workers: 2}\n");
    assert_eq!(about(&file, keys), "a.yaml:2: server.workers: a problem");
    let flag = file.flag("server.workers=3");
    assert_eq!(about(&flag, keys), "--set server.workers: a problem");
    let variable = flag.variable("FANWIRE__LIMITS__MAX_BUFFERED_BYTES", "1MiB");
    assert_eq!(
        about(&variable, keys),
        "FANWIRE__LIMITS__MAX_BUFFERED_BYTES: limits.max_buffered_bytes: a problem"
    );
    let list = places().file("log: {}\nserver:\n  allowed_origins: [a]\n");
    let entry = ["server.allowed_origins[0]"];
    let warning = Warning::about(entry, "a problem");
    let warnings = list.gather().warnings(&[warning]);
    assert!(
        warnings[0].ends_with("a.yaml:3: server.allowed_origins[0]: a problem"),
        "{warnings:?}"
    );
    let ignored = places()
        .variable("FANWIRE_SERVER_PORT", "1")
        .gather()
        .warnings(&[]);
    assert!(
        ignored[0].starts_with("the environment: ignoring FANWIRE_SERVER_PORT: "),
        "{ignored:?}"
    );
}

#[test]
fn the_places_are_shown_without_values() {
    let places = places()
        .file("")
        .variable("FANWIRE__SERVER__PORT", "1")
        .flag("log.level=error")
        .flag("log.level=warn");
    let text = places.gather().to_string();
    assert!(
        text.ends_with("/a.yaml, FANWIRE__SERVER__PORT, --set log.level"),
        "{text}"
    );
    assert_eq!(
        Layers::default().to_string(),
        "the defaults (there is no config.yaml here)"
    );
}

#[test]
fn the_format_of_the_log_is_found_in_a_configuration_that_is_wrong() {
    let json = |places: Places| places.gather().log_format() == LogFormat::Json;
    assert!(json(places().flag("log.format=json").flag("server.prt=1")));
    assert!(json(
        places()
            .variable("FANWIRE__LOG__FORMAT", "json")
            .file("server: [")
    ));
    assert!(json(places().file("log: {format: json}\nserver: {prt: 1}")));
    assert!(json(places().file(
        "server: {\nlog:\n  format: 'json' # for the collector\n"
    )));
    assert!(json(
        places().file("log: {level: info, format: json}\nserver: [\n")
    ));
    assert!(!json(
        places().file("log: {format: json}").flag("log.format=text")
    ));
    assert!(!json(
        places().file("log: {format: text}\n# format: json\nserver: [\n")
    ));
    assert!(!json(places()));
    for odd in ["- 1", "hello", "log", "log: 1", "log: [json]", "", "!a b"] {
        assert!(!json(places().file(odd)), "for {odd}");
    }
    let deep = format!("log:\n  format: json\na: {}", "[".repeat(60_000));
    assert!(json(places().file(&deep).variable("PORT", "1")));
    let refusal = places().file(&deep).variable("PORT", "1").refuse();
    assert!(
        refusal.starts_with("a.yaml:3: nested more than 32 deep"),
        "{refusal}"
    );
}

proptest! {
    #[test]
    fn no_argument_makes_the_parser_panic(value in "[a-z:{}\\[\\],&*!|>'\"\n\t #-]{0,50}", which in 0..60_usize) {
        let keys = suggest::defaults();
        let key = &keys[which % keys.len()].0;
        if let Err(error) = places().flag(&format!("{key}={value}")).gather().load() {
            prop_assert!(error.to_string().starts_with("--set") || error.to_string().contains(key.as_str()));
        }
    }
}
