//! From a request on the relay's port to a decision, and the terms of it.
//!
//! A shard hands a complete request head to [`decision::Port::decide`], and acts on the [`decision::Decision`]. A new kind
//! of request is a new variant there. Each thing that a client negotiates is a field of [`terms::Terms`]. A request that is no
//! upgrade gets a [`reply::Reply`]. Nothing here knows a shard, a member or the owner of a topic.

pub(crate) mod cors;
pub(crate) mod decision;
pub(crate) mod describe;
pub(crate) mod events;
pub(crate) mod for_now;
pub(crate) mod form;
pub(crate) mod idempotency;
pub(crate) mod lines;
pub(crate) mod page;
pub(crate) mod position;
pub(crate) mod post;
mod posting;
pub(crate) mod reply;
pub(crate) mod start;
pub(crate) mod subject;
pub(crate) mod terms;
pub(crate) mod topic_name;
pub(crate) mod words;
