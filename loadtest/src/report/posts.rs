//! The part of a report about publishers that send by POST.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::distribution::Latency;

/// Publishers that send by POST.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Posts {
    /// The most requests in flight on a connection.
    pub pipeline: usize,
    /// Answers, by status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests that were refused for now and sent again.
    pub repeated: u64,
    /// Connections that the relay ended between two requests, and that were opened again.
    pub reopened: u64,
    /// Answers with status 202 and without a position.
    pub unplaced: u64,
    /// From sending a request until its answer.
    pub latency: Latency,
}
