//! The program: it reads the command line, runs the relay, and ends with an exit code.
//!
//! The relay is in the library. Standard output carries only the answer to a flag; the log goes to standard
//! error. For neither does it use a macro that panics when the reader has gone.

#[cfg(feature = "mimalloc")]
mod allocator;
mod announce;
mod cli;
mod client;
mod logging;
mod probe;
mod rereading;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use fanwire::config::{Config, Layers, LogFormat};
use fanwire::internals::metrics;
use fanwire::internals::port::{TopicError, topic_name};
use fanwire::server::{self, Relay, RelayHandle, StartError};

use crate::cli::{Args, ClientArgs, Command};
use crate::rereading::Rereading;

/// A failure at run time, or of the machine.
const FAILED: u8 = 1;
/// Wrong usage or configuration.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    outlive_full_files();
    match cli::parse(std::env::args_os()) {
        Ok(args) => answer(&args),
        Err(usage) => {
            let code = u8::try_from(usage.exit_code()).unwrap_or(FAILED);
            let format = cli::usage_format(std::env::args_os(), std::env::vars_os());
            // Help is for people, and so is an error on a terminal.
            if usage.use_stderr() && format == LogFormat::Json && !io::stderr().is_terminal() {
                return complain(format, code, usage.to_string().trim_end());
            }
            // The reader may be gone. The exit code is still right.
            let _ = usage.print();
            ExitCode::from(code)
        }
    }
}

/// A write to a file that has reached its limit (`ulimit -f`) fails from now on. By default the signal SIGXFSZ ends the process:
/// a log at its limit would take all clients with it.
fn outlive_full_files() {
    // Nobody looks at the flag. A handler is enough. If there can be none, the default stays.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

/// Does what the flags ask for, or else runs the relay.
fn answer(args: &Args) -> ExitCode {
    if let Some(Command::Client(client)) = &args.command {
        return be_client(client);
    }
    if args.list_metrics {
        return print(metrics::print);
    }
    if let Some(url) = &args.health {
        return check_health(args, url.as_deref());
    }
    let layers = cli::layers(args, std::env::vars_os());
    // The answer to a flag is for people. A start goes into the log, whatever is wrong with the rest of the configuration.
    let is_answer = args.check || args.print_config || args.explain.is_some();
    let format = if is_answer {
        LogFormat::Text
    } else {
        layers.log_format()
    };
    let config = match layers.load() {
        Ok(config) => config,
        Err(error) => return complain(format, MISCONFIGURED, error),
    };
    if args.print_config {
        return match config.to_yaml() {
            Ok(yaml) => print(|out| out.write_all(yaml.as_bytes())),
            Err(error) => complain(format, MISCONFIGURED, error),
        };
    }
    if let Some(path) = &args.explain {
        return match explain(&config, path) {
            Ok(text) => print(|out| out.write_all(text.as_bytes())),
            Err(reason) => complain(format, MISCONFIGURED, format_args!("--explain: {reason}")),
        };
    }
    let warnings = match server::check(&config) {
        Ok(warnings) => warnings,
        Err(error) => return complain(format, MISCONFIGURED, layers.locate(error)),
    };
    let warnings = layers.warnings(&warnings);
    if args.check {
        for warning in warnings {
            warn(warning);
        }
        return print(|out| writeln!(out, "{layers}: the configuration is valid"));
    }
    log_and_run(args, &config, &layers, &warnings)
}

/// The settings of the topic that the path of a URL names. A query does not count, as in a request.
fn explain(config: &Config, path: &str) -> Result<String, &'static str> {
    let (path, _query) = path.split_once('?').unwrap_or((path, ""));
    if !path.starts_with('/') {
        return Err("the path does not begin with `/`; use the path of a URL, such as /room");
    }
    let topic = topic_name(config.relay.topics, path).map_err(|error| match error {
        TopicError::TooLong => "no topic has such a long name; use a path of at most 512 bytes",
        TopicError::BadEscape => {
            "`%` is not followed by two hexadecimal digits; write a plain percent sign as %25"
        }
        TopicError::NotUtf8 => "the decoded path is not UTF-8; encode it as UTF-8",
    })?;
    Ok(config.explain(&topic))
}

