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

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use fanwire::config::{Config, Layers};
use fanwire::internals::metrics;
use fanwire::server::{self, Relay, StartError};

use crate::cli::{Args, ClientArgs, Command};

/// A failure at run time, or of the machine.
const FAILED: u8 = 1;
/// Wrong usage or configuration.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    outlive_full_files();
    match cli::parse(std::env::args_os()) {
        Ok(args) => answer(&args),
        Err(usage) => {
            // The reader may be gone. The exit code is still right.
            let _ = usage.print();
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(FAILED))
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
    let config = match layers.load() {
        Ok(config) => config,
        Err(error) => return complain(MISCONFIGURED, error),
    };
    if args.print_config {
        return match config.to_yaml() {
            Ok(yaml) => print(|out| out.write_all(yaml.as_bytes())),
            Err(error) => complain(MISCONFIGURED, error),
        };
    }
    let warnings = match server::check(&config) {
        Ok(warnings) => warnings,
        Err(error) => return complain(MISCONFIGURED, layers.locate(error)),
    };
    if args.check {
        let all = layers.warning().into_iter();
        for warning in all.chain(config.warnings()).chain(warnings) {
            warn(format_args!("{layers}: {warning}"));
        }
        return print(|out| writeln!(out, "{layers}: the configuration is valid"));
    }
    log_and_run(&config, &layers)
}

/// Asks a running relay for its health. Every failure has the same code: docker allows no other.
fn check_health(args: &Args, url: Option<&str>) -> ExitCode {
    let config = || {
        let layers = cli::layers(args, std::env::vars_os());
        layers.load().map_err(|error| error.to_string())
    };
    match probe::run(url, config) {
        Ok(line) => print(|out| writeln!(out, "{line}")),
        Err(reason) => complain(FAILED, reason),
    }
}

/// Runs the client instead of the relay.
fn be_client(args: &ClientArgs) -> ExitCode {
    match client::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ client::Failure::Usage(_)) => complain(MISCONFIGURED, failure),
        Err(failure @ (client::Failure::Connection(_) | client::Failure::Terminal(_))) => {
            complain(FAILED, failure)
        }
    }
}

fn log_and_run(config: &Config, layers: &Layers) -> ExitCode {
    let _guard = match logging::install(&config.log) {
        Ok(guard) => guard,
        Err(error) => return complain(FAILED, error),
    };
    // A panic goes through the log, which never blocks. Printed directly, it could block forever on a stuck reader of
    // standard error, and the relay would stay half alive.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "a thread panicked"),
    ));
    #[cfg(feature = "mimalloc")]
    if let Err(error) = allocator::release_unused_memory() {
        return complain(FAILED, format_args!("cannot start a thread: {error}"));
    }
    tracing::info!(source = %layers, "configuration loaded");
    for warning in layers.warning().into_iter().chain(config.warnings()) {
        tracing::warn!("{warning}");
    }
    run(config, layers)
}

/// Runs the relay until a signal or a failure.
fn run(config: &Config, layers: &Layers) -> ExitCode {
    let relay = match Relay::start_with_signals(config) {
        Ok(relay) => relay,
        Err(error) => {
            let code = start_error_code(&error);
            return match error {
                StartError::Config(error) => complain(code, layers.locate(error)),
                error => complain(code, layers.introduction(error.key()) + &error.to_string()),
            };
        }
    };
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

/// Prints the reason for which the program ends before there is a log.
fn complain(code: u8, reason: impl std::fmt::Display) -> ExitCode {
    // Standard error may be closed. The exit code is still right.
    let _ = writeln!(io::stderr(), "fanwire: {reason}");
    ExitCode::from(code)
}
