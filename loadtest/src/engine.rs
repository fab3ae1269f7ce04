//! A run from beginning to end: the control, which starts the threads, leads them from phase to phase, and collects.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use mio::{Poll, Waker};
use rustls_pki_types::ServerName;

use crate::clock::{Clock, MILLISECOND, SECOND, seconds};
use crate::conclude::{self, Findings};
use crate::latency;
use crate::limits;
use crate::observer::{Observer, Progress, Stage};
use crate::options::{Options, Scenario};
use crate::plan::Plan;
use crate::probe;
use crate::report::Report;
use crate::scrape::{Counted, Exporter, Readings, compare};
use crate::series::{Series, ServerUse};
use crate::shared::{Phase, Shared};
use crate::stream::Route;
use crate::tls;
use crate::watch::Watch;
use crate::worker::{Outcome, SETTLE, TICK, WAKER, Worker};

/// How long the control sleeps at most.
const NAP: u64 = 5 * MILLISECOND;

/// Without a delivery for so long, a closed loop goes on all the same: what was in flight is lost, or will come late.
const FORGIVE: u64 = SECOND;

/// How long what is owed is waited for, though ever more of it comes.
const DRAIN: u64 = 60 * SECOND;

/// How long a thread listens on when all is there: what comes twice, or to the wrong one, may come last.
const LISTEN: u64 = 100 * MILLISECOND;

/// How long the relay's counters may take to agree: it may publish them now and then.
const COUNTERS: Duration = Duration::from_secs(3);

const PANICKED: &str = "a thread of the generator has panicked, which is a fault of its own";

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The options make no sense, alone or together, or this machine does not allow what they ask for.
    Usage(String),
    /// The server cannot be reached, or is no relay; or the system failed.
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

