//! Clients that have no connection for now: where each was, and the counts of all that come back.
//!
//! `returning.rs` sends them away and calls them back.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use slab::Slab;

use crate::check::position::Counting;
use crate::check::received::Received;
use crate::client::connection::{Conn, State};
use crate::client::story::Story;
use crate::report::latency;
use crate::report::{ClientReturns, CutStyle};
use crate::scenario::plan::Wanted;

/// A client that has no connection for now.
#[derive(Debug)]
pub(super) struct Absence {
    pub(super) wanted: Wanted,
    pub(super) received: Received,
    pub(super) counting: Counting,
    pub(super) story: Box<Story>,
}

/// The publishers by POST of a thread that do not send for now.
#[derive(Debug, Default)]
pub(super) struct Posting {
    /// Those that wait until they may send a message again.
    pub(super) paused: BTreeSet<u32>,
    /// The number of those without a connection.
    pub(super) away: usize,
    /// Messages that were refused for now and sent again.
    pub(super) repeated: u64,
    /// Connections that were opened again.
    pub(super) reopened: u64,
}

impl Posting {
    /// Whether all of them may send.
    pub(super) fn is_settled(&self) -> bool {
        self.paused.is_empty() && self.away == 0
    }
}

/// A connection that is to be opened, for a new client or one that comes back.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) wanted: Wanted,
    pub(super) absence: Option<Box<Absence>>,
}

/// The clients of a thread that come back.
#[derive(Debug)]
pub(crate) struct Returns {
    /// Clients that wait for the time of their return.
    pub(super) absent: Slab<Box<Absence>>,
    pub(crate) cuts: BTreeMap<CutStyle, u64>,
    /// Attempts to come back that failed, by reason.
    pub(crate) retried: BTreeMap<String, u64>,
    /// Clients that came back.
    pub(crate) returned: u64,
    /// Those among them that had missed nothing.
    pub(crate) up_to_date: u64,
    /// Messages that they had missed by then.
    pub(crate) behind: u64,
    /// From the answer to the handshake until the client had what was sent by then.
    pub(crate) replays: Histogram<u64>,
    /// The same from when it began to connect.
    pub(crate) catch_ups: Histogram<u64>,
    /// From an avalanche until a client had caught up.
    pub(crate) recoveries: Histogram<u64>,
    /// Clients in an avalanche.
    pub(crate) fallen: u64,
    /// Clients, each with its counts, when the run is over.
    pub(crate) clients: Vec<ClientReturns>,
}

impl Returns {
    pub(super) fn new() -> Returns {
        Returns {
            absent: Slab::new(),
            cuts: BTreeMap::new(),
            retried: BTreeMap::new(),
            returned: 0,
            up_to_date: 0,
            behind: 0,
            replays: latency::new(),
            catch_ups: latency::new(),
            recoveries: latency::new(),
            fallen: 0,
            clients: Vec::new(),
        }
    }

    pub(super) fn is_anybody_absent(&self) -> bool {
        !self.absent.is_empty()
    }
}

impl Call {
    /// A new client.
    pub(super) fn new(wanted: Wanted) -> Call {
        Call {
            wanted,
            absence: None,
        }
    }

    pub(super) fn back(absence: Box<Absence>) -> Call {
        Call {
            wanted: absence.wanted,
            absence: Some(absence),
        }
    }
}

/// The counts of a client whose story is over. It is still owed `owed` messages.
pub(super) fn client_row(
    wanted: &Wanted,
    received: &Received,
    story: &Story,
    owed: u64,
) -> ClientReturns {
    let own = received.own_counts();
    ClientReturns {
        client: wanted.client as u64,
        topic: wanted.topic,
        returns: story.returns,
        failed_attempts: story.failures,
        lost: own.lost + owed,
        missed: own.missed,
        repeated: own.repeated,
        told: own.told,
        falsely_told: own.falsely_told,
        slowest_replay: story.slowest,
    }
}

/// The client of a connection that has ended. `None` if it does not come back.
pub(super) fn absence(conn: Conn) -> Option<Box<Absence>> {
    let mut story = conn.story?;
    // An attempt that failed is not another cut.
    if matches!(conn.state, State::Open(_)) {
        story.cuts += 1;
    }
    story.goal = None;
    let (mut received, mut counting) = (conn.received, conn.counting);
    received.forget_piecemeal();
    counting.reconnect();
    Some(Box::new(Absence {
        wanted: conn.wanted,
        received,
        counting,
        story,
    }))
}
