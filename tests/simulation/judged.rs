//! Checks of the reasons for which clients are closed: replays are no laggards, and kept messages give way before clients do.

use std::collections::BTreeSet;

use fanwire::internals::ClientKey;
use fanwire::internals::relay::Shard;
use fanwire::server::Stat;

/// The closed clients of a host, and what a turn knew before it wrote to any.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// The clients that replay, with something of their list left to be sent.
    replaying: BTreeSet<ClientKey>,
    /// Departures for a lag, and all departures.
    before: [u64; 2],
    /// The times that clients had to give way for lack of memory, until the last turn.
    limit_reached: u64,
}

fn departures(shard: &Shard) -> [u64; 2] {
    [Stat::DisconnectedLag, Stat::Disconnections].map(|stat| shard.stats().value(stat))
}

impl Judged {
    /// The shard is about to write to its clients.
    pub(crate) fn begin(&mut self, shard: &Shard) {
        self.replaying = shard.unfinished_replays().into_iter().collect();
        self.before = departures(shard);
    }

    /// The shard has written to the client.
    pub(crate) fn note_write(&mut self, shard: &Shard, key: ClientKey) {
        if shard.is_replay_over(key) == Some(true) {
            // The owner is asked for the rest, and may not have it any more.
            self.replaying.remove(&key);
        }
    }

    /// The turn is over.
    pub(crate) fn end(&mut self, shard: &Shard) {
        let after = departures(shard);
        let [lag, all] = [0, 1].map(|place| after[place] - self.before[place]);
        for key in std::mem::take(&mut self.replaying) {
            // If others have left for other reasons, nobody knows which is whose.
            let has_left = shard.is_replay_over(key).is_none();
            assert!(
                !has_left || lag == 0 || lag != all,
                "a replay is judged as lag"
            );
        }
        let limit_reached = shard.stats().value(Stat::BufferLimitReached);
        let before = std::mem::replace(&mut self.limit_reached, limit_reached);
        let kept = shard.stats().value(Stat::HistoryBytes);
        assert!(
            limit_reached == before || kept == 0,
            "a client gives way, and {kept} bytes are kept for those that come later"
        );
    }
}
