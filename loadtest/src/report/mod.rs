//! What a run found, and how it is shown: as JSON, on the screen, as a page with charts, as a table of several servers.
//!
//! The control fills in the `document.rs`; the command line has it written and shown. While a run goes on it tells an
//! `observer.rs`, of which the bar in `progress.rs` is one. This room imports `scenario` only.
//!
//! **A new figure** is a field of a type in `document.rs`, from which the JSON and its schema follow. What is computed from
//! fields is in `figures.rs`. A figure is shown by a line in `screen.rs`, a row in `page/run.rs`, a column in `table.rs`.

pub mod chart;
mod document;
mod figures;
pub(crate) mod latency;
pub mod observer;
pub(crate) mod page;
pub(crate) mod progress;
pub(crate) mod screen;
pub(crate) mod summary;
pub(crate) mod table;
pub mod unit;

pub(crate) use figures::per_second;
pub use summary::spread;

pub use document::{
    Check, Compared, Comparison, Configuration, Connections, Counters, Deliveries, Generator,
    Latency, Machine, Point, Report, SCHEMA_VERSION, Sample, Server, Spread, Summary,
};
