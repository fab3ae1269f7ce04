//! The load that is asked for: which connections there are, what they do, and what their messages look like.
//!
//! The command line fills in `options.rs`, and `plan.rs` turns them into connections. All other rooms read the plan.
//! This room imports none of them.
//!
//! **A new scenario** is a variant in `scenarios.rs`. Its connections are made in `plan.rs`, its options in
//! `options.rs`; the threads in `client/worker/` carry it out.

mod bodies;
pub(crate) mod chance;
pub(crate) mod limits;
pub(crate) mod message;
pub mod options;
pub mod payload;
pub(crate) mod plan;
pub mod protocol;
mod refusals;
pub mod scenarios;
pub(crate) mod target;
