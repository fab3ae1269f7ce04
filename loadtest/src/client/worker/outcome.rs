//! The findings of a thread when the run is over. The control judges them.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::absent::Returns;
use crate::check::agreement::Life;
use crate::check::books::Resumes;
use crate::check::order::Record;
use crate::check::posted::PostBooks;

/// The findings of a thread.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) ended: BTreeMap<String, u64>,
    /// Ends by the relay that the scenario does not allow.
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
    /// Messages that were due and were never sent.
    pub(crate) unsent: u64,
    /// Clients that did not come because too many were still connecting.
    pub(crate) arrivals_left_out: u64,
    /// Connections that were there from the beginning to the end.
    pub(crate) stayed: u64,
    /// The number of times that a slow subscriber stopped reading.
    pub(crate) stalls: u64,
    /// Answers to posts.
    pub(crate) posts: PostBooks,
    /// Posts that were refused for now and sent again.
    pub(crate) posts_repeated: u64,
    /// Connections for posts that the relay ended between two requests.
    pub(crate) posts_reopened: u64,
    /// Clients that came back, by what the relay said.
    pub(crate) resumes: Resumes,
    /// Clients that come back.
    pub(crate) returns: Returns,
}
