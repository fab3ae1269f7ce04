//! Metrics: the numbers ([`stats`]), their names ([`catalogue`]), their text ([`collector`]) and the port that serves it
//! ([`exporter`]).
//!
//! Shards count, and the metrics thread reads what they publish. Nothing here waits for a shard.

pub mod catalogue;
pub mod collector;
pub mod exporter;
mod scraper;
pub mod stats;
