//! A load generator for WebSocket relays: any server that sends a message to every client connected to the same URL.
//!
//! It checks every delivery, watches its own CPU, and says what it found as a screen, as JSON ([`report`]) and as a page.
//!
//! [`run`] is all of it: it takes [`options::Options`] and returns a [`report::Report`]. Inside, one control ([`run`]'s
//! caller) leads threads from phase to phase:
//!
//! ```text
//! plan      options → which connection does what        probe     is it a relay, does it echo?
//! engine    the control: phases, rounds, samples        conclude  orders compared, the report written
//! worker    a thread: event loop, schedule, publishers  shared    what threads and control tell each other
//! books     a thread's deliveries, entered              check     one connection's, checked; order, window
//! conn      a connection: stream, handshake, what it    wire, message   bytes
//!           receives (inbound) and sends (outgoing)     secrets   hidden in all that is shown
//! figures   what a report's counts come to              compare   several servers, started in turns
//! html      the page of a report, with charts           screen    the same as text
//! ```

mod books;
pub mod chart;
mod check;
pub mod cli;
mod clock;
pub mod compare;
mod conclude;
mod conn;
mod engine;
mod figures;
mod handshake;
pub mod html;
mod inbound;
mod latency;
mod limits;
mod message;
pub mod observer;
pub mod options;
mod order;
mod outgoing;
pub mod peers;
mod plan;
mod probe;
mod procfs;
pub mod progress;
mod publisher;
pub mod report;
mod scrape;
pub mod screen;
mod secrets;
mod series;
mod shared;
mod stream;
mod target;
mod tls;
mod watch;
mod window;
mod wire;
mod worker;

pub use engine::{RunError, run};
