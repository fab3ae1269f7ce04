//! The relay itself, without sockets, clocks, threads or atomics.
//!
//! A [`shard::Shard`] is handed bytes, envelopes and the time, and hands out bytes to write and envelopes to send.
//! A [`turn::Turn`] drives it for a host: `net` is one with real sockets, the simulation one with invented ones.
//!
//! ```text
//! turn, patience      the steps of a turn, and the sleep after it
//! shard/              clients, and the work of a turn. Knows topic/, owner/ and policy/
//! owner/              topics as their owner sees them: numbers, fan-outs, holds. Knows shards, no members
//! topic/              topics as a shard with members sees them: log, members, rounds. Knows no owner
//! places              the places of messages, if an engine numbers them
//! batch/              messages on their way: drafts, then batches in forms, for an audience
//! policy/             laggards, rates, and reasons for which clients leave
//! conduct             the settings of each topic, general or by its rule
//! envelope, outbox    messages from shard to shard, and to the shard itself
//! posting             those about requests that publish or ask
//! saved/              what one process leaves to the next: the bytes of a history file. Knows shard/
//! router              finds the shard that owns a topic
//! ```

pub(crate) mod batch;
pub(crate) mod conduct;
pub(crate) mod envelope;
pub(crate) mod hold;
pub(crate) mod outbox;
pub(crate) mod owner;
pub(crate) mod patience;
pub(crate) mod places;
pub(crate) mod policy;
pub(crate) mod posting;
pub(crate) mod router;
pub(crate) mod saved;
pub(crate) mod shard;
pub(crate) mod topic;
pub(crate) mod turn;
