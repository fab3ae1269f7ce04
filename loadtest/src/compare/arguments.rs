//! The options of `loadtest compare`, beside those of a run.

use std::path::PathBuf;

use clap::{Args, Command};

use super::cpus::Cpus;
use crate::run::RunError;
use crate::scenario::options::{Options, Outputs};

/// Options of a run that a comparison sets itself.
const OWN: [&str; 4] = ["url", "server_pid", "metrics_url", "server_config"];

/// The arguments of `loadtest compare [SCENARIO]`.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// The load, the same for all.
    #[command(flatten)]
    pub(crate) options: Options,
    /// Servers to start, by name; see --list. The default is all, unless --server is given.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) servers: Vec<String>,
    /// A server that runs already, as NAME=URL. May be given several times.
    #[arg(long, value_name = "NAME=URL")]
    pub(crate) server: Vec<String>,
    /// Lists the servers that can be started, and what they lack.
    #[arg(long)]
    pub(crate) list: bool,
    /// Compares over TLS. Each server that is started has the same certificate, which is made for this comparison, and
    /// the generator trusts only that. A server without TLS is reported as absent. --server is reached as its URL says.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Runs of each server.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) repeats: u16,
    /// Processors that servers run on, such as 0 or 0,2-3. The default is the first.
    #[arg(long, value_name = "LIST")]
    pub(crate) server_cpus: Option<Cpus>,
    /// Processors that the generator runs on. The default is all others.
    #[arg(long, value_name = "LIST")]
    pub(crate) generator_cpus: Option<Cpus>,
    /// The folder of the peers.
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"), hide_default_value = true)]
    pub(crate) peers: PathBuf,
    /// Writes the table in Markdown.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// The files that the comparison is written to.
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

/// The subcommand.
pub(crate) fn command() -> Command {
    let command = Command::new("compare").about("Loads several servers in turns, and shows them side by side").after_help(
        "Exit status: 0 every run passed; 1 a run failed, or a server named with --servers is absent (not installed or, with \
         --tls, without TLS); 2 the command line makes no sense.",
    );
    let mut command = CompareArguments::augment_args(command);
    for own in OWN {
        command = command.mut_arg(own, |argument| argument.required(false).hide(true));
    }
    // It is never used: each server has its own URL.
    command.mut_arg("url", |argument| argument.default_value(""))
}

/// Refuses options that a comparison sets itself. `was_typed` says whether an option was typed.
pub(crate) fn check(was_typed: impl Fn(&str) -> bool) -> Result<(), RunError> {
    let Some(own) = OWN.into_iter().find(|own| was_typed(own)) else {
        return Ok(());
    };
    let own = own.replace('_', "-");
    Err(RunError::Usage(format!(
        "--{own} has no meaning in a comparison: each server has its own (--servers, --server NAME=URL)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subcommand_is_well_formed() {
        command().debug_assert();
    }
}