/// Loads a relay as the options say, and reports what was found. Blocks until it is over; `observer` is told how it stands
/// and may end it early.
pub fn run(options: &Options, observer: &dyn Observer) -> Result<Report, RunError> {
    let nonce = nonce();
    limits::check_descriptors(options).map_err(RunError::Usage)?;
    let mut plan = Plan::new(options, nonce).map_err(RunError::Usage)?;
    let configuration = read_server_config(options).map_err(RunError::Usage)?;
    let exporter = options.metrics_url.as_deref().map(Exporter::parse);
    let exporter = exporter.transpose().map_err(RunError::Usage)?;
    let route = route(options, &plan).map_err(RunError::Usage)?;
    limits::check(&plan).map_err(RunError::Usage)?;
    if plan.scenario != Scenario::Idle {
        plan.echo = probe::probe(&plan, &route, !nonce).map_err(RunError::Failed)?;
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

    let mut control = Control::start(plan, &route, observer, watch)
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

/// Leads the threads.
struct Control<'o> {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    observer: &'o dyn Observer,
    watch: Option<Watch>,
    workers: Vec<JoinHandle<std::io::Result<Outcome>>>,
    series: Series,
    sampled_at: u64,
    /// Totals as of the last progress: time, published, received.
    shown: (u64, u64, u64),
    stage: Stage,
    rounds: Histogram<u64>,
    /// The round under way, if there is one, and when it began.
    round: u64,
    round_began: Option<u64>,
    next_round_at: u64,
    forgiven_at: u64,
    was_stopped: bool,
    /// Whether that ended the wait for what is owed.
    was_wait_stopped: bool,
}

impl<'o> Control<'o> {
    fn start(
        plan: Plan,
        route: &Route,
        observer: &'o dyn Observer,
        watch: Option<Watch>,
    ) -> std::io::Result<Control<'o>> {
        let plan = Arc::new(plan);
        let polls = (0..plan.threads).map(|_| Poll::new());
        let polls = polls.collect::<std::io::Result<Vec<_>>>()?;
        let wakers = polls.iter().map(|poll| Waker::new(poll.registry(), WAKER));
        let wakers = wakers.collect::<std::io::Result<Vec<_>>>()?;
        let pending: Vec<usize> = plan.wanted.iter().map(Vec::len).collect();
        let clock = Clock::start();
        let shared = Arc::new(Shared::new(clock, plan.places.len(), &pending, wakers));
        let mut workers = Vec::new();
        for (index, poll) in polls.into_iter().enumerate() {
            let worker = Worker::new(index, plan.clone(), shared.clone(), route.clone(), poll)?;
            let name = format!("load-{index}");
            workers.push(thread::Builder::new().name(name).spawn(|| worker.run())?);
        }
        Ok(Control {
            series: Series::new(0, 0, 0),
            plan,
            shared,
            observer,
            watch,
            workers,
            sampled_at: 0,
            shown: (0, 0, 0),
            stage: Stage::Connecting,
            rounds: latency::new(),
            round: 0,
            round_began: None,
            next_round_at: 0,
            forgiven_at: 0,
            was_stopped: false,
            was_wait_stopped: false,
        })
    }

    fn now(&self) -> u64 {
        self.shared.clock.now()
    }

    /// From the first connection to the last. However it ends, the threads have ended when it returns.
    fn lead(&mut self) -> Result<Findings, String> {
        let led = self.connect().and_then(|()| {
            // Without anybody to load there is nothing to wait for.
            if self.opened() == 0 {
                return Ok(unix_seconds());
            }
            let started = self.load()?;
            self.drain()?;
            Ok(started)
        });
        self.stage = Stage::Closing;
        self.shared.enter(Phase::Close);
        let joined = self.join();
        let started_unix_seconds = led?;
        let outcomes = joined?;
        self.finish(outcomes, started_unix_seconds)
    }

    fn connect(&mut self) -> Result<(), String> {
        let pending = |shared: &Shared| -> usize {
            let boards = shared.boards.iter();
            boards
                .map(|board| board.pending.load(Ordering::SeqCst))
                .sum()
        };
        while pending(&self.shared) > 0 {
            self.rest(self.now() + NAP)?;
            if self.was_stopped {
                return Err("stopped before all connections were open".into());
            }
        }
        // The first sample of the load must not miss what was counted so far.
        let settled = self.now() + SETTLE;
        while self.now() < settled {
            self.rest(settled)?;
        }
        let opened = self.opened();
        if let Some(watch) = &mut self.watch {
            watch.on_connected(opened);
        }
        Ok(())
    }

    /// Warm-up and measurement; returns when the latter began, in seconds since 1970.
    fn load(&mut self) -> Result<u64, String> {
        let (warmup, duration) = (self.plan.warmup, self.plan.duration);
        let start = self.now() + MILLISECOND;
        self.series = Series::new(
            start,
            start + warmup,
            warmup + duration + 2 * self.plan.patience,
        );
        self.series.collect(&self.shared);
        let server = self.server_use();
        self.series.begin(start, server);
        self.sampled_at = start + TICK / 2;
        self.next_round_at = start + self.plan.every;
        self.stage = Stage::WarmingUp;
        let started_unix_seconds = unix_seconds() + warmup / SECOND;
        self.shared.start_load(start, warmup, duration);

        while self.now() < start + warmup && !self.was_stopped {
            self.step(start + warmup)?;
        }
        self.stage = Stage::Measuring;
        if let Some(watch) = &mut self.watch {
            watch.on_start();
        }
        let end = start + warmup + duration;
        while self.now() < end && !self.was_stopped {
            self.step(end)?;
        }
        if self.was_stopped {
            self.shared.end_early(self.now());
        }
        if let Some(watch) = &mut self.watch {
            watch.on_stop();
        }
        Ok(started_unix_seconds)
    }

    /// A moment of the load.
    fn step(&mut self, until: u64) -> Result<(), String> {
        self.follow_rounds();
        self.forgive_when_stuck();
        let soon = match self.plan.scenario {
            Scenario::Burst | Scenario::Reconnect => self.now() + MILLISECOND,
            _ => self.now() + NAP,
        };
        self.rest(until.min(soon))
    }

    /// Announces rounds, and notes how long they took.
    fn follow_rounds(&mut self) {
        if !matches!(self.plan.scenario, Scenario::Burst | Scenario::Reconnect) {
            return;
        }
        let Some(began) = self.round_began else {
            // Somewhat ahead, so that it begins on all threads at once.
            if self.now() + 2 * MILLISECOND >= self.next_round_at {
                let start = self.next_round_at.max(self.now() + MILLISECOND);
                self.round += 1;
                self.round_began = Some(start);
                self.shared.start_round(self.round, start);
            }
            return;
        };
        let boards = &self.shared.boards;
        let is_done =
            |board: &crate::shared::Board| board.round_done.load(Ordering::SeqCst) == self.round;
        if !boards.iter().all(is_done) {
            return;
        }
        let ends = boards
            .iter()
            .map(|board| board.round_done_at.load(Ordering::SeqCst));
        let end = ends.max().unwrap_or(began).max(began);
        let (start, stop) = self.shared.measured();
        if (start..stop).contains(&began) && self.forgiven_at < began {
            self.rounds.saturating_record(end - began);
        }
        self.round_began = None;
        self.next_round_at = end + self.plan.every;
    }

    /// A closed loop in which nothing comes any more would stand still for ever.
    fn forgive_when_stuck(&mut self) {
        let is_waiting = match self.plan.scenario {
            Scenario::Burst => self.round_began.is_some_and(|began| began < self.now()),
            Scenario::Idle => false,
            _ => self.plan.window().is_some(),
        };
        let began = self.round_began.unwrap_or(0).max(self.shared.load_start());
        let last = self.last_delivery().max(began).max(self.forgiven_at);
        if is_waiting && self.now().saturating_sub(last) > FORGIVE {
            self.forgiven_at = self.now();
            self.shared.forgive();
        }
    }

    fn last_delivery(&self) -> u64 {
        let boards = self.shared.boards.iter();
        let times = boards.map(|board| board.last_delivery.load(Ordering::Acquire));
        times.max().unwrap_or(0)
    }

    /// Waits for what is owed.
    fn drain(&mut self) -> Result<(), String> {
        self.stage = Stage::Draining;
        self.shared.enter(Phase::Drain);
        let began = self.now();
        // Whoever ends the load early still wants to know what became of it; whoever ends the wait for that does not.
        let was_stopped = self.was_stopped;
        let mut settled_at = None;
        loop {
            self.rest(self.now() + NAP)?;
            let now = self.now();
            let boards = &self.shared.boards;
            let is_settled = boards
                .iter()
                .all(|board| board.is_settled.load(Ordering::SeqCst));
            settled_at = is_settled.then(|| settled_at.unwrap_or(now));
            if settled_at.is_some_and(|at| now >= at + LISTEN) {
                break;
            }
            let waited = now.saturating_sub(self.last_delivery().max(began));
            if waited > self.plan.patience {
                break;
            }
            self.was_wait_stopped = self.was_stopped && !was_stopped;
            if self.was_wait_stopped || now > began + DRAIN.max(self.plan.patience) {
                self.shared.cut_short();
                break;
            }
        }
        if let Some(watch) = &mut self.watch {
            watch.on_drained();
        }
        Ok(())
    }

    /// Sleeps until `until`, or a little less; samples when it is time.
    fn rest(&mut self, until: u64) -> Result<(), String> {
        let now = self.now();
        let until = until.min(now + NAP).max(now);
        thread::sleep(Duration::from_nanos(until - now));
        if let Some(index) = self.workers.iter().position(JoinHandle::is_finished) {
            return Err(match self.workers.remove(index).join() {
                Ok(Ok(_)) => "a thread has ended before the run was over".to_owned(),
                Ok(Err(error)) => format!("a thread's event loop failed: {error}"),
                Err(_) => PANICKED.to_owned(),
            });
        }
        self.was_stopped |= self.observer.is_stopped();
        let now = self.now();
        if now >= self.sampled_at + TICK {
            self.sampled_at += (now - self.sampled_at) / TICK * TICK;
            self.sample(false);
        }
        Ok(())
    }

    fn sample(&mut self, is_last: bool) {
        let tally = self.series.collect(&self.shared);
        let server = self.server_use();
        if self.stage != Stage::Connecting {
            self.series.sample(is_last, server);
        }
        let totals = &tally.totals;
        // As of when the threads put up their counts, which may be half a tick ago.
        let now = totals.at;
        let (shown_at, published, received) = self.shown;
        let span = seconds(now.saturating_sub(shown_at)).max(1e-9);
        let mut latencies = tally.measured;
        latency::merge(&mut latencies, &tally.outside);
        self.observer.on_progress(&Progress {
            scenario: self.plan.scenario,
            stage: self.stage,
            elapsed_seconds: seconds(now.saturating_sub(self.shared.load_start())),
            total_seconds: seconds(self.plan.warmup + self.plan.duration),
            connections: totals.connections,
            wanted: self.plan.connections(),
            published_rate: (totals.published - published) as f64 / span,
            received_rate: (totals.counts.received - received) as f64 / span,
            latency_p50: latencies.value_at_quantile(0.5),
            latency_p99: latencies.value_at_quantile(0.99),
            lost: totals.counts.lost,
        });
        self.shown = (now, totals.published, totals.counts.received);
    }

    fn server_use(&mut self) -> Option<ServerUse> {
        let now = self.shared.clock.now();
        self.watch.as_mut().map(|watch| watch.sample(now))
    }

    fn opened(&self) -> u64 {
        let boards = self.shared.boards.iter();
        boards
            .map(|board| board.opened.load(Ordering::SeqCst))
            .sum()
    }

    fn join(&mut self) -> Result<Vec<Outcome>, String> {
        let workers = std::mem::take(&mut self.workers);
        let outcomes = workers.into_iter().map(|worker| match worker.join() {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => Err(format!("a thread's event loop failed: {error}")),
            Err(_) => Err(PANICKED.to_owned()),
        });
        outcomes.collect()
    }

    fn finish(
        &mut self,
        outcomes: Vec<Outcome>,
        started_unix_seconds: u64,
    ) -> Result<Findings, String> {
        if self.opened() == 0 {
            let failed = conclude::reasons(outcomes.iter().map(|outcome| &outcome.failed));
            return Err(format!(
                "no connection could be opened: {}",
                conclude::listed(&failed)
            ));
        }
        let is_server_alive = self.watch.as_ref().is_none_or(Watch::is_alive);
        if let Some(watch) = &mut self.watch {
            watch.on_closed();
        }
        self.sample(true);
        let (start, end) = self.shared.measured();
        let series = std::mem::replace(&mut self.series, Series::new(0, 0, 0));
        Ok(Findings {
            started_unix_seconds,
            measured_seconds: seconds(end - start),
            totals: *series.totals(),
            latency: latency::summarise(series.measured()),
            rounds: (!self.rounds.is_empty() || self.round > 0)
                .then(|| latency::summarise(&self.rounds)),
            samples: series.into_samples(),
            opened: self.opened(),
            outcomes,
            forgiven: self.shared.forgiven(),
            was_stopped: self.was_stopped,
            was_wait_stopped: self.was_wait_stopped,
            is_server_alive,
            server: None,
            counters: None,
        })
    }
}

