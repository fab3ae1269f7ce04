//! How a worker reads: whose turn it is, how much of each, and when it is enough for this turn.

use std::time::Duration;

use super::{Worker, conn_in};
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::net::conn::{Conn, Filled, Scratch};
use crate::net::tls::session::Handshake;
use crate::relay::shard::{End, Permit, Shard};
use crate::time::Timestamp;

/// Bytes read in one turn, before the last read: what a turn takes in is what the next ones have to send many times.
const READ_BUDGET_BYTES: usize = 1 << 20;

/// Time spent on reading in one turn, before the last visit: as long as a flush takes, so that whoever floods the relay
/// with what is expensive to take in does not keep its members waiting.
const READ_BUDGET: Duration = Duration::from_millis(2);

/// A visit that takes longer than this puts its connection into the heavy lane for the next. Four full reads take a
/// third of it; a TLS handshake takes it, and so do records that bring nothing but new keys.
const HEAVY_VISIT: Duration = Duration::from_millis(1);

/// Reads of one connection in one turn.
const READS_PER_CONN: usize = 4;

/// While any shard's inbox holds this many bytes of messages, no shard reads: what is numbered is never dropped, so
/// what is not numbered yet must wait in the senders' sockets.
const INBOX_HIGH_WATER_BYTES: usize = 8 << 20;

/// What is left of a turn's budget for reading.
struct Budget {
    bytes: usize,
    until: Timestamp,
    /// When the last visit ended.
    at: Timestamp,
}

impl Worker {
    /// Visits connections that may have something to read: the light ones first, then at least one heavy one.
    pub(super) fn read_ready(&mut self) {
        let now = self.clock.now();
        if self.is_congested() {
            self.shard.stats_mut().inc(Stat::ReadsDeferred);
            self.congested_since.get_or_insert(now);
            return;
        }
        if let Some(since) = self.congested_since.take() {
            self.unread += now.since(since);
        }
        if !self.unread.is_zero() {
            self.shard.excuse(std::mem::take(&mut self.unread));
        }
        let mut budget = Budget {
            bytes: READ_BUDGET_BYTES,
            until: now + READ_BUDGET,
            at: now,
        };
        for is_heavy in [false, true] {
            for _ in 0..self.ready.len(is_heavy) {
                let Some(key) = self.ready.pop(is_heavy) else {
                    break;
                };
                if !self.visit(key, &mut budget) {
                    break;
                }
            }
        }
    }

    fn is_congested(&self) -> bool {
        let mut boxes = self.postboxes.iter();
        boxes.any(|other| other.inbox.backlog_bytes() > INBOX_HIGH_WATER_BYTES)
    }

    /// Reads a connection as often as it may be in one turn, and says whether anything is left of the budget.
    fn visit(&mut self, key: ClientKey, budget: &mut Budget) -> bool {
        if let Some(conn) = self.conn(key) {
            conn.ready = false;
        }
        let (read, is_left_over) = self.read(key);
        let now = self.clock.now();
        let is_heavy = now.since(budget.at) > HEAVY_VISIT;
        budget.at = now;
        budget.bytes = budget.bytes.saturating_sub(read);
        if let Some(conn) = self.conn(key) {
            conn.heavy = is_heavy || conn.is_handshaking();
        }
        if is_left_over {
            self.make_ready(key);
        }
        budget.bytes > 0 && now < budget.until
    }

    /// Reads a connection, and says how many bytes came and whether there may be more that could be read now.
    fn read(&mut self, key: ClientKey) -> (usize, bool) {
        if !self.is_introduced(key) {
            return (0, false);
        }
        let Some(conn) = conn_in(&mut self.conns, key) else {
            return (0, false);
        };
        let mut total = 0;
        for _ in 0..READS_PER_CONN {
            match self.shard.permit(key) {
                Permit::Read => {}
                Permit::Parked => return (total, false),
            }
            let filled = fill(&mut self.shard, conn, key, &mut self.scratch);
            match filled {
                Filled::More(n) => total += n,
                Filled::Last(n) => return (total + n, false),
                Filled::Empty => return (total, false),
                Filled::Eof => {
                    self.shard.on_end(key, End::Eof);
                    return (total, false);
                }
                Filled::Failed => {
                    self.shard.on_end(key, End::Failed);
                    return (total, false);
                }
                Filled::TlsFailed => {
                    self.shard.on_end(key, End::TlsFailed);
                    return (total, true);
                }
            }
        }
        (total, true)
    }
}

/// Reads into the client's own buffer when it is in the middle of a large message, and into the scratch otherwise.
fn fill(shard: &mut Shard, conn: &mut Conn, key: ClientKey, scratch: &mut Scratch) -> Filled {
    if !conn.is_encrypted()
        && let Some(buffer) = shard.direct_buffer(key)
    {
        let filled = conn.fill_plain(buffer);
        if let Filled::More(n) | Filled::Last(n) = filled {
            shard.on_direct(key, n);
        }
        return filled;
    }
    let is_handshaking = conn.is_handshaking();
    let filled = conn.fill(scratch);
    if is_handshaking && let Some(handshake) = conn.handshake() {
        shard.stats_mut().inc(match handshake {
            Handshake::Full => Stat::TlsFull,
            Handshake::Resumed => Stat::TlsResumed,
        });
    }
    // A read may bring nothing but records of TLS' own.
    if let Filled::More(n @ 1..) | Filled::Last(n) = filled {
        shard.on_bytes(key, &mut scratch.plain[..n]);
    }
    filled
}
