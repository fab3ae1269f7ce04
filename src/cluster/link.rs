//! The two connections of a worker to an engine: P for commands, S for subscriptions.
//!
//! The link is up only when both are up with the same identity: one server process in one role. This file decides when to
//! connect, when a connection is dead, and when to probe. It knows no topic and no command; [`super::engine`] does.

use std::time::Duration;

use super::backoff::Backoff;
use super::info::{Identity, Unfit};
use crate::time::Timestamp;

/// The first wait before a connection is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// P: commands and their answers.
    Publisher,
    /// S: subscriptions.
    Subscriber,
}

/// Both.
pub(crate) const LANES: [Lane; 2] = [Lane::Publisher, Lane::Subscriber];

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The driver says that it was refused, closed or broken.
    Closed,
    /// It did not come about in `cluster.connect_timeout`.
    ConnectTimeout,
    /// Nothing came for `cluster.io_timeout`, although something was due.
    Silent,
    /// The two connections are not to the same server.
    Apart,
    /// The server has another role than when it was asked first, or none that is fit.
    Role,
    /// The server cannot serve.
    Unfit(Unfit),
    /// The server broke the protocol.
    Protocol,
}

/// Orders and news of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// Open this connection.
    Connect(Lane),
    /// Close it. It counts as lost already.
    Close(Lane, Reason),
    /// It is lost. It may have been usable.
    Lost(Lane),
    /// Both are usable.
    Up,
}

/// How far a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Down {
        retry_at: Timestamp,
    },
    Connecting {
        until: Timestamp,
    },
    /// Connected; what it needs to be usable is on its way.
    Greeting {
        until: Timestamp,
        identity: Option<Identity>,
    },
    Ready(Identity),
}

#[derive(Debug)]
struct Wire {
    phase: Phase,
    backoff: Backoff,
    /// Something is due since then, and nothing came.
    due_since: Option<Timestamp>,
    /// The driver has bytes that it did not read, or must not read.
    is_unread: bool,
}

/// The times that the link keeps to.
#[derive(Clone, Copy, Debug)]
pub struct LinkSettings {
    /// `cluster.connect_timeout`: until a connection is usable.
    pub connect_timeout: Duration,
    /// `cluster.io_timeout`.
    pub io_timeout: Duration,
    /// `cluster.probe_interval`.
    pub probe_interval: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    settings: LinkSettings,
    publisher: Wire,
    subscriber: Wire,
    is_up: bool,
    probe_at: Timestamp,
}

impl Link {
    /// Both connections are to be opened at once.
    pub(crate) fn new(settings: LinkSettings, now: Timestamp) -> Self {
        let wire = || Wire {
            phase: Phase::Down { retry_at: now },
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            due_since: None,
            is_unread: false,
        };
        Link {
            settings,
            publisher: wire(),
            subscriber: wire(),
            is_up: false,
            probe_at: now,
        }
    }

