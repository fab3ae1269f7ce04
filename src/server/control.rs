//! The control thread: it accepts connections, takes signals, reads the configuration again (`control/reload.rs`), and ends
//! the relay (`control/end.rs`).
//!
//! `Relay::start` starts it. It reads nothing from a client and writes nothing to one: workers do.

mod end;
mod reload;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals;
use tracing::{debug, info, warn};

use super::crew::Crew;
use super::ending::Ending;
use super::error::RunError;
use super::expiry::{ExpiryWatch, seconds_since_epoch};
use super::guard::Pulse;
use super::metrics_port::MetricsPort;
use super::pauses::Pauses;
use super::placement::Placement;
use super::refusals::Refusals;
use super::reloads::Reloads;
use super::saving::Saving;
use super::supervisor::Supervisor;
use super::watch::{FROZEN_AFTER, News, Watch};
use crate::config::Shutdown;
use crate::metrics::stats::{Published, Stat};
use crate::net::listener::{Accepted, Acceptor};
use crate::net::mail::{ControlBox, Mail, Report};
use crate::net::tls::keeper::Keeper;
use crate::net::unix;
use crate::net::vitals::Vitals;
use crate::relay::shard::Whom;

/// The waker of the control loop.
pub(super) const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const SIGNALS: Token = Token(2);
const UNIX_LISTENER: Token = Token(3);

/// Events taken in one call. There are four sources.
const EVENTS: usize = 8;

/// Connections accepted from one listener in a turn. Signals, reports, deadlines and the other listener have their turn
/// before the rest.
const ACCEPTS_PER_TURN: usize = 64;

/// The parts of a control loop.
pub(super) struct Parts {
    pub(super) poll: Poll,
    pub(super) inbox: ControlBox,
    pub(super) listener: TcpListener,
    pub(super) unix_listener: Option<unix::Bound>,
    pub(super) metrics: MetricsPort,
    pub(super) vitals: Arc<Vitals>,
    pub(super) pulse: Arc<Pulse>,
    /// The counters of the workers, which show that they live.
    pub(super) published: Vec<Arc<Published>>,
    pub(super) placement: Placement,
    pub(super) tls: Option<Arc<Keeper>>,
    /// Saves the history, if it is to be saved.
    pub(super) saving: Option<Saving>,
    pub(super) reloads: Reloads,
}

/// The control loop.
pub(super) struct Control {
    poll: Poll,
    inbox: ControlBox,
    /// Empty once the shutdown has begun.
    acceptors: Vec<Acceptor>,
    metrics: MetricsPort,
    vitals: Arc<Vitals>,
    pulse: Arc<Pulse>,
    published: Vec<Arc<Published>>,
    watch: Watch,
    pauses: Pauses,
    placement: Placement,
    refusals: Refusals,
    tls: Option<Arc<Keeper>>,
    saving: Option<Saving>,
    reloads: Reloads,
    expiry: ExpiryWatch,
    signals: Option<Signals>,
    supervisor: Supervisor,
    shutdown: Shutdown,
    /// The last turn did not accept everybody. No event announces the rest.
    accepts_left: bool,
    /// Set once the end has begun.
    ending: Option<Ending>,
    /// The workers were told to drain, or to abandon their clients.
    is_draining: bool,
    drained: usize,
    stop: bool,
    failure: Option<RunError>,
}

