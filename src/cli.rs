//! The command line and the configuration that it selects.
//!
//! `main` calls [`parse`] and [`layers`], and prints through [`print_to`]. Nothing here ends the process or writes a log.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use fanwire::config::{DEFAULT_FILE, Layers, LogFormat};

/// The flag for the file. Old scripts write it with one dash.
const CONFIG_FILE_FLAG: &str = "--config-file";

/// A high-throughput, sharded WebSocket relay: every message reaches every client on the same path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Parser)]
#[command(name = "fanwire", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Read the configuration from PATH, which must exist
    #[arg(long, value_name = "PATH")]
    pub config_file: Option<PathBuf>,

    /// Set a key to a value in YAML, such as server.port=9000, over the environment and the file; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<OsString>,

    /// Check the configuration, report the first mistake or the warnings, and exit
    #[arg(long, group = "action")]
    pub check: bool,

    /// Print the complete configuration as YAML, with the defaults, and exit
    #[arg(long, group = "action")]
    pub print_config: bool,

    /// Print the rule of `topics` that applies to the topic of this path, and the settings that it has, and exit
    #[arg(long, value_name = "PATH", group = "action")]
    pub explain: Option<String>,

    /// Print the name, type and meaning of every metric, and exit
    #[arg(long, group = "action")]
    pub list_metrics: bool,

    /// Ask a running relay for its health, by default the one of the configuration, and exit with 0 or 1
    #[arg(long, value_name = "URL", group = "action")]
    #[expect(
        clippy::option_option,
        reason = "clap's type for a flag whose value may be left out"
    )]
    pub health: Option<Option<String>>,

    /// Another role of the program.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The program's other roles.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Connect to a relay, send each line of standard input, and print what arrives
    Client(ClientArgs),
}

/// The client's arguments.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = CLIENT_AFTER_HELP)]
pub(crate) struct ClientArgs {
    /// The relay: ws://HOST:PORT/TOPIC, or wss:// for TLS
    #[arg(default_value = "ws://127.0.0.1:8443/")]
    pub url: String,

    /// Trust the certificates in FILE (PEM) instead of the authorities of the system
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Without --config-file, fanwire reads config.yaml in the working directory. If there is none, it uses the defaults.
Every key also has an environment variable, such as FANWIRE__SERVER__PORT for server.port.
A flag wins over a variable, and a variable over the file. If nothing names a port, PORT does.
Exit codes: 0 success, 1 failure at run time or of the machine, 2 wrong usage or configuration.";

const CLIENT_AFTER_HELP: &str = "\
The lines of standard input must be UTF-8.
Exit codes: 0 an orderly end (Ctrl-D, or a Close with code 1000 or 1001), 1 a refusal, a lost connection, a Close with
another code, or an input or output that fails, 2 wrong usage.";

/// Parses the command line, which starts with the program's name.
///
/// `-config-file` means `--config-file`. The earlier Go relay accepted one dash or two, and scripts and unit files
/// still use one.
///
/// # Errors
///
/// Bad usage. Also `--help` and `--version`, which clap's error prints.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(args.into_iter().map(with_two_dashes))
}

/// Adds the second dash to `-config-file` and `-config-file=PATH`.
fn with_two_dashes(arg: OsString) -> OsString {
    let one_dash = &CONFIG_FILE_FLAG.as_bytes()[1..];
    match arg.as_encoded_bytes().strip_prefix(one_dash) {
        Some([] | [b'=', ..]) => [OsStr::new("-"), &arg].into_iter().collect(),
        Some(_) | None => arg,
    }
}

