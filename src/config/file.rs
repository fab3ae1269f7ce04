//! Reads a configuration from YAML and writes one.
//!
//! A file that is too large, not UTF-8 or nested too deeply is refused before the parser sees it. [`super::explain`]
//! translates the parser's errors for operators.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::error::ConfigError;
use super::explain::explain;
use super::locate::line_of_key;
use super::suggest;
use super::types::Config;
use crate::secrecy::{Kind, may_be_secret};

/// The largest configuration file. Ten thousand rules for topics with a few keys each are half as large. A file with every key
/// and a comment on each is many times smaller.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;

/// The deepest nesting of brackets. A configuration needs 3 levels; the parser takes time with the square of the depth.
const MAX_DEPTH: usize = 32;

const FIX_READ: &str = "use --config-file with a readable file";

/// Stands for a name that is not shown.
const HIDDEN_NAME: &str = "--config-file";

impl Config {
    /// Reads, parses and validates a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let origin = shown_name(path);
        let text = read_text(path).map_err(|error| error.within(&origin))?;
        Config::from_yaml(&text, &origin)
    }

    /// Parses and validates `text`. Errors name `origin` as the file.
    pub fn from_yaml(text: &str, origin: &str) -> Result<Config, ConfigError> {
        parse(text)
            .and_then(|config| {
                config.validate().map_err(|error| locate(text, error))?;
                Ok(config)
            })
            .map_err(|error| error.within(origin))
    }

    /// The whole configuration as YAML. It loads as an equal configuration, unless it has tokens: they are printed as a
    /// placeholder, which does not load.
    ///
    /// # Errors
    ///
    /// A path that is not Unicode, because YAML cannot hold it. Paths from a file are always Unicode.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        serde_yaml::to_string(self)
            .map_err(|error| ConfigError::new(error.to_string(), "use paths that are Unicode"))
    }
}

/// The name of a file, for errors. It is not shown if there is no such file, and it may be a secret in place of a name.
pub(super) fn shown_name(path: &Path) -> String {
    if is_hidden(path) {
        HIDDEN_NAME.to_owned()
    } else {
        path.display().to_string()
    }
}

fn is_hidden(path: &Path) -> bool {
    may_be_secret(&path.to_string_lossy(), Kind::Name) && !path.exists()
}

/// The text of a file.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    String::from_utf8(read(path)?).map_err(|error| {
        let valid_up_to = error.utf8_error().valid_up_to();
        not_utf8(error.as_bytes(), valid_up_to)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    if is_hidden(path) {
        return Err(ConfigError::new(
            "there is no such file; its name is not shown, because it may be a secret",
            "give the path of a file, and not its text",
        ));
    }
    let unreadable =
        |error: io::Error| ConfigError::new(format!("cannot be read: {error}"), FIX_READ);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

fn too_large() -> ConfigError {
    let problem = format!(
        "this does not look like a fanwire configuration (the largest allowed is {} MiB)",
        MAX_FILE_BYTES >> 20
    );
    ConfigError::new(problem, "use --config-file with the right file")
}

fn not_utf8(bytes: &[u8], valid_up_to: usize) -> ConfigError {
    let problem = format!("not UTF-8 at byte {valid_up_to}");
    ConfigError::new(problem, "save the file as UTF-8 text")
        .on_line(Some(line_at(bytes, valid_up_to)))
}

/// The line of the byte at `index`, counted from 1.
fn line_at(bytes: &[u8], index: usize) -> usize {
    bytes[..index].split(|&byte| byte == b'\n').count()
}

/// Reads a text without a check of the values.
pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    check_shape(text)?;
    if text.lines().all(is_blank_or_comment) {
        return Ok(Config::default());
    }
    serde_yaml::from_str(text).map_err(|error| explain(text, &error))
}

/// Refuses a text that the parser cannot cope with, or would quote.
fn check_shape(text: &str) -> Result<(), ConfigError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    if is_pem(text) {
        return Err(ConfigError::new(
            "the file is PEM, a certificate or a key, and not a configuration",
            "use --config-file with the right file",
        ));
    }
    check_depth(text)
}

