//! Metrics: the numbers ([`stats`], [`engines`]), their names ([`catalogue`], [`listing`]), their text ([`collector`]) and
//! the port that serves it ([`exporter`]).
//!
//! Shards count, and the metrics thread reads what they publish. Nothing here waits for a shard.

pub(crate) mod catalogue;
pub(crate) mod collector;
pub(crate) mod engines;
pub(crate) mod exporter;
pub(crate) mod labels;
pub(crate) mod listing;
mod scraper;
pub(crate) mod stats;
