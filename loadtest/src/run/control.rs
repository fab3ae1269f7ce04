//! The control of a run: it starts the threads, leads them from phase to phase, and collects their findings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use mio::{Poll, Waker};

use super::findings::{Findings, reasons};
use super::judge::listed;
use super::series::{Series, ServerUse};
use super::watch::Watch;
use crate::client::shared::{Board, Phase, SETTLE, Shared, TICK};
use crate::client::stream::Route;
use crate::client::worker::outcome::Outcome;
use crate::client::worker::{WAKER, Worker};
use crate::clock::{Clock, MILLISECOND, SECOND, seconds};
use crate::report::latency;
use crate::report::observer::{Observer, Progress, Stage};
use crate::scenario::plan::Plan;
use crate::scenario::scenarios::Scenario;

/// The longest sleep of the control.
const NAP: u64 = 5 * MILLISECOND;

/// Time without a delivery after which a closed loop goes on: the messages in flight are lost, or will come late.
const FORGIVE: u64 = SECOND;

/// The longest wait for missing deliveries, though others keep coming.
const DRAIN: u64 = 60 * SECOND;

/// Time that threads listen on when all has come: a duplicate, or a delivery to the wrong topic, may come last.
const LISTEN: u64 = 100 * MILLISECOND;

const PANICKED: &str = "a thread of the generator has panicked: this is a fault of the generator";

/// Leads the threads.
pub(super) struct Control<'o> {
    pub(super) plan: Arc<Plan>,
    shared: Arc<Shared>,
    observer: &'o dyn Observer,
    pub(super) watch: Option<Watch>,
    workers: Vec<JoinHandle<std::io::Result<Outcome>>>,
    series: Series,
    sampled_at: u64,
    /// Totals of the last progress: time, published, received.
    shown: (u64, u64, u64),
    stage: Stage,
    rounds: Histogram<u64>,
    /// The last round, and the time it began if it is still under way.
    round: u64,
    round_began: Option<u64>,
    next_round_at: u64,
    forgiven_at: u64,
    was_stopped: bool,
    /// Whether the wait for missing deliveries was stopped as well.
    was_wait_stopped: bool,
}

impl<'o> Control<'o> {
    /// Starts the threads.
    pub(super) fn start(
        plan: Plan,
        routes: &[Route],
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
            let worker = Worker::new(index, plan.clone(), shared.clone(), routes.to_vec(), poll)?;
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

    /// Leads the run from the first connection to the last. The threads have ended when it returns, even after an
    /// error.
    pub(super) fn lead(&mut self) -> Result<Findings, String> {
        let led = self.connect().and_then(|()| {
            // Without a connection there is nothing to wait for.
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
        // The first sample of the load must have all counts from before it.
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

    /// Warm-up and measurement. Returns the start of the measurement, in seconds since 1970.
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
        let nap = if self.plan.scenario.has_rounds() {
            MILLISECOND
        } else {
            NAP
        };
        let soon = self.now() + nap;
        self.rest(until.min(soon))
    }

    /// Announces rounds, and notes how long they took.
    fn follow_rounds(&mut self) {
        if !self.plan.scenario.has_rounds() {
            return;
        }
        let Some(began) = self.round_began else {
            // A round is announced a little ahead, so that it begins on all threads at once.
            if self.now() + 2 * MILLISECOND >= self.next_round_at {
                let start = self.next_round_at.max(self.now() + MILLISECOND);
                self.round += 1;
                self.round_began = Some(start);
                self.shared.start_round(self.round, start);
            }
            return;
        };
        let boards = &self.shared.boards;
        let is_done = |board: &Board| board.round_done.load(Ordering::SeqCst) == self.round;
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

    /// Gives up the messages in flight if nothing comes any more. Otherwise a closed loop would stand still for ever.
    fn forgive_when_stuck(&mut self) {
        let is_waiting = if self.plan.scenario == Scenario::Burst {
            self.round_began.is_some_and(|began| began < self.now())
        } else {
            self.plan.window().is_some()
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

    /// Waits for missing deliveries.
    fn drain(&mut self) -> Result<(), String> {
        self.stage = Stage::Draining;
        self.shared.enter(Phase::Drain);
        let began = self.now();
        // A stop during the load still waits for missing deliveries. A stop during the wait does not.
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

    /// Sleeps until `until`, or a little less. Samples when it is time.
    fn rest(&mut self, until: u64) -> Result<(), String> {
        let now = self.now();
        let until = until.min(now + NAP).max(now);
        thread::sleep(Duration::from_nanos(until - now));
        if let Some(index) = self.workers.iter().position(JoinHandle::is_finished) {
            return Err(match self.workers.remove(index).join() {
                Ok(Ok(_)) => "a thread of the generator ended before the run was over".to_owned(),
                Ok(Err(error)) => format!("the event loop of a generator thread failed: {error}"),
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
        // The time at which the threads posted their counts, which may be half a tick ago.
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
            Ok(Err(error)) => Err(format!(
                "the event loop of a generator thread failed: {error}"
            )),
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
            let failed = reasons(outcomes.iter().map(|outcome| &outcome.failed));
            return Err(format!(
                "no connection could be opened: {}",
                listed(&failed)
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

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
