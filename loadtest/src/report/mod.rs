//! The report of a run, and its forms: JSON, a screen of text, a page with charts, a table of several servers.
//!
//! `run` fills in the document (`document.rs`), and the command line writes and shows it. While a run goes on, `run`
//! tells an observer (`observer.rs`), such as the progress bar (`progress.rs`). This room imports `scenario` only.
//!
//! **A new figure or column** is a field of a type in `document.rs`; the JSON and its schema follow. Figures that are
//! computed from fields are in `figures.rs`. `screen.rs` shows a figure in a line, `page/run.rs` in a row, `table.rs`
//! in a column.

pub mod chart;
mod distribution;
mod document;
mod figures;
pub(crate) mod latency;
pub(crate) mod merged;
pub mod observer;
pub(crate) mod page;
mod posts;
pub(crate) mod progress;
pub(crate) mod returns;
pub(crate) mod screen;
pub(crate) mod summary;
pub(crate) mod table;
pub mod unit;

pub(crate) use figures::{Verdict, per_second};
pub use summary::spread;

pub use document::{
    Check, Compared, Comparison, Configuration, Connections, Counters, Deflate, Deliveries,
    Generator, Latency, Machine, Point, Report, SCHEMA_VERSION, Sample, Server, Spread, Summary,
};
pub use posts::Posts;
pub(crate) use returns::LISTED;
pub use returns::{Avalanche, ClientReturns, CutStyle, Returns};
