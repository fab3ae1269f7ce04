//! The control thread: it accepts connections, takes signals, and ends the relay.
//!
//! `Relay::start` starts it. It reads nothing from a client and writes nothing to one: workers do.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use tracing::{debug, error, info, warn};

use super::crew::Crew;
use super::error::RunError;
use super::expiry::{ExpiryWatch, seconds_since_epoch};
use super::placement::Placement;
use crate::config::Config;
use crate::metrics::exporter::ExporterHandle;
use crate::net::listener::{Accepted, Acceptor};
use crate::net::mail::{ControlBox, Mail, Report};
use crate::net::tls::keeper::Keeper;
use crate::net::unix;
use crate::net::vitals::Vitals;

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

/// The time that members have to take their Close after the relay has failed. It is short, because the supervisor waits
/// to start the process again.
const FAREWELL: Duration = Duration::from_secs(1);

/// The parts of a control loop.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) poll: Poll,
    pub(super) inbox: ControlBox,
    pub(super) listener: TcpListener,
    pub(super) unix_listener: Option<unix::Bound>,
    pub(super) exporter: Option<ExporterHandle>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) placement: Placement,
    pub(super) tls: Option<Arc<Keeper>>,
}

/// The control loop.
pub(super) struct Control {
    poll: Poll,
    inbox: ControlBox,
    /// Empty once the shutdown has begun.
    acceptors: Vec<Acceptor>,
    exporter: Option<ExporterHandle>,
    vitals: Arc<Vitals>,
    placement: Placement,
    tls: Option<Arc<Keeper>>,
    expiry: ExpiryWatch,
    signals: Option<Signals>,
    shutdown_timeout: Duration,
    /// The last turn did not accept everybody. No event announces the rest.
    accepts_left: bool,
    /// The time at which the connections that are left are cut. Set once the shutdown has begun.
    deadline: Option<Instant>,
    drained: usize,
    stop: bool,
    failure: Option<RunError>,
}

impl Control {
    /// A control loop that listens, and takes signals if `with_signals`.
    pub(super) fn new(parts: Parts, config: &Config, with_signals: bool) -> io::Result<Control> {
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
            .then(|| Signals::new([SIGINT, SIGTERM, SIGHUP]))
            .transpose()?;
        if let Some(signals) = &mut signals {
            parts
                .poll
                .registry()
                .register(signals, SIGNALS, Interest::READABLE)?;
        }
        Ok(Control {
            poll: parts.poll,
            inbox: parts.inbox,
            acceptors,
            exporter: parts.exporter,
            vitals: parts.vitals,
            placement: parts.placement,
            expiry: ExpiryWatch::new(parts.tls.clone()),
            tls: parts.tls,
            signals,
            shutdown_timeout: config.shutdown.timeout,
            accepts_left: false,
            deadline: None,
            drained: 0,
            stop: false,
            failure: None,
        })
    }

    /// Runs until the relay is down, and takes the workers' threads with it.
    pub(super) fn run(mut self, crew: Crew) -> Result<(), RunError> {
        let mut events = Events::with_capacity(EVENTS);
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
        let retry = self.acceptors.iter().filter_map(Acceptor::retry_in).min();
        let deadline = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let expiry = self.expiry.due_in(Instant::now());
        [retry, deadline, expiry].into_iter().flatten().min()
    }

    /// Looks at every source, whatever the event was. There are few, and each is cheap to ask.
    fn turn(&mut self) {
        self.take_reports();
        self.take_signals();
        self.accept();
        for warning in self.expiry.look(Instant::now(), seconds_since_epoch()) {
            warn!(%warning, "a certificate needs attention");
        }
        let is_over = |deadline| Instant::now() >= deadline;
        if self.deadline.is_some_and(is_over) {
            warn!(timeout = ?self.shutdown_timeout, "the shutdown takes longer than its timeout; cutting the connections that are left");
            self.stop = true;
        }
        if self.drained == self.placement.postboxes.len() {
            self.stop = true;
        }
    }

    fn take_reports(&mut self) {
        self.inbox.open();
        while let Some(report) = self.inbox.pop() {
            match report {
                Report::ShutdownRequested => self.begin_shutdown("requested"),
                Report::ReloadRequested => self.reload("requested"),
                Report::Drained => self.drained += 1,
                Report::Failed(shard, reason) => self.fail(RunError::Worker(shard, reason)),
                Report::MetricsFailed(reason) => self.fail(RunError::Metrics(reason)),
            }
        }
    }