impl Control {
    /// A control loop that listens. It takes signals and tells systemd its state if `with_signals`.
    pub(super) fn new(parts: Parts, with_signals: bool) -> io::Result<Control> {
        let config = &parts.reloads.config;
        let shutdown = config.shutdown.clone();
        let handshake_timeout = config.server.handshake_timeout;
        // The configuration allows 64 MiB at most.
        let mut tcp = Acceptor::tcp(parts.listener, config.server.tcp_notsent_lowat as u32);
        tcp.register(parts.poll.registry(), LISTENER)?;
        let mut acceptors = vec![tcp];
        if let Some(bound) = parts.unix_listener {
            let mut unix = Acceptor::unix(bound);
            unix.register(parts.poll.registry(), UNIX_LISTENER)?;
            acceptors.push(unix);
        }
        let mut signals = with_signals
            .then(|| Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]))
            .transpose()?;
        if let Some(signals) = &mut signals {
            for signal in [SIGINT, SIGTERM] {
                // Heard of even if this thread stands still.
                signal_hook::flag::register(signal, parts.pulse.asked().clone())?;
            }
            parts
                .poll
                .registry()
                .register(signals, SIGNALS, Interest::READABLE)?;
        }
        Ok(Control {
            poll: parts.poll,
            inbox: parts.inbox,
            acceptors,
            metrics: parts.metrics,
            vitals: parts.vitals,
            pulse: parts.pulse,
            watch: Watch::new(parts.published.len(), Instant::now()),
            pauses: Pauses::new(parts.published.len()),
            published: parts.published.clone(),
            placement: parts.placement,
            expiry: ExpiryWatch::new(parts.tls.clone()),
            refusals: Refusals::new(parts.published, handshake_timeout, Instant::now()),
            tls: parts.tls,
            saving: parts.saving,
            reloads: parts.reloads,
            signals,
            supervisor: if with_signals {
                Supervisor::from_environment()
            } else {
                Supervisor::default()
            },
            shutdown,
            accepts_left: false,
            ending: None,
            is_draining: false,
            drained: 0,
            stop: false,
            failure: None,
        })
    }

    /// Runs until the relay is down, and takes the workers' threads with it.
    pub(super) fn run(mut self, crew: Crew) -> Result<(), RunError> {
        let mut events = Events::with_capacity(EVENTS);
        self.supervisor.ready();
        while !self.stop {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    self.fail(RunError::Control(error.to_string()));
                    // The loop cannot wait for the drain.
                    self.stop = true;
                }
                Ok(()) | Err(_) => self.turn(),
            }
        }
        self.end(crew)
    }

    fn timeout(&self) -> Option<Duration> {
        if self.accepts_left {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let retry = self.acceptors.iter().filter_map(Acceptor::retry_in).min();
        let next_step = self.ending.map(|ending| {
            if self.is_draining {
                ending.cut_at
            } else {
                ending.drain_at
            }
        });
        let steps = next_step.into_iter().chain([self.watch.due_at()]);
        let steps = steps.map(|step| step.saturating_duration_since(now));
        let expiry = self.expiry.due_in(now);
        let refusals = self.refusals.next_in(now);
        steps.chain(retry).chain(expiry).chain(refusals).min()
    }

    /// Looks at every source, whatever the event was. There are few, and each is cheap to ask.
    fn turn(&mut self) {
        self.pulse.beat();
        self.take_reports();
        self.take_signals();
        self.accept();
        let now = Instant::now();
        if let Some(line) = self.refusals.turn(now, self.placement.arrivals) {
            info!("{line}");
        }
        for warning in self.expiry.look(now, seconds_since_epoch()) {
            warn!(%warning, "a certificate needs attention");
        }
        if now >= self.watch.due_at() {
            self.look_at_workers(now);
            self.tell_of_pauses(false);
            self.try_metrics_port(now);
            self.tell_supervisor(now);
        }
        if let Some(ending) = self.ending {
            self.take_next_step(ending, now);
        }
        let is_saved = !self.saving.as_ref().is_some_and(Saving::is_writing);
        if self.drained == self.placement.postboxes.len() && is_saved {
            self.stop = true;
        }
    }

    /// Asks the workers for a sign of life, and tells the operator of those that give none.
    fn look_at_workers(&mut self, now: Instant) {
        let turns = self.published.iter().map(|shard| shard.value(Stat::Turns));
        for news in self.watch.look(now, turns) {
            match news {
                // It sleeps, or stands still. If it sleeps, the wake is a turn.
                News::Silent(worker) => self.placement.postboxes[worker].inbox.notify(),
                News::Froze(worker) => {
                    self.placement.postboxes[worker].note_frozen(true);
                    self.supervisor.note_news();
                    warn!(worker, silent_for = ?FROZEN_AFTER, "a worker stands still: its clients and topics are not served; /livez answers 503");
                    if self.ending.is_some() {
                        self.fail(RunError::frozen(worker));
                    }
                }
                News::Thawed(worker, silent_for) => {
                    self.placement.postboxes[worker].note_frozen(false);
                    self.supervisor.note_news();
                    info!(worker, ?silent_for, "the worker runs again");
                }
            }
        }
    }

    /// At every look, and a last time at the end.
    fn tell_of_pauses(&mut self, is_last: bool) {
        let shards = self.published.iter();
        let paused = shards.map(|shard| shard.value(Stat::PausedMicros));
        let news = if is_last {
            self.pauses.rest(paused)
        } else {
            self.pauses.look(paused)
        };
        if let Some(news) = news {
            news.log();
        }
    }

    fn tell_supervisor(&mut self, now: Instant) {
        let shards = self.published.iter();
        // Workers that were told to stop take no turns. The wait for them has an end, so the watchdog is fed all the same.
        let running = shards.clone().filter(|_| !self.stop);
        let turns = running.map(|shard| shard.value(Stat::Turns));
        let status = || {
            let clients: u64 = shards
                .map(|shard| shard.value(Stat::ConnectedClients))
                .sum();
            match (self.watch.frozen(), self.ending) {
                (Some(worker), _) => format!("worker {worker} stands still; clients: {clients}"),
                (None, Some(_)) => format!("shutting down; clients left: {clients}"),
                (None, None) => format!("clients: {clients}"),
            }
        };
        self.supervisor.look(now, turns, status);
    }

    /// Once a second, and not while the relay ends.
    fn try_metrics_port(&mut self, now: Instant) {
        if self.ending.is_none()
            && let Err(failure) = self.metrics.retry(now)
        {
            self.fail(failure);
        }
    }

    fn take_reports(&mut self) {
        self.inbox.open();
        while let Some(report) = self.inbox.pop() {
            match report {
                Report::ShutdownRequested => self.begin_shutdown("requested"),
                Report::ReloadRequested => self.take_reload("requested", None),
                Report::Close(whom) => self.close_by_hand(whom),
                Report::Reconfigured(config) => self.take_reload("requested", Some(*config)),
                Report::History(keepsake) => {
                    if let Some(saving) = &mut self.saving {
                        saving.take(keepsake);
                    }
                }
                Report::HistoryEnded => {
                    if let Some(saving) = &mut self.saving {
                        saving.on_end();
                    }
                }
                Report::Drained => self.drained += 1,
                Report::Failed(shard, reason) => self.fail(RunError::Worker(shard, reason)),
                Report::MetricsFailed(reason) => self.fail(RunError::Metrics(reason)),
            }
        }
    }

    fn take_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        let pending: Vec<i32> = signals.pending().collect();
        for signal in pending {
            match signal {
                SIGHUP => self.take_reload("SIGHUP", None),
                SIGINT => self.begin_shutdown("SIGINT"),
                // Without a handler they would end the process.
                SIGUSR1 => ignore("SIGUSR1"),
                SIGUSR2 => ignore("SIGUSR2"),
                _ => self.begin_shutdown("SIGTERM"),
            }
        }
    }

    fn close_by_hand(&mut self, whom: Whom) {
        info!(?whom, "closing clients by hand");
        let whom = Arc::new(whom);
        for worker in self.placement.postboxes.iter() {
            worker.inbox.send(Mail::Close(whom.clone()));
        }
    }

    fn accept(&mut self) {
        self.accepts_left = false;
        for acceptor in &mut self.acceptors {
            if acceptor.retry_in().is_none_or(|left| left.is_zero()) {
                self.accepts_left |= accept_some(acceptor, &mut self.placement);
            }
        }
    }
}

