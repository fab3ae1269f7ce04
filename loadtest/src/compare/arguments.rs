//! What `loadtest compare` is asked to do: its own options, beside those of a run.

use std::path::PathBuf;

use clap::{Args, Command};

use super::cpus::Cpus;
use crate::run::RunError;
use crate::scenario::options::{Options, Outputs};

/// Options of a run that a comparison sets itself.
const OWN: [&str; 4] = ["url", "server_pid", "metrics_url", "server_config"];

/// What `loadtest compare [SCENARIO]` takes.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// The load, the same for all.
    #[command(flatten)]
    pub(crate) options: Options,
    /// Servers to start, by name; all that are known, if none is named. --list says which those are.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) servers: Vec<String>,
    /// A server that runs already, as NAME=URL; may be given several times.
    #[arg(long, value_name = "NAME=URL")]
    pub(crate) server: Vec<String>,
    /// Lists the servers that can be started and what they lack, and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Compares over TLS: each server that is started shows the same certificate, made for this comparison, and the
    /// generator trusts that alone. A server that has no TLS here is reported; --server is reached as its URL says.
    #[arg(long)]
    pub(crate) tls: bool,
    /// How often each server runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) repeats: u16,
    /// Processors that servers run on, such as 0 or 0,2-3; the first that there is, if nothing is said.
    #[arg(long, value_name = "LIST")]
    pub(crate) server_cpus: Option<Cpus>,
    /// Processors that the generator runs on; all others, if nothing is said.
    #[arg(long, value_name = "LIST")]
    pub(crate) generator_cpus: Option<Cpus>,
    /// Where the peers are.
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"), hide_default_value = true)]
    pub(crate) peers: PathBuf,
    /// Writes the table there in Markdown.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
    /// Where the reports go.
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

/// The subcommand.
pub(crate) fn command() -> Command {
    let command = Command::new("compare").about("Loads several servers in turns, and shows them side by side").after_help(
        "Exit status: 0 every run passed, 1 a run failed or could not be made, or a server named with --servers is not \
         installed or, with --tls, has no TLS, 2 the command line makes no sense. Such a server fails nothing unless it was \
         named.",
    );
    let mut command = CompareArguments::augment_args(command);
    for own in OWN {
        command = command.mut_arg(own, |argument| argument.required(false).hide(true));
    }
    // Never used: each server has its own.
    command.mut_arg("url", |argument| argument.default_value(""))
}

/// Whether the options that a comparison sets itself were left alone; `was_typed` says it of one.
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
