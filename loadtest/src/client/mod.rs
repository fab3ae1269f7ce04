//! The clients: connections to the relay, and the threads that work them.
//!
//! The control starts one `worker/` for each thread of the generator and tells it through `shared.rs` what to do. A worker
//! opens `connection.rs`s, sends what its publishers have to send, and enters what arrives in the books of `check`. This
//! room imports `scenario`, `report` and `check`.
//!
//! **A subscriber that reads by another protocol** gets a folder beside `websocket/`: one file that opens a connection,
//! and one that takes its bytes apart into messages and hands them to a `receiver.rs`. `connection.rs` chooses between them.

pub(crate) mod connection;
pub(crate) mod probe;
mod publisher;
mod receiver;
pub(crate) mod shared;
pub(crate) mod stream;
pub(crate) mod tls;
mod websocket;
pub(crate) mod worker;
