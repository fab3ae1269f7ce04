//! The comparison itself: it starts, loads and ends each server, round after round.

use std::io::{self, Write};

use super::arguments::CompareArguments;
use super::cpus::{Cpus, pin};
use super::peers::certificate::Certificate;
use super::peers::{Peer, Places, Started};
use super::servers::{Source, compared, load, places, sources};
use crate::report::observer::Observer as _;
use crate::report::progress::Bar;
use crate::report::{Compared, Comparison, Report, SCHEMA_VERSION, summary};
use crate::run::{RunError, run};
use crate::scenario::protocol::Resume;
use crate::scenario::scenarios::Scenario;

/// The server that the others are compared with by CPU.
const FLOOR: &str = "floor";

/// Loads all servers, in rounds.
pub(crate) fn compare(arguments: &CompareArguments) -> Result<Comparison, RunError> {
    let sources = sources(arguments)?;
    let places = places(arguments)?;
    let (server_cpus, generator_cpus) = processors(arguments)?;
    let stop = Bar::new(true);
    let mut servers: Vec<Compared> = sources
        .iter()
        .map(|source| compared(source, &places, load(arguments)))
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
    // If no server could be loaded because the options make no sense, the command line is wrong.
    if let Some(error) = usage.filter(|_| servers.iter().all(|server| server.runs.is_empty())) {
        return Err(error);
    }
    for server in servers.iter_mut().filter(|server| server.runs.is_empty()) {
        if server.absent.is_none() && server.errors.is_empty() {
            server.absent = Some("it did not run: the comparison was stopped early".to_owned());
        }
    }
    Ok(stand.conclude(servers))
}

/// The round and the server of each run. Every round begins with the next server.
fn turns(rounds: usize, servers: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rounds)
        .flat_map(move |round| (0..servers).map(move |turn| (round, (round + turn) % servers)))
}

/// The settings that all runs share.
struct Stand<'a> {
    arguments: &'a CompareArguments,
    places: Places,
    /// The certificate of the servers, if they are to speak TLS.
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
                options.url = vec![url.clone()];
                None
            }
            Source::Peer(peer) => Some(self.start(peer)?),
        };
        if options.scenario == Scenario::Jitter && options.resume.is_none() {
            options.resume = Some(match source {
                Source::Peer(peer) => peer.resume,
                Source::Running(_) => Resume::None,
            });
        }
        if let Some(started) = &started {
            options.url = vec![format!("ws://{}/load", started.address)];
            if let Some(certificate) = &started.certificate {
                options.url = vec![format!("wss://{}/load", started.address)];
                options.ca = Some(certificate.clone());
                // `--insecure` is for servers that run already.
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

    /// Starts a server. It inherits the processors of this thread.
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

/// Processors of the servers and of the generator.
fn processors(arguments: &CompareArguments) -> Result<(Cpus, Cpus), RunError> {
    let available = Cpus::available().map_err(|error| RunError::Failed(error.to_string()))?;
    let servers = arguments
        .server_cpus
        .clone()
        .unwrap_or_else(|| available.first());
    if let Some(missing) = servers.0.iter().find(|cpu| !available.0.contains(cpu)) {
        return Err(RunError::Usage(format!(
            "--server-cpus: processor {missing} is not there, or this process may not use it"
        )));
    }
    let others = available.without(&servers);
    Ok((servers, arguments.generator_cpus.clone().unwrap_or(others)))
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
}
