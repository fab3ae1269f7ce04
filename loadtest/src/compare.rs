//! Several servers under the same load, in turns: `loadtest compare`.
//!
//! Each server runs alone on its processors, the generator on others. Servers take turns, each round beginning with the
//! next, so that what disturbs the machine for a while disturbs all. What is not installed, or has no
//! TLS where that is compared, is reported, not skipped.

pub mod cpus;
pub mod summary;
pub mod table;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command};

use crate::observer::Observer as _;
use crate::options::{Options, Outputs};
use crate::peers::certificate::Certificate;
use crate::peers::{PEERS, Peer, Places, Started};
use crate::progress::Bar;
use crate::report::{Compared, Comparison, Report, SCHEMA_VERSION};
use crate::secrets;
use crate::target::Target;
use crate::{RunError, run};
use cpus::{Cpus, pin};

/// The server that the CPU of others is a multiple of.
const FLOOR: &str = "floor";

/// Options of a run that a comparison sets itself.
const OWN: [&str; 4] = ["url", "server_pid", "metrics_url", "server_config"];

/// What `loadtest compare [SCENARIO]` takes.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// The load, the same for all.
    #[command(flatten)]
    pub options: Options,
    /// Servers to start, by name; all that are known, if none is named. --list says which those are.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub servers: Vec<String>,
    /// A server that runs already, as NAME=URL; may be given several times.
    #[arg(long, value_name = "NAME=URL")]
    pub server: Vec<String>,
    /// Lists the servers that can be started and what they lack, and ends.
    #[arg(long)]
    pub list: bool,
    /// Compares over TLS: each server that is started shows the same certificate, made for this comparison, and the
    /// generator trusts that alone. A server that has no TLS here is reported; --server is reached as its URL says.
    #[arg(long)]
    pub tls: bool,
    /// How often each server runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub repeats: u16,
    /// Processors that servers run on, such as 0 or 0,2-3; the first that there is, if nothing is said.
    #[arg(long, value_name = "LIST")]
    pub server_cpus: Option<Cpus>,
    /// Processors that the generator runs on; all others, if nothing is said.
    #[arg(long, value_name = "LIST")]
    pub generator_cpus: Option<Cpus>,
    /// Where the peers are.
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/peers"), hide_default_value = true)]
    pub peers: PathBuf,
    /// Writes the table there in Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Where the reports go.
    #[command(flatten)]
    pub outputs: Outputs,
}

/// The subcommand.
pub fn command() -> Command {
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

/// A server of a comparison.
#[derive(Clone, Debug)]
enum Source {
    Peer(&'static Peer),
    Running(String),
}

/// Whether the options that a comparison sets itself were left alone; `was_typed` says it of one.
pub fn check(was_typed: impl Fn(&str) -> bool) -> Result<(), RunError> {
    let Some(own) = OWN.into_iter().find(|own| was_typed(own)) else {
        return Ok(());
    };
    let own = own.replace('_', "-");
    Err(RunError::Usage(format!(
        "--{own} has no meaning here: each server has its own (--servers, --server NAME=URL)"
    )))
}

/// Loads all servers, in rounds.
pub fn compare(arguments: &CompareArguments) -> Result<Comparison, RunError> {
    let sources = sources(arguments)?;
    let places = places(arguments)?;
    let (server_cpus, generator_cpus) = processors(arguments)?;
    let stop = Bar::new(true);
    let mut servers: Vec<Compared> = sources
        .iter()
        .map(|source| compared(source, &places, arguments.tls))
        .collect();
    pin(&generator_cpus).map_err(|error| RunError::Usage(format!("--generator-cpus: {error}")))?;
    let repeats = usize::from(arguments.repeats);
    let certificate = arguments.tls.then(Certificate::make).transpose();
    let stand = Stand {
        arguments,
        places,
        certificate: certificate.map_err(RunError::Failed)?,
        server_cpus,
        generator_cpus,
    };
    let mut usage = None;
    for (round, index) in turns(repeats, sources.len()) {
        let server = &mut servers[index];
        if stop.is_stopped() || server.absent.is_some() || !server.errors.is_empty() {
            continue;
        }
        stand.announce(round, &server.name);
        match stand.load(&sources[index].1) {
            Ok(report) => server.runs.push(report),
            Err(error) => {
                server.errors.push(error.to_string());
                usage = Some(error)
                    .filter(|error| matches!(error, RunError::Usage(_)))
                    .or(usage);
            }
        }
    }
    // When nobody could be loaded, and for a reason that is in the options, that is what to say.
    if let Some(error) = usage.filter(|_| servers.iter().all(|server| server.runs.is_empty())) {
        return Err(error);
    }
    for server in servers.iter_mut().filter(|server| server.runs.is_empty()) {
        if server.absent.is_none() && server.errors.is_empty() {
            server.absent = Some("it did not run: the comparison was ended early".to_owned());
        }
    }
    Ok(stand.conclude(servers))
}

/// Round and server, for each run: every round begins with the next server.
fn turns(rounds: usize, servers: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rounds)
        .flat_map(move |round| (0..servers).map(move |turn| (round, (round + turn) % servers)))
}

/// What all runs share.
struct Stand<'a> {
    arguments: &'a CompareArguments,
    places: Places,
    /// What servers show, if they are to speak TLS.
    certificate: Option<Certificate>,
    server_cpus: Cpus,
    generator_cpus: Cpus,
}

