//! Metrics: the numbers ([`stats`]), their names ([`catalogue`]), their text ([`collector`]) and the port that serves it
//! ([`exporter`]). [`engines`] has the numbers of connections to engines.
//!
//! Shards count, and the metrics thread reads what they publish. Nothing here waits for a shard.

pub(crate) mod catalogue;
pub(crate) mod collector;
pub(crate) mod engines;
pub(crate) mod exporter;
pub(crate) mod labels;
mod scraper;
pub(crate) mod stats;
