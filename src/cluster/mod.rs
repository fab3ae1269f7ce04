//! Several relays as one: every topic in one order on all nodes, over a Redis or Valkey.
//!
//! This is the pure half. It gets bytes, events and the time, and says what to send and what happened. It opens no socket.
//! [`engine::Engine`] is one engine as one worker sees it; a driver moves its bytes. The files, from the top down:
//!
//! - [`engine`]: topics and the link together; effects become commands, and replies become events.
//! - [`topic`]: one topic on one node, the heart of it. It knows no Redis, only `publish`, `sync`, `fill` and `fence`.
//! - [`link`]: the two connections, their health, and the commands on their way.
//! - [`sentinel`]: where the master is, as a Sentinel says.
//! - [`audit`], [`hello`]: questions about quiet topics; nodes that differ.
//! - [`scripts`], [`names`], [`batch`], [`reply`], [`command`], [`info`], [`trouble`], [`rendezvous`]: the protocol.
//!
//! `tests/cluster` runs nodes against a model of the engine, and judges every rule.

pub(crate) mod audit;
pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod command;

pub(crate) mod engine;
pub(crate) mod hello;
pub(crate) mod info;
pub(crate) mod link;
pub(crate) mod names;
pub(crate) mod place;
pub(crate) mod rendezvous;
pub(crate) mod reply;
pub(crate) mod requests;
pub(crate) mod scripts;
pub(crate) mod sentinel;
pub(crate) mod topic;
pub(crate) mod trouble;