/// Refuses a text that takes the parser too much time.
pub(super) fn check_depth(text: &str) -> Result<(), ConfigError> {
    let mut depth: usize = 0;
    for (index, byte) in text.bytes().enumerate() {
        // This also counts brackets in comments and strings, but none of them has 32 open ones.
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            let error = ConfigError::new(
                format!("nested more than {MAX_DEPTH} deep"),
                "close the open brackets",
            );
            return Err(error.on_line(Some(line_at(text.as_bytes(), index))));
        }
    }
    Ok(())
}

/// Whether it is a file with a certificate or a key. The parser would quote it.
fn is_pem(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with("-----BEGIN")
}

pub(super) fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}').trim();
    line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
}

/// Adds the line of the wrong key to an error.
fn locate(text: &str, error: ConfigError) -> ConfigError {
    let line = error.key().and_then(|key| line_of(text, key));
    error.on_line(line)
}

/// The line of a key, if the text has it; for an entry of a list, the line of its list. A rule for topics has lines of its own.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    if key.starts_with("topics[") {
        let (rule, name) = key.split_once('.').unwrap_or((key, "match"));
        return match name.rsplit_once('.') {
            Some((inside, name)) => line_of_key(text, &suggest::join(rule, inside), name, 1),
            None => line_of_key(text, rule, name, 1),
        };
    }
    let key = key.split('[').next().unwrap_or(key);
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    line_of_key(text, section, name, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, SlowConsumerPolicy, Topics};
    use proptest::prelude::*;
    use std::fmt::Write as _;
    use std::path::PathBuf;
    use std::time::Duration;

    fn accept(text: &str) -> Config {
        Config::from_yaml(text, "test.yaml").unwrap()
    }

    /// The error for `text`. It must fit on one line.
    fn refuse(text: &str) -> String {
        let refusal = Config::from_yaml(text, "test.yaml")
            .unwrap_err()
            .to_string();
        assert!(!refusal.contains('\n') && refusal.len() < 1000, "{refusal}");
        refusal
    }

    #[test]
    fn the_file_in_the_repository_is_the_defaults() {
        assert_eq!(accept(include_str!("../../config.yaml")), Config::default());
    }

    #[test]
    fn the_file_in_the_repository_names_every_key() {
        let text = include_str!("../../config.yaml");
        for key in suggest::known_keys() {
            let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
            assert!(
                line_of_key(text, section, name, 1).is_some(),
                "{key} is missing"
            );
        }
    }

    #[test]
    fn a_key_left_out_has_its_default() {
        let config = accept("server: {port: 1}");
        assert_eq!(config.server.port, 1);
        assert_eq!(config.server.host, Config::default().server.host);
        assert_eq!(config.limits, Config::default().limits);
    }

    #[test]
    fn a_section_whose_keys_are_all_commented_out_has_its_defaults() {
        assert_eq!(accept("server:\n#  port: 1\n"), Config::default());
    }

    #[test]
    fn words_sizes_and_durations_are_read_with_their_units() {
        let config = accept(
            "relay: {topics: single}\nslow_consumer: {policy: drop, max_lag_bytes: 64 MB}\nlog: {format: json}\n\
             limits: {max_message_bytes: 2000}\nkeepalive: {ping_interval: 1m 30s, pong_timeout: 500ms}\n\
             shutdown: {timeout: 0}",
        );
        assert_eq!(config.relay.topics, Topics::Single);
        assert_eq!(config.slow_consumer.policy, SlowConsumerPolicy::Drop);
        assert_eq!(config.slow_consumer.max_lag_bytes, 64_000_000);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.limits.max_message_bytes, 2000);
        assert_eq!(config.keepalive.ping_interval, Duration::from_secs(90));
        assert_eq!(config.keepalive.pong_timeout, Duration::from_millis(500));
        assert_eq!(config.shutdown.timeout, Duration::ZERO);
    }

    #[test]
    fn the_spellings_of_old_files_are_understood() {
        for (cert, key) in [
            ("certfile", "keyfile"),
            ("certFile", "keyFile"),
            ("cert_file", "key_file"),
        ] {
            let text = format!("server: {{tls: {{{cert}: a.pem, {key}: b.pem}}}}");
            let tls = parse(&text).unwrap().server.tls;
            assert_eq!(
                (tls.cert_file, tls.key_file),
                (Some("a.pem".into()), Some("b.pem".into())),
                "for {cert}"
            );
        }
    }

    #[test]
    fn each_mistake_is_one_line_with_its_place_its_value_and_its_fix() {
        for (text, refusal) in [
            (
                "server:\n  prt: 3",
                "test.yaml:2: server.prt: unknown key; did you mean `port`?",
            ),
            (
                "log: {}\nsever: 3",
                "test.yaml:2: sever: unknown key; did you mean `server`?",
            ),
            (
                "port: 3",
                "test.yaml:1: port: unknown key; did you mean `server.port`?",
            ),
            (
                "shutdown: {zzz: 3}",
                "test.yaml:1: shutdown.zzz: unknown key; use one of delay, timeout, spread",
            ),
            (
                "server:\n  port: 1\n  host: a\n  port: 2",
                "test.yaml:4: server.port: given twice; keep one of the two",
            ),
            (
                "log: {}\nrelay: {}\nlog: {}",
                "test.yaml:3: log: given twice; keep one of the two",
            ),
            (
                "server:\n  port: 70000",
                "test.yaml:2: server.port: found integer `70000`; use a port number from 0 to 65535",
            ),
            (
                "server:\n  port: -1",
                "test.yaml:2: server.port: found integer `-1`; use a port number from 0 to 65535",
            ),
            (
                "server:\n  port: '80'",
                "test.yaml:2: server.port: found string \"80\"; use a port number from 0 to 65535",
            ),
            (
                "server:\n  port:",
                "test.yaml:2: server.port: found no value; use a port number from 0 to 65535",
            ),
            (
                "server: {workers: [1]}",
                "test.yaml:1: server.workers: found sequence; use a whole number",
            ),
            (
                "server: {host: 3}",
                "test.yaml:1: server.host: found integer `3`; use an address or a host name",
            ),
            (
                "relay: {echo: yes}",
                "test.yaml:1: relay.echo: found string \"yes\"; use true or false",
            ),
            (
                "shutdown: {timeout: 10}",
                "test.yaml:1: shutdown.timeout: found integer `10`; use a duration with its unit, such as `10s`",
            ),
            (
                "limits: {max_message_bytes: 1.5}",
                "test.yaml:1: limits.max_message_bytes: found floating point `1.5`; \
                 use a size such as `1MiB`, or a whole number of bytes",
            ),
            (
                "slow_consumer: {policy: dsconnect}",
                "test.yaml:1: slow_consumer.policy: found `dsconnect`; \
                 did you mean `disconnect`? Use one of disconnect, drop, backpressure",
            ),
            (
                "log: {format: [json]}",
                "test.yaml:1: log.format: found sequence; use `text` or `json`",
            ),
            (
                "log: {format: xml}",
                "test.yaml:1: log.format: found `xml`; use one of text, json",
            ),
            (
                "server: 3",
                "test.yaml:1: server: found integer; use a mapping such as `port: 8443`",
            ),
            (
                "- server",
                "test.yaml:1: found sequence; use a mapping of sections such as `server:`",
            ),
            (
                "hello",
                "test.yaml:1: found a text that is not shown; use a mapping of sections such as `server:`",
            ),
            (
                "server:\n\tport: 3",
                "test.yaml:2: the line is indented with a tab; indent with spaces, as YAML requires",
            ),
            (
                "server: {}\n---\nlog: {}",
                "test.yaml: more than one YAML document; keep one, and remove the `---` between them",
            ),
        ] {
            assert_eq!(refuse(text), refusal, "for {text:?}");
        }
    }

    #[test]
    fn a_text_that_may_be_a_key_or_a_token_is_not_shown() {
        const BASE64: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{BASE64}\n-----END PRIVATE KEY-----\n");
        let indented = pem.replace('\n', "\n    ");
        let one_line = pem.replace('\n', "\\n");
        for text in [
            pem.clone(),
            format!("\u{feff}\n  {pem}"),
            BASE64.to_owned(),
            format!("{BASE64}\n{BASE64}\n"),
            format!("KEY={BASE64}"),
            format!("server: {BASE64}"),
            format!("server:\n  tls: |\n    {indented}"),
            format!("server:\n  port: {BASE64}"),
            format!("server: {{tls: {{key_file: {BASE64}}}}}"),
            format!("server: {{tls: {{enabled: true, cert_file: {BASE64}}}}}"),
            format!("server: {{tls: {{enabled: true, cert_file: \"{one_line}\"}}}}"),
            format!(
                "server:\n  tls:\n    enabled: true\n    cert_file: Cargo.toml\n    key_file: |\n    {indented}"
            ),
            format!(
                "server:\n  tls:\n    enabled: true\n    cert_file: Cargo.toml\n    key_file: {BASE64}{BASE64}"
            ),
            format!("log: {{format: {BASE64}}}"),
            format!("relay: {{publish: {}}}", &BASE64[..16]),
            format!("relay: {{publish_tokens: {BASE64}}}"),
            format!("relay: {{publish_tokens: [{BASE64}: a]}}"),
            format!("relay: {{publish_tokens: [*{BASE64}]}}"),
        ] {
            let refusal = refuse(&text);
            for six in BASE64.as_bytes().windows(6) {
                let six = str::from_utf8(six).unwrap();
                assert!(!refusal.contains(six), "for {text:?}: {refusal}");
            }
        }
        assert!(refuse(&pem).starts_with("test.yaml: the file is PEM, a certificate or a key"));
        assert_eq!(
            refuse(&format!(
                "server: {{tls: {{enabled: true, cert_file: Cargo.toml, key_file: {BASE64}}}}}"
            )),
            "test.yaml:1: server.tls.key_file: the text of a private key is given in place of the path of its file; \
             write it to a file, and name that"
        );
    }

    #[test]
    fn a_mode_is_octal_digits_in_quotes() {
        assert_eq!(
            accept("server: {unix_socket_mode: '0600'}")
                .server
                .unix_socket_mode,
            0o600
        );
        let fix = "use octal digits in quotes, such as `\"0660\"`";
        for (value, found) in [("660", "integer `660`"), ("'0680'", "string \"0680\"")] {
            assert_eq!(
                refuse(&format!("server: {{unix_socket_mode: {value}}}")),
                format!("test.yaml:1: server.unix_socket_mode: found {found}; {fix}")
            );
        }
    }

    #[test]
    fn a_group_is_a_name_or_a_number_in_quotes_or_not() {
        for (value, group) in [
            ("www-data", Some("www-data")),
            ("33", Some("33")),
            ("'33'", Some("33")),
            ("null", None),
        ] {
            let text = format!("server: {{unix_socket: s, unix_socket_group: {value}}}");
            assert_eq!(accept(&text).server.unix_socket_group.as_deref(), group);
        }
        assert_eq!(
            refuse("server: {unix_socket_group: [www-data]}"),
            "test.yaml:1: server.unix_socket_group: found sequence; use the name or the number of a group"
        );
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_line() {
        assert_eq!(
            refuse("log: {}\nlimits:\n  max_header_bytes: 8KiB\n  max_message_bytes: 1"),
            "test.yaml:4: limits.max_message_bytes: 1 is too small; use 125 to 64MiB"
        );
    }

    #[test]
    fn numbers_that_fit_no_type_are_refused() {
        for key in [
            "server: {port",
            "server: {workers",
            "limits: {max_message_bytes",
            "keepalive: {pong_timeout",
        ] {
            for number in [
                "1e23",
                "-1",
                "99999999999999999999999",
                "'12'",
                ".nan",
                ".inf",
                "0.5",
                "[]",
                "{}",
                "true",
            ] {
                let refusal = refuse(&format!("{key}: {number}}}"));
                assert!(
                    refusal.contains(": found "),
                    "for {key}: {number}: {refusal}"
                );
            }
        }
    }

    #[test]
    fn a_file_without_settings_means_the_defaults() {
        for text in ["", "\n\n", "# server:\n", "---\n# x\n", "\u{feff}", "{}"] {
            assert_eq!(accept(text), Config::default(), "for {text:?}");
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let lower = format!("*a{}, ", level - 1).repeat(10);
            writeln!(bomb, "a{level}: &a{level} [{lower}]").unwrap();
        }
        assert!(refuse(&bomb).contains("a0: unknown key"));
        assert!(refuse("server: &server\n  tls: *server\n").contains("unknown key"));
    }

    #[test]
    fn deep_nesting_is_refused_before_it_is_parsed() {
        let refusal = refuse(&format!("log: {{}}\nserver: {}", "[".repeat(60_000)));
        assert_eq!(
            refusal,
            "test.yaml:2: nested more than 32 deep; close the open brackets"
        );
        assert!(refuse(&"[".repeat(MAX_FILE_BYTES + 1)).contains("the largest allowed is 4 MiB"));
        assert!(refuse(&"- ".repeat(32_000)).contains("found sequence"));
        assert!(refuse(&"? ".repeat(32_000)).contains("test.yaml:1: "));
    }

    #[test]
    fn invalid_yaml_is_refused_with_its_line() {
        for text in [
            "server: {port: 3",
            "'",
            "a: b: c",
            "log: *nope",
            "\0",
            "@",
            "&",
            "%YAML 9.9\n---\n",
        ] {
            assert!(refuse(text).starts_with("test.yaml"), "for {text:?}");
        }
        assert!(
            refuse("log: *nope")
                .starts_with("test.yaml:1: not valid YAML: a value begins with `*`")
        );
    }

    #[test]
    fn unusable_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let refuse = |path: PathBuf| Config::load(&path).unwrap_err().to_string();
        assert!(
            refuse(folder.path().join("absent.yaml"))
                .contains("absent.yaml: cannot be read: No such file")
        );
        assert!(refuse(folder.path().into()).contains(": cannot be read: Is a directory"));
        let refusal = refuse(file("latin1.yaml", b"log:\n  level: \xe9"));
        assert!(
            refusal.contains("latin1.yaml:2: not UTF-8 at byte 14; save the file as UTF-8"),
            "{refusal}"
        );
        assert!(
            refuse(file("large.yaml", &vec![b'#'; MAX_FILE_BYTES + 1]))
                .contains("the largest allowed is 4 MiB")
        );
        assert!(refuse("/dev/zero".into()).contains("the largest allowed is 4 MiB"));
    }

    #[test]
    fn a_line_of_a_key_in_place_of_the_name_of_a_file_is_not_shown() {
        for name in [
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
            "/MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
            "-----BEGIN PRIVATE KEY-----",
            "3q2-7wAAx5Jq9pQm",
        ] {
            assert_eq!(
                Config::load(name.as_ref()).unwrap_err().to_string(),
                "--config-file: there is no such file; its name is not shown, because it may be a secret; \
                 give the path of a file, and not its text"
            );
        }
    }

    #[test]
    fn the_defaults_survive_being_printed() {
        assert_eq!(
            accept(&Config::default().to_yaml().unwrap()),
            Config::default()
        );
    }

    #[test]
    fn a_token_is_printed_as_a_placeholder_that_does_not_load() {
        let text = "relay: {publish: token, publish_tokens: [secret-4711-secret]}";
        let printed = accept(text).to_yaml().unwrap();
        assert!(
            printed.contains("(hidden)") && !printed.contains("4711"),
            "{printed}"
        );
        assert!(
            refuse(&printed)
                .contains("relay.publish_tokens[0]: found the placeholder that --print-config")
        );
    }

    fn any_config() -> impl Strategy<Value = Config> {
        let sizes = (125..64usize << 20, 1024..65_537usize, 0..1usize << 20);
        let waits = (1..3_600_000u64, 0..600_000u64);
        let path = proptest::option::of("[^\0]{1,25}");
        let paths = (path, "[a-z][a-z0-9.-]{0,20}");
        let origins =
            proptest::collection::vec("null|(\\*\\.|https://)?[a-z]{1,9}\\.[a-z]{2}", 0..4);
        (sizes, waits, paths, origins, any::<bool>()).prop_map(
            |((message, header, more), (wait, stop), (path, host), origins, flag)| {
                let mut config = Config::default();
                config.limits.max_message_bytes = message;
                config.limits.max_header_bytes = header;
                config.slow_consumer.max_lag_bytes = 2 * message + more;
                config.slow_consumer.stall_timeout = Duration::from_millis(wait);
                config.shutdown.timeout = Duration::from_millis(stop);
                config.server.unix_socket = path.map(PathBuf::from);
                config.server.unix_socket_mode = header as u32 % 0o1000;
                config.server.host = host;
                config.server.allowed_origins =
                    origins.iter().map(|text| text.parse().unwrap()).collect();
                config.relay.echo = flag;
                config
            },
        )
    }

    proptest! {
        #[test]
        fn a_printed_configuration_loads_as_an_equal_one(config in any_config()) {
            prop_assert_eq!(Config::from_yaml(&config.to_yaml().unwrap(), "printed"), Ok(config));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z:{}\\[\\],&*!|>'\"\n\t #-]{0,200}") {
            if let Err(error) = Config::from_yaml(&text, "any") {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
