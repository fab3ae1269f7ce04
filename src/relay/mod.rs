//! The relay itself, without sockets, clocks, threads or atomics.
//!
//! A [`shard::Shard`] is handed bytes, envelopes and the time, and hands out bytes to write and envelopes to send.
//! A [`turn::Turn`] drives it for a host: `net` is one with real sockets, the simulation one with invented ones.
//!
//! ```text
//! client ── member ──▶ topic ── log ── batch          one shard's side of a topic, and what is in it
//!                      roster                         who is in it, and whose turn it is
//!                      owner ── pending               the side that numbers messages and spreads them
//! envelope, router                                    what shards say to one another, and to which
//! row                                                 how many are served before others have their turn
//! coalesce                                            how much time passes between two fan-outs of a topic
//! rate                                                how often a client may publish
//! policy, grace                                       laggards
//! ranking, sharing                                    who costs most; what several cost together
//! departure, control, timers                          why clients leave; control frames; deadlines
//! ```

pub mod audience;
pub mod batch;
pub mod client;
pub mod control;
pub mod departure;
pub mod draft;
pub mod envelope;
pub mod grace;
pub mod log;
pub mod member;
pub mod outbox;
pub mod owner;
pub mod patience;
pub mod policy;
pub mod ranking;
pub mod rate;
pub mod roster;
pub mod router;
pub mod row;
pub mod shard;
pub mod sharing;
pub mod timers;
pub mod topic;
pub mod turn;