/// Gathers the places of the configuration: the file that `args` select, the `variables` of the environment, and flags.
pub(crate) fn layers(
    args: &Args,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Layers {
    layers_in(Path::new(""), args, variables)
}

/// Gathers them again for a relay that runs with `last`, in the same places.
pub(crate) fn layers_again(args: &Args, last: &Layers) -> Layers {
    let again = last.gather_again(std::env::vars_os(), &args.set);
    // Without a file at the start, there may be one now.
    again.unwrap_or_else(|| layers(args, std::env::vars_os()))
}

/// Like [`layers`], with `directory` as the working directory.
fn layers_in(
    directory: &Path,
    args: &Args,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Layers {
    let by_default = || {
        let path = directory.join(DEFAULT_FILE);
        // Use the defaults only if there is no file. A file or dangling link that cannot be read is an error.
        let is_absent =
            fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        (!is_absent).then_some(path)
    };
    let file = args.config_file.clone().or_else(by_default);
    Layers::gather(file.as_deref(), variables, &args.set)
}

/// The format for an error of usage. The arguments were not understood, so this is a guess.
pub(crate) fn usage_format(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> LogFormat {
    let set: Vec<OsString> = args
        .into_iter()
        .filter_map(|arg| {
            let arg = arg.into_string().ok()?;
            let setting = arg.strip_prefix("--set=").unwrap_or(&arg);
            setting.starts_with("log.format=").then(|| setting.into())
        })
        .collect();
    let args = Args {
        set,
        ..Args::default()
    };
    layers(&args, variables).log_format()
}

/// Writes to `out`, a standard output. It is not an error if the reader has gone, as in `fanwire --help | head -1`.
pub(crate) fn print_to<W: Write>(
    out: &mut W,
    text: impl FnOnce(&mut W) -> io::Result<()>,
) -> io::Result<()> {
    let written = text(out).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(()) | Err(_) => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;
    use fanwire::config::{Config, ConfigError, LogLevel};
    use tempfile::TempDir;

    fn parse_all(args: &[&str]) -> Result<Args, clap::Error> {
        parse(
            std::iter::once("fanwire")
                .chain(args.iter().copied())
                .map(OsString::from),
        )
    }

    #[test]
    fn no_two_flags_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_arguments_ask_for_nothing() {
        assert_eq!(parse_all(&[]).unwrap(), Args::default());
    }

    #[test]
    fn the_file_flag_takes_one_dash_or_two_and_a_space_or_an_equals_sign() {
        for args in [
            &["--config-file", "a.yaml"][..],
            &["--config-file=a.yaml"],
            &["-config-file", "a.yaml"],
            &["-config-file=a.yaml"],
        ] {
            let parsed = parse_all(args).unwrap();
            assert_eq!(
                parsed.config_file.as_deref(),
                Some(Path::new("a.yaml")),
                "for {args:?}"
            );
        }
    }

    #[test]
    fn other_flags_need_both_dashes() {
        for flag in ["-check", "-config-files", "-config", "-c"] {
            assert!(parse_all(&[flag]).is_err(), "for {flag}");
        }
    }

    #[test]
    fn the_client_has_a_url_and_may_have_a_file_of_authorities() {
        let client = |args: &[&str]| match parse_all(args).unwrap().command {
            Some(Command::Client(client)) => client,
            None => panic!("{args:?} is the client"),
        };
        assert_eq!(client(&["client"]).url, "ws://127.0.0.1:8443/");
        let told = client(&["client", "--ca", "ca.pem", "wss://a/b"]);
        assert_eq!(
            (told.url.as_str(), told.ca),
            ("wss://a/b", Some("ca.pem".into()))
        );
        assert!(parse_all(&["--check", "client"]).is_err());
    }

    #[test]
    fn the_health_of_the_configured_relay_or_of_another_can_be_asked_for() {
        let health = |args: &[&str]| parse_all(args).unwrap().health;
        assert_eq!(health(&[]), None);
        assert_eq!(health(&["--health"]), Some(None));
        assert_eq!(health(&["--health", "--config-file", "a"]), Some(None));
        assert_eq!(
            health(&["--health", "http://a/"]),
            Some(Some("http://a/".into()))
        );
        assert!(parse_all(&["--health", "--check"]).is_err());
    }

    #[test]
    fn a_path_need_not_be_unicode() {
        use std::os::unix::ffi::OsStringExt as _;
        let path = OsString::from_vec(b"a\xff.yaml".to_vec());
        let mut flag = OsString::from("-config-file=");
        flag.push(&path);
        assert_eq!(
            parse(["fanwire".into(), flag]).unwrap().config_file,
            Some(path.into())
        );
    }

    #[test]
    fn bad_usage_exits_with_2_and_help_with_0() {
        for args in [
            &["--nonsense"][..],
            &["extra"],
            &["--config-file"],
            &["--check", "--print-config"],
        ] {
            assert_eq!(parse_all(args).unwrap_err().exit_code(), 2, "for {args:?}");
        }
        assert_eq!(parse_all(&["--help"]).unwrap_err().exit_code(), 0);
        assert_eq!(
            parse_all(&["--version"]).unwrap_err().kind(),
            ErrorKind::DisplayVersion
        );
    }

    /// The configuration of `directory` with these arguments, and its places.
    fn load_in(directory: &TempDir, args: &Args) -> (Result<Config, ConfigError>, String) {
        let layers = layers_in(directory.path(), args, []);
        (layers.load(), layers.to_string())
    }

    #[test]
    fn without_a_file_the_defaults_apply() {
        let directory = tempfile::tempdir().unwrap();
        let (loaded, places) = load_in(&directory, &Args::default());
        assert_eq!(loaded, Ok(Config::default()));
        assert_eq!(places, "the defaults (there is no config.yaml here)");
    }

    #[test]
    fn the_file_in_the_working_directory_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DEFAULT_FILE);
        fs::write(&path, "server: {port: 1}").unwrap();
        let (loaded, places) = load_in(&directory, &Args::default());
        assert_eq!(
            (loaded.unwrap().server.port, places),
            (1, path.display().to_string())
        );
    }

    #[test]
    fn a_flag_sets_a_key_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(DEFAULT_FILE), "server: {port: 1}").unwrap();
        let args = parse_all(&["--set", "server.port=2", "--set=log.level=warn"]).unwrap();
        let config = load_in(&directory, &args).0.unwrap();
        assert_eq!((config.server.port, config.log.level), (2, LogLevel::Warn));
    }

    #[test]
    fn an_unreadable_file_is_not_replaced_by_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DEFAULT_FILE);
        std::os::unix::fs::symlink("absent.yaml", path).unwrap();
        assert!(load_in(&directory, &Args::default()).0.is_err());
    }

    #[test]
    fn a_file_named_on_the_command_line_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let args = Args {
            config_file: Some(directory.path().join("absent.yaml")),
            ..Args::default()
        };
        let error = load_in(&directory, &args).0.unwrap_err();
        assert!(error.to_string().contains("absent.yaml: cannot be read"));
    }

    /// A standard output that fails with one kind of error.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_not_an_error() {
        let write = |out: &mut Failing| out.write_all(b"text");
        assert!(print_to(&mut Failing(io::ErrorKind::BrokenPipe), write).is_ok());
        assert!(print_to(&mut Failing(io::ErrorKind::StorageFull), write).is_err());
    }
}