    /// Ends the relay because one of its threads has failed. The clients of the other workers get Close 1011 first.
    ///
    /// A dead metrics thread ends the relay, too. Orchestrators ask for its health on that port and would kill it anyhow,
    /// without a word to its clients. If nobody asks, alarms would fall silent.
    fn fail(&mut self, failure: RunError) {
        error!(%failure, "the relay cannot go on");
        self.failure.get_or_insert(failure);
        self.turn_away();
        self.shutdown_timeout = FAREWELL;
        self.deadline = Some(Instant::now() + FAREWELL);
        self.tell_workers(|| Mail::Abandon);
    }

    /// Closes the listeners, and has `/readyz` answer that the relay is not ready.
    fn turn_away(&mut self) {
        self.vitals.note_ending();
        // Closing a socket takes it out of the event loop. The kernel refuses those that wait in its backlog.
        self.acceptors.clear();
        self.accepts_left = false;
    }

    fn take_signals(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        let pending: Vec<i32> = signals.pending().collect();
        for signal in pending {
            match signal {
                SIGHUP => self.reload("SIGHUP"),
                SIGINT => self.begin_shutdown("SIGINT"),
                _ => self.begin_shutdown("SIGTERM"),
            }
        }
    }

    /// Reads certificate and key again. If they cannot be used, nothing changes.
    fn reload(&mut self, cause: &str) {
        let Some(tls) = &self.tls else {
            info!(cause, "nothing to reload: TLS is off");
            return;
        };
        match tls.reload() {
            Ok(()) => {
                info!(
                    cause,
                    "certificate and key read again; new connections get them"
                );
                self.expiry.renew();
            }
            Err(error) => warn!(cause, %error, "the old certificate and key stay in force"),
        }
    }

    /// The first call begins the drain, the second ends it.
    fn begin_shutdown(&mut self, cause: &str) {
        if self.deadline.is_some() {
            info!(cause, "asked to shut down again; ending at once");
            self.stop = true;
            return;
        }
        info!(cause, timeout = ?self.shutdown_timeout, "shutting down: every client gets the messages it is still owed, then Close 1001");
        self.turn_away();
        self.deadline = Some(Instant::now() + self.shutdown_timeout);
        self.tell_workers(|| Mail::Drain);
    }

    fn tell_workers(&self, mail: impl Fn() -> Mail) {
        for postbox in self.placement.postboxes.iter() {
            postbox.inbox.send(mail());
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

    /// Stops and joins every thread.
    fn end(mut self, crew: Crew) -> Result<(), RunError> {
        self.turn_away();
        drop(crew);
        drop(self.exporter.take());
        // A thread may have failed while it was being stopped.
        self.take_reports();
        self.failure.map_or(Ok(()), Err)
    }
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
    use crate::mailbox::Mailbox;
    use crate::net::balance::Rotation;
    use crate::net::listener;
    use crate::net::mail::{PollWaker, Postbox, Postboxes};

    /// A control loop that listens on a port and on `path`, over one worker that does not run.
    fn control(path: &Path) -> (Control, SocketAddr) {
        let (poll, worker) = (Poll::new().unwrap(), Poll::new().unwrap());
        let waker = |poll: &Poll| Waker::new(poll.registry(), WAKER).unwrap();
        let postboxes: Postboxes = [Postbox::new(waker(&worker))].into();
        let vitals = Arc::new(Vitals::new(postboxes.clone(), usize::MAX));
        let placement = Placement {
            postboxes,
            serving: Rotation::default(),
            refusing: Rotation::default(),
            vitals: vitals.clone(),
            seats: None,
            proxies: Vec::new(),
        };
        let listener = listener::bind("127.0.0.1", 0).unwrap();
        let address = listener.local_addr().unwrap();
        let parts = Parts {
            inbox: Arc::new(Mailbox::new(PollWaker(waker(&poll)))),
            poll,
            listener,
            unix_listener: Some(unix::bind(path, 0o600).unwrap()),
            exporter: None,
            vitals,
            placement,
            tls: None,
        };
        let control = Control::new(parts, &Config::default(), false).unwrap();
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
        assert_eq!(control.timeout(), None);
    }
}
