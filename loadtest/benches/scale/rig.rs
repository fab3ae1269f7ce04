//! The test bench: it starts a server by name, loads it, and ends it.

use std::path::Path;
use std::time::Duration;

use loadtest::cli;
use loadtest::compare::cpus::{Cpus, pin};
use loadtest::compare::peers::{Peer, Places, Started};
use loadtest::report::Report;
use loadtest::report::observer::{Observer, Silent};
use loadtest::run;
use loadtest::scenario::options::Options;

/// The type of this module.
pub(crate) struct Rig {
    places: Places,
    server_cpus: Cpus,
    generator_cpus: Cpus,
    repeats: usize,
    duration: Duration,
}

/// Length of the load before each measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// A case to measure: a server and the load on it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// One of the generator's peers.
    pub(crate) server: &'static str,
    /// Its event loops, if it can have several.
    pub(crate) workers: usize,
    /// The scenario and its options, as on the command line.
    pub(crate) load: String,
}

impl Rig {
    /// A test bench whose servers are in the folder `programs`.
    pub(crate) fn new(programs: &Path, repeats: usize, duration: Duration) -> Result<Rig, String> {
        let available = Cpus::available().map_err(|error| error.to_string())?;
        let server_cpus = available.first();
        Ok(Rig {
            places: Places {
                here: programs.to_owned(),
                peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
            },
            generator_cpus: available.without(&server_cpus),
            server_cpus,
            repeats,
            duration,
        })
    }

    /// The reports of each case, which take turns.
    pub(crate) fn measure(&self, cases: &[Case]) -> Result<Vec<Vec<Report>>, String> {
        let mut reports: Vec<Vec<Report>> = cases.iter().map(|_| Vec::new()).collect();
        for round in 0..self.repeats {
            for turn in 0..cases.len() {
                let index = (round + turn) % cases.len();
                let case = &cases[index];
                eprintln!(
                    "round {}: {} x{} {}",
                    round + 1,
                    case.server,
                    case.workers,
                    case.load
                );
                let server = self.start(case.server, case.workers)?;
                reports[index].push(self.load(&server, &case.load)?);
            }
        }
        Ok(reports)
    }

    /// Starts a server on its processors.
    pub(crate) fn start(&self, server: &str, workers: usize) -> Result<Started, String> {
        let peer = Peer::named(server).ok_or(format!("{server} is not a peer"))?;
        if let Some(missing) = peer.missing(&self.places) {
            return Err(format!("{server}: {missing}"));
        }
        let pinned = |cpus| pin(cpus).map_err(|error| error.to_string());
        pinned(&self.server_cpus)?;
        let started = peer.start(&self.places, workers, None);
        pinned(&self.generator_cpus)?;
        started
    }

    /// The number of rounds.
    pub(crate) fn repeats(&self) -> usize {
        self.repeats
    }

    /// The length of a load.
    pub(crate) fn duration(&self) -> Duration {
        self.duration
    }

    /// Loads it from this thread's processors, alone.
    pub(crate) fn load(&self, server: &Started, load: &str) -> Result<Report, String> {
        load_at(server, "load", load, self.duration, &Silent)
    }
}

/// Loads a server from this thread's processors, at a path of its own.
pub(crate) fn load_at(
    server: &Started,
    path: &str,
    load: &str,
    duration: Duration,
    observer: &dyn Observer,
) -> Result<Report, String> {
    let mut options = options(load)?;
    options.url = vec![format!("ws://{}/{path}", server.address)];
    options.server_pid = Some(server.pid());
    options.duration = duration;
    options.warmup = WARM_UP;
    let report = run(&options, observer).map_err(|error| error.to_string())?;
    if report.passed {
        Ok(report)
    } else {
        Err(report.failures.join("; "))
    }
}

/// The options of a line. The address is filled in later.
fn options(load: &str) -> Result<Options, String> {
    let words = format!("loadtest {load} --url ws://127.0.0.1:1/");
    let matches = cli::command()
        .try_get_matches_from(words.split_whitespace())
        .map_err(|error| error.to_string())?;
    Ok(cli::run_arguments(&matches)?.options)
}

/// The median of a figure over several runs; 0 if no run has it.
pub(crate) fn median(reports: &[Report], figure: impl Fn(&Report) -> Option<f64>) -> f64 {
    loadtest::report::spread(reports.iter().filter_map(figure)).map_or(0.0, |spread| spread.median)
}