impl Stand<'_> {
    fn announce(&self, round: usize, name: &str) {
        if !self.arguments.outputs.quiet {
            // There is nowhere else to say that the terminal is gone.
            let _ = writeln!(
                io::stderr(),
                "round {} of {}: {name}",
                round + 1,
                self.arguments.repeats
            );
        }
    }

    /// One run of one server.
    fn load(&self, source: &Source) -> Result<Report, RunError> {
        let mut options = self.arguments.options.clone();
        let mut started = match source {
            Source::Running(url) => {
                options.url.clone_from(url);
                None
            }
            Source::Peer(peer) => Some(self.start(peer)?),
        };
        if let Some(started) = &started {
            options.url = format!("ws://{}/load", started.address);
            if let Some(certificate) = &started.certificate {
                options.url = format!("wss://{}/load", started.address);
                options.ca = Some(certificate.clone());
                // What else is trusted is for servers that run already.
                options.insecure = false;
            }
            options.server_pid = Some(started.pid());
            options.server_config.clone_from(&started.config);
            options.metrics_url.clone_from(&started.metrics_url);
        }
        let bar = Bar::new(self.arguments.outputs.quiet);
        let report = run(&options, &bar);
        bar.finish();
        if let Some(how) = started.as_mut().and_then(Started::has_ended) {
            return Err(RunError::Failed(format!("it {how}")));
        }
        report
    }

    /// The server inherits what this thread is pinned to.
    fn start(&self, peer: &Peer) -> Result<Started, RunError> {
        let failed = |error: io::Error| RunError::Failed(format!("--server-cpus: {error}"));
        pin(&self.server_cpus).map_err(failed)?;
        let (workers, certificate) = (self.server_cpus.0.len(), self.certificate.as_ref());
        let started = peer.start(&self.places, workers, certificate);
        pin(&self.generator_cpus).map_err(failed)?;
        started.map_err(RunError::Failed)
    }

    fn conclude(self, servers: Vec<Compared>) -> Comparison {
        let was_named = |server: &Compared| self.arguments.servers.contains(&server.name);
        let named_and_absent = servers
            .iter()
            .any(|server| server.absent.is_some() && was_named(server));
        let has_floor = servers
            .iter()
            .any(|server| server.name == FLOOR && !server.runs.is_empty());
        let mut comparison = Comparison {
            schema_version: SCHEMA_VERSION,
            passed: false,
            repeats: usize::from(self.arguments.repeats),
            server_cpus: self.server_cpus.0,
            generator_cpus: self.generator_cpus.0,
            floor: has_floor.then(|| FLOOR.to_owned()),
            servers,
        };
        summary::summarise(&mut comparison);
        comparison.passed &= !named_and_absent;
        comparison
    }
}