/// Asks a running relay for its health. Every failure has the same code: docker allows no other.
fn check_health(args: &Args, url: Option<&str>) -> ExitCode {
    let config = || {
        let layers = cli::layers(args, std::env::vars_os());
        layers.load().map_err(|error| error.to_string())
    };
    match probe::run(url, config) {
        Ok(line) => print(|out| writeln!(out, "{line}")),
        Err(reason) => complain(LogFormat::Text, FAILED, reason),
    }
}

/// Runs the client instead of the relay.
fn be_client(args: &ClientArgs) -> ExitCode {
    match client::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ client::Failure::Usage(_)) => {
            complain(LogFormat::Text, MISCONFIGURED, failure)
        }
        Err(failure @ (client::Failure::Connection(_) | client::Failure::Terminal(_))) => {
            complain(LogFormat::Text, FAILED, failure)
        }
    }
}

fn log_and_run(args: &Args, config: &Config, layers: &Layers, warnings: &[String]) -> ExitCode {
    let format = config.log.format;
    let (guard, knobs) = match logging::install(&config.log, config.shutdown.time_for_last_lines())
    {
        Ok(log) => log,
        Err(error) => return complain(format, FAILED, error),
    };
    // A panic goes through the log, which never blocks. Printed directly, it could block forever on a stuck reader of
    // standard error, and the relay would stay half alive.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "a thread panicked"),
    ));
    #[cfg(feature = "mimalloc")]
    if let Err(error) = allocator::release_unused_memory() {
        return complain(
            format,
            FAILED,
            format_args!("cannot start a thread: {error}"),
        );
    }
    tracing::info!(source = %layers, "configuration loaded");
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let source = Rereading::new(args.clone(), layers.clone(), knobs);
    match Relay::start_with_signals(config, Box::new(source)) {
        Ok(relay) => run(config, relay),
        Err(error) => {
            // The earlier lines of the log come first.
            drop(guard);
            let code = start_error_code(&error);
            match error {
                StartError::Config(error) => complain(format, code, layers.locate(error)),
                error => {
                    let introduction = layers.introduction(error.key());
                    complain(format, code, introduction + &error.to_string())
                }
            }
        }
    }
}

/// Runs the relay until a signal or a failure.
fn run(config: &Config, relay: RelayHandle) -> ExitCode {
    announce::announce(config, &relay);
    match relay.join() {
        Ok(_) => {
            tracing::info!("the relay has shut down");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "the relay has failed");
            ExitCode::from(FAILED)
        }
    }
}

/// The exit code of a failed start. A port in use, a path that cannot be bound and the like are failures of the machine: they
/// may pass, so a supervisor should try again.
fn start_error_code(error: &StartError) -> u8 {
    match error {
        StartError::Config(_) => MISCONFIGURED,
        StartError::Listen { .. } | StartError::UnixSocket { .. } | StartError::System(_) => FAILED,
    }
}

fn print(text: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) -> ExitCode {
    match cli::print_to(&mut io::stdout().lock(), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(
            LogFormat::Text,
            FAILED,
            format_args!("cannot write to standard output: {error}"),
        ),
    }
}

/// Prints something that a person should look at, beside the answer to a flag.
fn warn(warning: impl std::fmt::Display) {
    // Standard error may be closed. The answer is still right.
    let _ = writeln!(io::stderr(), "fanwire: warning: {warning}");
}

/// Says why the program ends without a relay, and gives the exit code.
fn complain(format: LogFormat, code: u8, reason: impl std::fmt::Display) -> ExitCode {
    logging::complain(format, &reason);
    ExitCode::from(code)
}