    /// Whether both connections are usable.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up
    }

    /// The server behind the link, if it is up.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match &self.publisher.phase {
            Phase::Ready(identity) if self.is_up => Some(identity),
            Phase::Ready(_)
            | Phase::Down { .. }
            | Phase::Connecting { .. }
            | Phase::Greeting { .. } => None,
        }
    }

    /// Whether the driver has a connection of which it was not told that it is given up.
    pub(crate) fn is_open(&self, lane: Lane) -> bool {
        let wire = match lane {
            Lane::Publisher => &self.publisher,
            Lane::Subscriber => &self.subscriber,
        };
        match wire.phase {
            Phase::Greeting { .. } | Phase::Ready(_) => true,
            Phase::Down { .. } | Phase::Connecting { .. } => false,
        }
    }

    fn wire(&mut self, lane: Lane) -> &mut Wire {
        match lane {
            Lane::Publisher => &mut self.publisher,
            Lane::Subscriber => &mut self.subscriber,
        }
    }

    /// The driver has connected.
    pub(crate) fn on_connected(&mut self, lane: Lane, now: Timestamp) {
        let until = now + self.settings.connect_timeout;
        let wire = self.wire(lane);
        if matches!(wire.phase, Phase::Connecting { .. }) {
            wire.phase = Phase::Greeting {
                until,
                identity: None,
            };
        }
    }

    /// The server has said what it is.
    pub(crate) fn on_identity(
        &mut self,
        lane: Lane,
        found: Result<Identity, Unfit>,
        now: Timestamp,
        bits: u64,
        out: &mut Vec<LinkEvent>,
    ) {
        match found {
            Ok(found) => {
                if let Phase::Greeting { identity, .. } = &mut self.wire(lane).phase {
                    *identity = Some(found);
                }
            }
            Err(unfit) => self.give_up(lane, Reason::Unfit(unfit), now, bits, out),
        }
    }

    /// All that the connection needs has come: scripts are loaded, or the own channel is subscribed to.
    pub(crate) fn on_greeted(
        &mut self,
        lane: Lane,
        now: Timestamp,
        bits: u64,
        out: &mut Vec<LinkEvent>,
    ) {
        let wire = self.wire(lane);
        let Phase::Greeting {
            identity: Some(identity),
            ..
        } = &wire.phase
        else {
            return;
        };
        wire.phase = Phase::Ready(identity.clone());
        let (Phase::Ready(one), Phase::Ready(other)) =
            (&self.publisher.phase, &self.subscriber.phase)
        else {
            return;
        };
        if one != other {
            self.give_up_both(Reason::Apart, now, bits, out);
            return;
        }
        self.is_up = true;
        self.publisher.backoff.reset();
        self.subscriber.backoff.reset();
        self.probe_at = now + self.settings.probe_interval;
        out.push(LinkEvent::Up);
    }

    /// The driver has lost the connection, or could not open it.
    pub(crate) fn on_closed(
        &mut self,
        lane: Lane,
        now: Timestamp,
        bits: u64,
        out: &mut Vec<LinkEvent>,
    ) {
        let wire = self.wire(lane);
        if matches!(wire.phase, Phase::Down { .. }) {
            return;
        }
        let wait = wire.backoff.wait(bits);
        wire.phase = Phase::Down {
            retry_at: now + wait,
        };
        wire.due_since = None;
        wire.is_unread = false;
        self.is_up = false;
        out.push(LinkEvent::Lost(lane));
    }

    /// Gives a connection up.
    pub(crate) fn give_up(
        &mut self,
        lane: Lane,
        reason: Reason,
        now: Timestamp,
        bits: u64,
        out: &mut Vec<LinkEvent>,
    ) {
        if matches!(self.wire(lane).phase, Phase::Down { .. }) {
            return;
        }
        out.push(LinkEvent::Close(lane, reason));
        self.on_closed(lane, now, bits, out);
    }

    /// Gives both up: the server is not the one to speak with.
    pub(crate) fn give_up_both(
        &mut self,
        reason: Reason,
        now: Timestamp,
        bits: u64,
        out: &mut Vec<LinkEvent>,
    ) {
        for lane in LANES {
            self.give_up(lane, reason, now, bits, out);
        }
    }

    /// Bytes came.
    pub(crate) fn note_progress(&mut self, lane: Lane, now: Timestamp) {
        let wire = self.wire(lane);
        if wire.due_since.is_some() {
            wire.due_since = Some(now);
        }
    }

    /// Says whether something is due from the server.
    pub(crate) fn note_due(&mut self, lane: Lane, is_due: bool, now: Timestamp) {
        let wire = self.wire(lane);
        if is_due {
            wire.due_since.get_or_insert(now);
        } else {
            wire.due_since = None;
        }
    }

    /// Says whether the driver leaves bytes unread, on purpose or for want of time. Then the silence is ours.
    pub(crate) fn note_unread(&mut self, lane: Lane, is_unread: bool, now: Timestamp) {
        self.wire(lane).is_unread = is_unread;
        self.note_progress(lane, now);
    }

    /// The next time at which something is to be done.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let wires = [&self.publisher, &self.subscriber];
        let of_wires = wires.map(|wire| wire.timeout(self.settings.io_timeout));
        let probe = self.is_up.then_some(self.probe_at);
        of_wires.into_iter().chain([probe]).flatten().min()
    }

    /// Does what is due. Returns whether the link is to be probed.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Timestamp,
        bits: u64,
        out: &mut Vec<LinkEvent>,
    ) -> bool {
        for lane in LANES {
            let io_timeout = self.settings.io_timeout;
            let until = now + self.settings.connect_timeout;
            let wire = self.wire(lane);
            if wire.timeout(io_timeout).is_none_or(|at| now < at) {
                continue;
            }
            let reason = match wire.phase {
                Phase::Down { .. } => {
                    wire.phase = Phase::Connecting { until };
                    out.push(LinkEvent::Connect(lane));
                    continue;
                }
                Phase::Connecting { .. } | Phase::Greeting { .. } => Reason::ConnectTimeout,
                Phase::Ready(_) => Reason::Silent,
            };
            self.give_up(lane, reason, now, bits, out);
        }
        let is_probe_due = self.is_up && now >= self.probe_at;
        if is_probe_due {
            self.probe_at = now + self.settings.probe_interval;
        }
        is_probe_due
    }
}

impl Wire {
    fn timeout(&self, io_timeout: Duration) -> Option<Timestamp> {
        match self.phase {
            Phase::Down { retry_at } => Some(retry_at),
            Phase::Connecting { until } | Phase::Greeting { until, .. } => Some(until),
            Phase::Ready(_) if self.is_unread => None,
            Phase::Ready(_) => self.due_since.map(|since| since + io_timeout),
        }
    }
}
