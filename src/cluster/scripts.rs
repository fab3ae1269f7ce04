//! The scripts that the engine runs, their arguments, and their answers.
//!
//! Each runs as one step. `tests/cluster` has a model of them, and compares the model with a real server.

use bytes::Bytes;

use super::batch::{self, Arrival};
use super::command::Command;
use super::info::Identity;
use super::names::TopicNames;
use super::place::{Epoch, NodeId, Place};
use super::reply::Reply;
use super::topic::verdict::Synced;

/// One of the scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Says where a topic is, and begins an epoch if one is needed.
    Sync,
    /// Numbers and publishes a batch.
    Publish,
    /// Writes, and publishes a token.
    Probe,
}

/// All scripts.
pub const SCRIPTS: [Script; 3] = [Script::Sync, Script::Publish, Script::Probe];

impl Script {
    /// Its text, in Lua.
    pub fn text(self) -> &'static str {
        match self {
            Script::Sync => include_str!("scripts/sync.lua"),
            Script::Publish => include_str!("scripts/pub.lua"),
            Script::Probe => include_str!("scripts/probe.lua"),
        }
    }
}

/// The digests by which the server knows the scripts, as it said when they were loaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded([Bytes; SCRIPTS.len()]);

impl Loaded {
    /// Notes the answer to `SCRIPT LOAD`.
    pub(crate) fn note(&mut self, script: Script, digest: Bytes) {
        self.0[script as usize] = digest;
    }

    fn call(&self, script: Script, keys: &[&Bytes]) -> Command {
        let command = Command::new("EVALSHA").arg(self.0[script as usize].clone());
        let command = command.number(keys.len() as u64);
        keys.iter()
            .fold(command, |command, key| command.arg((*key).clone()))
    }

    /// The call of SYNC.
    pub(crate) fn sync(&self, names: &TopicNames, sync: &SyncCall<'_>) -> Command {
        self.call(Script::Sync, &[&names.hash, &names.stream])
            .arg(sync.server.as_bytes().clone())
            .number(sync.fresh.0)
            .arg(sync.node.to_string())
            .number(sync.base)
            .number(sync.ttl_secs)
            .number(sync.members)
            .number(u64::from(sync.sweeps))
    }

    /// The call of PUB.
    pub(crate) fn publish(&self, names: &TopicNames, publish: PublishCall) -> Command {
        self.call(Script::Publish, &[&names.hash, &names.stream])
            .number(publish.head.epoch.0)
            .arg(publish.head.node.to_string())
            .number(publish.head.seq)
            .number(u64::from(publish.head.count))
            .arg(publish.packed)
            .arg(names.channel.clone())
            .number(publish.keep)
            .number(publish.history_ttl_secs)
    }

    /// The call of PROBE.
    pub(crate) fn probe(&self, own: &Bytes, token: u64) -> Command {
        let call = self.call(Script::Probe, &[own]);
        call.arg(own.clone()).number(token)
    }
}

/// The arguments of SYNC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncCall<'a> {
    /// The server that we believe to speak with.
    pub server: &'a Identity,
    /// The epoch to use if one is needed.
    pub fresh: Epoch,
    /// This node.
    pub node: NodeId,
    /// The first batch that may come from this node.
    pub base: u64,
    /// The topic is forgotten after so many seconds.
    pub ttl_secs: u64,
    /// Members here.
    pub members: u64,
    /// Whether to remove nodes that have been silent for as long.
    pub sweeps: bool,
}

/// The arguments of PUB.
#[derive(Clone, Debug)]
pub(crate) struct PublishCall {
    /// The batch's header.
    pub head: batch::Head,
    /// The batch with its header.
    pub packed: Bytes,
    /// Entries to keep in the stream; 0 for none.
    pub keep: u64,
    /// Seconds to keep them.
    pub history_ttl_secs: u64,
}

/// The most entries of a stream, however small they are.
const MAX_KEPT: u64 = 10_000;

/// The entries to keep in a stream that may have `history_bytes`, with a batch of `len` bytes on top. A batch above it is kept
/// alone.
pub(crate) fn keep(history_bytes: u64, len: usize) -> u64 {
    if history_bytes == 0 {
        return 0;
    }
    (history_bytes / (len as u64 + 64)).clamp(1, MAX_KEPT)
}

