//! A run from beginning to end: the options come in, the report goes out.
//!
//! The command line, a comparison and users of the library call [`run`]. The control (`control.rs`) leads the client's
//! threads from phase to phase, while `watch.rs` watches the relay's process. Then `conclude.rs` makes the report and
//! `judge.rs` the verdict. This room imports `scenario`, `report`, `check` and `client`.

mod conclude;
mod control;
mod counters;
mod findings;
mod judge;
mod machine;
pub(crate) mod processes;
mod series;
mod watch;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;

use self::control::Control;
use self::counters::{Counted, Exporter, Readings};
use self::watch::Watch;
use crate::client::stream::Route;
use crate::client::{probe, tls};
use crate::report::observer::Observer;
use crate::report::{Counters, Report};
use crate::scenario::limits;
use crate::scenario::options::Options;
use crate::scenario::plan::Plan;
use crate::scenario::target::Target;
use crate::secrets;

/// Time that the relay's counters may take to agree: it may publish them only now and then.
const COUNTERS: Duration = Duration::from_secs(3);

/// The reason why a run has no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The options make no sense, alone or together, or this machine does not allow what they ask for.
    Usage(String),
    /// The server cannot be reached or is not a relay, or the system failed.
    Failed(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Usage(what) | RunError::Failed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RunError {}

/// Loads a relay as the options say, and returns the report. Blocks until the run is over. `observer` is told of the
/// progress and may end the run early.
pub fn run(options: &Options, observer: &dyn Observer) -> Result<Report, RunError> {
    let nonce = nonce();
    limits::check_descriptors(options).map_err(RunError::Usage)?;
    let mut plan = Plan::new(options, nonce).map_err(RunError::Usage)?;
    limits::check(&plan).map_err(RunError::Usage)?;
    let configuration = read_server_config(options).map_err(RunError::Usage)?;
    let exporter = options.metrics_url.as_deref().map(Exporter::parse);
    let exporter = exporter.transpose().map_err(RunError::Usage)?;
    let routes = routes(options, &plan).map_err(RunError::Usage)?;
    if plan.scenario.sends() {
        plan.echo = probe::probe(&plan, &routes, !nonce).map_err(RunError::Failed)?;
    }
    if !plan.echo && plan.has_lonely_publisher() {
        return Err(RunError::Usage(
            "the relay does not send clients their own messages, so each topic needs two members or more: \
             raise --subscribers"
                .into(),
        ));
    }
    let watch = options.server_pid.map(Watch::new);
    let watch = watch.transpose().map_err(RunError::Usage)?;
    let before = exporter.as_ref().map(Exporter::read);
    let before = before.transpose().map_err(RunError::Failed)?;

    let mut control = Control::start(plan, &routes, observer, watch)
        .map_err(|error| RunError::Failed(error.to_string()))?;
    let findings = control.lead();
    let mut findings = findings.map_err(RunError::Failed)?;
    findings.server = control.watch.as_ref().map(|watch| {
        let deliveries = findings.totals.received_while_measured;
        watch.report(configuration, deliveries)
    });
    if let (Some(exporter), Some(before)) = (exporter, before) {
        let counters = settle_counters(&exporter, &before, &findings.counted());
        findings.counters = Some(counters.map_err(RunError::Failed)?);
    }
    Ok(conclude::report(options, &control.plan, findings))
}

/// Reads the counters until they agree, but not for ever.
fn settle_counters(
    exporter: &Exporter,
    before: &Readings,
    counted: &Counted,
) -> Result<Counters, String> {
    let began = Instant::now();
    loop {
        let counters = counters::compare(before, &exporter.read()?, counted);
        let agree = counters.checks.iter().all(|check| check.agrees);
        if agree || began.elapsed() > COUNTERS {
            return Ok(counters);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn routes(options: &Options, plan: &Plan) -> Result<Vec<Route>, String> {
    let targets = plan.targets().enumerate();
    targets
        .map(|(node, target)| route(options, plan, node, target))
        .collect()
}

fn route(options: &Options, plan: &Plan, node: usize, target: &Target) -> Result<Route, String> {
    let address = target.resolve(!plan.sources.is_empty())?;
    let tls = if target.is_tls {
        let host = target.host.clone();
        let name = ServerName::try_from(host).map_err(|_| {
            format!(
                "--url: {} is not a name that a certificate can have",
                target.host
            )
        })?;
        Some((tls::config(options)?, name))
    } else if options.insecure || options.ca.is_some() {
        return Err("--ca and --insecure are for TLS, but the URL begins with ws://".into());
    } else {
        None
    };
    Ok(Route { node, address, tls })
}

fn read_server_config(options: &Options) -> Result<Option<String>, String> {
    let Some(path) = &options.server_config else {
        return Ok(None);
    };
    std::fs::read_to_string(path)
        .map(|text| Some(secrets::hide_in_configuration(&text)))
        .map_err(|error| format!("--server-config {}: {error}", path.display()))
}

/// A number that no other run has. It tells the messages of this run from those of others.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
