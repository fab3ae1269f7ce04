//! The checks of every delivery: nothing lost, nothing twice, nothing out of order, nothing damaged.
//!
//! The threads of the client enter all that their connections receive (`books.rs`). When a run is over, the control
//! compares the orders that all of them saw (`agreement.rs`). This room touches no socket. It imports `scenario` and
//! `report`.
//!
//! A client that comes back goes on with the same checks. It counts its messages (`position.rs`), and it may miss some if
//! the relay says so (`excuses.rs`).
//!
//! **A new check of every delivery** goes into `received.rs`, which sees each message of a connection, and its count into
//! `tally.rs`. A check that compares connections goes into `agreement.rs`.

pub(crate) mod agreement;
pub(crate) mod books;
pub(crate) mod excuses;
pub(crate) mod order;
pub(crate) mod position;
pub(crate) mod posted;
pub(crate) mod received;
pub(crate) mod sent;
pub(crate) mod tally;
pub(crate) mod window;