/// Reads the answer of SYNC.
pub(crate) fn read_synced(reply: &Reply) -> Option<Synced> {
    let [epoch, last, before, before_last, done] = reply.items()? else {
        return None;
    };
    Some(Synced {
        at: place(epoch, last)?,
        before: place(before, before_last)?,
        done: done.number()?,
    })
}

/// Reads the answer to `HMGET hash e n`. `Some(None)`: there is no hash.
#[expect(
    clippy::option_option,
    reason = "the answer may be wrong, or be that there is nothing"
)]
pub(crate) fn read_audit(reply: &Reply) -> Option<Option<Place>> {
    match reply.items()? {
        [Reply::Nil, _] => Some(None),
        [epoch, last] => place(epoch, last).map(Some),
        _ => None,
    }
}

fn place(epoch: &Reply, last: &Reply) -> Option<Place> {
    Some(Place {
        epoch: Epoch(epoch.number()?),
        last: last.number()?,
    })
}

/// Reads the answer of XRANGE. `None` stands for an entry that is no batch, or not the one that its id says.
pub(crate) fn read_entries(reply: &Reply) -> Option<Vec<Option<Arrival>>> {
    let entries = reply.items()?.iter();
    Some(entries.map(read_entry).collect())
}

fn read_entry(entry: &Reply) -> Option<Arrival> {
    let [_, fields] = entry.items()? else {
        return None;
    };
    let [_, batch] = fields.items()? else {
        return None;
    };
    let arrival = batch::read(batch.bytes()?.clone()).ok()?;
    (entry_number(entry) == Some(arrival.first)).then_some(arrival)
}

/// The number in the id of an entry, `7-0`.
pub(crate) fn entry_number(entry: &Reply) -> Option<u64> {
    let id = entry.items()?.first()?.bytes()?;
    let number = std::str::from_utf8(id).ok()?.strip_suffix("-0")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn history_is_kept_by_entries() {
        for (history, len, entries) in [
            (0, 100, 0),
            (256 << 10, 192, 1_024),
            (256 << 10, 64 << 10, 3),
            (256 << 10, 1 << 20, 1),
            (1 << 30, 0, MAX_KEPT),
        ] {
            assert_eq!(keep(history, len), entries, "{history} {len}");
        }
    }

    #[test]
    fn answers_are_read_and_others_refused() {
        let numbers = [7, 12, 3, 4, 5].map(Reply::Integer).to_vec();
        let synced = read_synced(&Reply::Array(numbers.clone())).expect("five numbers");
        assert_eq!(synced.at.to_string(), "7-12");
        assert_eq!((synced.before.to_string(), synced.done), ("3-4".into(), 5));
        assert_eq!(read_synced(&Reply::Array(numbers[1..].to_vec())), None);
        assert_eq!(read_synced(&Reply::Integer(1)), None);
        let audit = |items: &[Reply]| read_audit(&Reply::Array(items.to_vec()));
        assert_eq!(audit(&[Reply::Nil, Reply::Nil]), Some(None));
        let found = audit(&[bulk("7"), bulk("12")]).flatten();
        assert_eq!(found.map(|place| place.to_string()), Some("7-12".into()));
        assert_eq!(audit(&[bulk("7"), bulk("-1")]), None);
        assert_eq!(audit(&[bulk("7")]), None);
    }

    #[test]
    fn an_entry_is_a_batch_under_its_own_number() {
        let entry = |id, batch| {
            let fields = Reply::Array(vec![bulk("b"), Reply::Bulk(batch)]);
            Reply::Array(vec![Reply::Array(vec![bulk(id), fields])])
        };
        let head = batch::Head {
            version: batch::VERSION,
            count: 1,
            node: NodeId(1),
            seq: 1,
            epoch: Epoch(1),
        };
        let packed = batch::pack(&head, std::iter::once(&[0x82, 0][..]));
        let batch = batch::stamp(7, 0, &packed);
        let read = |id| read_entries(&entry(id, batch.clone())).expect("a list")[0].clone();
        assert_eq!(read("7-0").map(|arrival| arrival.first), Some(7));
        for id in ["8-0", "7-1", "7", "x-0"] {
            assert_eq!(read(id), None);
        }
        assert_eq!(read_entries(&entry("7-0", Bytes::new())), Some(vec![None]));
        assert_eq!(read_entries(&Reply::Nil), None);
    }
}
