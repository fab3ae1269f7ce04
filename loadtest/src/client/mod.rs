//! The clients: connections to the relay, and the threads that drive them.
//!
//! The control starts a worker (`worker/`) for each thread of the generator, and tells it through `shared.rs` what to
//! do. A worker opens connections (`connection.rs`), sends the messages of its publishers, and enters what arrives in
//! the books of `check`. This room imports `scenario`, `report` and `check`.
//!
//! **A subscriber that reads by another protocol** gets a folder beside `websocket/`: one file that opens a connection,
//! and one that takes its bytes apart into messages for a `Receiver` (`receiver.rs`). `opening.rs` and `entry.rs` choose
//! between the protocols.
//!
//! **A client that comes back** has a story (`story.rs`). Its checks and its count go on over all its connections:
//! `worker/returning.rs` cuts it and calls it back, and `worker/absent.rs` keeps it meanwhile.

mod asking;
pub(crate) mod connection;
mod entry;
mod events;
mod http;
mod meta;
mod opening;
mod posts;
pub(crate) mod probe;
mod publisher;
mod receiver;
pub(crate) mod shared;
mod story;
pub(crate) mod stream;
pub(crate) mod tls;
mod websocket;
mod words;
pub(crate) mod worker;
