//! What the relay counts ([`stats`]), how it is named ([`catalogue`]), how it becomes text ([`collector`]) and how
//! that is served ([`exporter`]).

pub mod catalogue;
pub mod collector;
pub mod exporter;
mod scraper;
pub mod stats;
