//! A load generator for WebSocket relays: any server that sends a message to every client connected to the same URL.
//!
//! It checks every delivery and watches its own CPU. It reports as a screen of text, as JSON ([`report`]) and as a
//! page. [`run()`] takes [`scenario::options::Options`] and returns a [`report::Report`].
//!
//! Each room imports only rooms below it. A room's `mod.rs` says where something new goes:
//!
//! ```text
//! cli        the command line
//! compare    several servers, started and loaded in turns; the peers
//! run        the control of a run: phases, samples, the server's process and counters, the verdict
//! client     connections, protocols, and the threads that work them
//! check      what is checked of every delivery
//! report     the document, and how it is shown: screen, pages, charts, tables
//! scenario   what is asked for: options, scenarios, the plan, messages
//! ```
//!
//! All may use `clock` and `secrets`.

mod check;
pub mod cli;
mod client;
mod clock;
pub mod compare;
pub mod report;
mod run;
pub mod scenario;
mod secrets;

pub use run::{RunError, run};
