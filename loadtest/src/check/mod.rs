//! The checks of every delivery: nothing lost, nothing twice, nothing out of order, nothing damaged.
//!
//! A thread of the client enters all that its connections receive in its `books.rs`; at the end the control compares the
//! `agreement.rs` of all. This room touches no socket. It imports `scenario` and `report`.
//!
//! **A new check of every delivery** goes into `received.rs`, which sees each message of a connection, and its count into
//! `tally.rs`. A check that compares connections goes into `agreement.rs`.

pub(crate) mod agreement;
pub(crate) mod books;
pub(crate) mod order;
pub(crate) mod received;
pub(crate) mod sent;
pub(crate) mod tally;
pub(crate) mod window;