fn ignore(signal: &str) {
    info!(
        signal,
        "the signal is ignored: fanwire has no use for it; SIGHUP reads the configuration again, SIGTERM ends the relay"
    );
}

/// Accepts as many as one turn may, and returns whether more may wait.
fn accept_some(acceptor: &mut Acceptor, placement: &mut Placement) -> bool {
    for _ in 0..ACCEPTS_PER_TURN {
        match acceptor.accept() {
            Accepted::Socket(stream, peer) => placement.place(stream, peer),
            Accepted::Nobody => return false,
            Accepted::Dead(error) => debug!(%error, "a connection died before it was accepted"),
            Accepted::Failed { error, is_news } => {
                if is_news {
                    warn!(%error, "accepting fails; connections wait until it works again");
                }
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use mio::Waker;

    use super::*;
    use crate::config::Config;
    use crate::mailbox::Mailbox;
    use crate::net::admission::Seats;
    use crate::net::balance::Rotation;
    use crate::net::listener;
    use crate::net::mail::{PollWaker, Postbox, Postboxes};

    /// A control loop that listens on a port and on `path`, over one worker that does not run.
    pub(super) fn control(path: &Path) -> (Control, SocketAddr) {
        let (poll, worker) = (Poll::new().unwrap(), Poll::new().unwrap());
        let waker = |poll: &Poll| Waker::new(poll.registry(), WAKER).unwrap();
        let postboxes: Postboxes = [Postbox::new(waker(&worker))].into();
        let vitals = Arc::new(Vitals::new(postboxes.clone(), usize::MAX));
        let placement = Placement {
            postboxes,
            serving: Rotation::default(),
            refusing: Rotation::default(),
            vitals: vitals.clone(),
            arrivals: 0,
            seats: Seats::new(0),
            proxies: Vec::new(),
            trusted: Vec::new(),
        };
        let listener = listener::bind("127.0.0.1", 0).unwrap();
        let address = listener.local_addr().unwrap();
        let parts = Parts {
            inbox: Arc::new(Mailbox::new(PollWaker(waker(&poll)))),
            poll,
            listener,
            unix_listener: Some(unix::bind(path, 0o600, None).unwrap()),
            metrics: MetricsPort::Off,
            vitals,
            pulse: Arc::default(),
            published: vec![Arc::default()],
            placement,
            tls: None,
            saving: None,
            reloads: Reloads {
                config: Config::default(),
                settings: None,
                source: None,
                workers: 1,
                memory: None,
                status: Arc::default(),
            },
        };
        let control = Control::new(parts, false).unwrap();
        (control, address)
    }

    #[test]
    fn a_flood_at_one_listener_leaves_the_other_its_turn_and_the_rest_to_the_next_turn() {
        const LEFT_OVER: usize = 3;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (mut control, address) = control(&path);
        let _flood: Vec<_> = (0..ACCEPTS_PER_TURN + LEFT_OVER)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let _other = UnixStream::connect(&path).unwrap();

        control.turn();
        assert_eq!(control.vitals.connections(), ACCEPTS_PER_TURN + 1);
        assert_eq!(control.timeout(), Some(Duration::ZERO));

        control.turn();
        assert_eq!(
            control.vitals.connections(),
            ACCEPTS_PER_TURN + LEFT_OVER + 1
        );
        assert_ne!(control.timeout(), Some(Duration::ZERO));
    }
}