/// Reads the counters until they agree, for a while.
fn settle_counters(
    exporter: &Exporter,
    before: &Readings,
    counted: &Counted,
) -> Result<crate::report::Counters, String> {
    let began = std::time::Instant::now();
    loop {
        let counters = compare(before, &exporter.read()?, counted);
        let agree = counters.checks.iter().all(|check| check.agrees);
        if agree || began.elapsed() > COUNTERS {
            return Ok(counters);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn route(options: &Options, plan: &Plan) -> Result<Route, String> {
    let address = plan.target.resolve(!plan.sources.is_empty())?;
    let tls = if plan.target.is_tls {
        let host = plan.target.host.clone();
        let name = ServerName::try_from(host)
            .map_err(|_| format!("--url: {} is no name for a certificate", plan.target.host))?;
        Some((tls::config(options)?, name))
    } else if options.insecure || options.ca.is_some() {
        return Err("--ca and --insecure are about TLS, and the URL begins with ws://".into());
    } else {
        None
    };
    Ok(Route { address, tls })
}

fn read_server_config(options: &Options) -> Result<Option<String>, String> {
    let Some(path) = &options.server_config else {
        return Ok(None);
    };
    std::fs::read_to_string(path)
        .map(Some)
        .map_err(|error| format!("--server-config {}: {error}", path.display()))
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A number that no other run has: its messages are told from those of others by it.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
