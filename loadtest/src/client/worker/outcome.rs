//! What a thread has found when the run is over; the control judges it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::check::agreement::Life;
use crate::check::order::Record;

/// What a thread has found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) ended: BTreeMap<String, u64>,
    /// Ends by the relay that are no part of what was tried out.
    pub(crate) unexpected_ends: u64,
    pub(crate) handshakes: Histogram<u64>,
    pub(crate) lives: Vec<Life>,
    pub(crate) forgotten_lives: u64,
    /// By topic.
    pub(crate) records: Vec<Option<Record>>,
    /// CPU time while measured, in nanoseconds.
    pub(crate) cpu: u64,
    /// Time spent waiting for a CPU while measured, in nanoseconds.
    pub(crate) waited: u64,
    /// Messages that were due and could not be sent.
    pub(crate) unsent: u64,
    /// Arrivals left out because too many were waited for.
    pub(crate) arrivals_left_out: u64,
    /// Connections that were there from the beginning to the end.
    pub(crate) stayed: u64,
    /// How often one that is slow has stopped reading.
    pub(crate) stalls: u64,
}