/// The servers that were asked for, by name.
fn sources(arguments: &CompareArguments) -> Result<Vec<(String, Source)>, RunError> {
    let mut sources: Vec<(String, Source)> = Vec::new();
    for name in &arguments.servers {
        let peer = Peer::named(name).ok_or_else(|| {
            let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            RunError::Usage(format!(
                "--servers: {name} is not known; there are {}",
                names.join(", ")
            ))
        })?;
        sources.push((name.clone(), Source::Peer(peer)));
    }
    // All, unless somebody was named or runs already.
    if arguments.servers.is_empty() && arguments.server.is_empty() {
        sources.extend(
            PEERS
                .iter()
                .map(|peer| (peer.name.to_owned(), Source::Peer(peer))),
        );
    }
    for text in &arguments.server {
        sources.push(running(text).map_err(|why| RunError::Usage(format!("--server {why}")))?);
    }
    for (index, (name, _)) in sources.iter().enumerate() {
        if sources[..index].iter().any(|(other, _)| other == name) {
            return Err(RunError::Usage(format!("the server {name} is there twice")));
        }
    }
    Ok(sources)
}

/// A server that runs already, of `NAME=URL`.
fn running(text: &str) -> Result<(String, Source), String> {
    // The first = may as well be one of a URL without a name before it.
    let is_name = |name: &str| !name.is_empty() && !name.contains([':', '/', '?', '@']);
    let named = text.split_once('=').filter(|(name, _)| is_name(name));
    let Some((name, url)) = named else {
        let shown = secrets::hide_in(text);
        return Err(format!("{shown}: a name, = and a URL are to stand there"));
    };
    Target::parse(url).map_err(|why| format!("{name}={why}"))?;
    Ok((name.to_owned(), Source::Running(url.to_owned())))
}

fn compared((name, source): &(String, Source), places: &Places, speaks_tls: bool) -> Compared {
    let (about, absent) = match source {
        Source::Peer(peer) => (peer.about.to_owned(), peer.absent(places, speaks_tls)),
        Source::Running(url) => {
            let url = secrets::hide_in(url);
            (format!("A server that was running, at {url}."), None)
        }
    };
    Compared {
        name: name.clone(),
        about,
        absent,
        errors: Vec::new(),
        summary: None,
        runs: Vec::new(),
    }
}

fn places(arguments: &CompareArguments) -> Result<Places, RunError> {
    let program = std::env::current_exe().map_err(|error| RunError::Failed(error.to_string()))?;
    let here = program.parent().unwrap_or(&program).to_owned();
    Ok(Places {
        here,
        peers: arguments.peers.clone(),
    })
}

/// Processors of the servers and of the generator.
fn processors(arguments: &CompareArguments) -> Result<(Cpus, Cpus), RunError> {
    let available = Cpus::available().map_err(|error| RunError::Failed(error.to_string()))?;
    let servers = arguments
        .server_cpus
        .clone()
        .unwrap_or_else(|| available.first());
    if let Some(missing) = servers.0.iter().find(|cpu| !available.0.contains(cpu)) {
        return Err(RunError::Usage(format!(
            "--server-cpus: there is no processor {missing} for us"
        )));
    }
    let others = available.without(&servers);
    Ok((servers, arguments.generator_cpus.clone().unwrap_or(others)))
}

/// The servers that can be started, a line each.
pub fn list(arguments: &CompareArguments) -> Result<String, RunError> {
    let places = places(arguments)?;
    let line = |peer: &Peer| {
        let absent = peer
            .absent(&places, arguments.tls)
            .map_or(String::new(), |absent| format!(" ({absent})"));
        format!("{:<24}{}{absent}\n", peer.name, peer.about)
    };
    Ok(PEERS.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_the_next_server_and_has_all() {
        let turns: Vec<_> = turns(3, 3).collect();
        let expected = [
            (0, 0),
            (0, 1),
            (0, 2),
            (1, 1),
            (1, 2),
            (1, 0),
            (2, 2),
            (2, 0),
            (2, 1),
        ];
        assert_eq!(turns, expected);
    }

    #[test]
    fn the_subcommand_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn a_server_that_runs_has_a_name_and_an_address() {
        let (name, source) = running("a=ws://b/?c=d").unwrap();
        assert!(name == "a" && matches!(source, Source::Running(url) if url == "ws://b/?c=d"));
        for wrong in ["ws://b", "ws://b/?c=d", "=ws://b", "a=b", "a=", ""] {
            assert!(running(wrong).is_err(), "{wrong}");
        }
    }
}
