//! The description of a topic: how many members it has, where it is, and what is kept of it.

use super::position::Position;
use super::reply::{Manner, Reply};
use super::topic_name::TopicName;
use crate::http::response::Status;

/// A request for the description of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Describe {
    /// The topic. It need not exist.
    pub topic: TopicName,
    /// How the request is answered.
    pub manner: Manner,
}

/// The owner's knowledge of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// The members on all shards, as these said last.
    pub members: u32,
    /// The position in front of the next message, if it is known.
    pub at: Option<Position>,
    /// The position in front of the oldest message that is kept, or of the next one if none is.
    pub oldest: Option<Position>,
    /// Memory of the messages that are kept, in bytes.
    pub bytes: u64,
}

/// The answer. A topic that nobody uses has no position.
pub(crate) fn described(found: Option<Description>) -> Reply {
    let members = found.map_or(0, |found| found.members);
    let reply = Reply::new(Status::Ok).field("Fanwire-Members", members.to_string());
    let (reply, body) = if let Some(Description {
        at: Some(at),
        oldest: Some(oldest),
        bytes,
        ..
    }) = found
    {
        let body = format!(
            "{{\"members\":{members},\"at\":\"{at}\",\"oldest\":\"{oldest}\",\"bytes\":{bytes}}}\n"
        );
        (reply.field("Fanwire-Position", at.to_string()), body)
    } else {
        let body = format!("{{\"members\":{members},\"at\":null,\"oldest\":null,\"bytes\":0}}\n");
        (reply, body)
    };
    reply.body("application/json", body.into_bytes())
}
