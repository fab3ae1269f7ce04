//! The description of a topic: how many members it has, where it is, and what is kept of it.

use super::position::{Epoch, Position};
use super::reply::{Manner, Reply};
use super::topic_name::TopicName;
use crate::http::response::Status;
use crate::ids::Seq;

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
    /// The number of the next message.
    pub next: Seq,
    /// The number of the oldest message that is kept; `next` if none is.
    pub oldest: Seq,
    /// Memory of the messages that are kept, in bytes.
    pub bytes: u64,
}

/// The answer. A topic that nobody uses has no position.
pub(crate) fn described(found: Option<Description>, epoch: Epoch) -> Reply {
    let members = found.map_or(0, |found| found.members);
    let reply = Reply::new(Status::Ok).field("Fanwire-Members", members.to_string());
    let (reply, body) = match found {
        None => {
            let body = "{\"members\":0,\"at\":null,\"oldest\":null,\"bytes\":0}\n";
            (reply, body.to_owned())
        }
        Some(Description {
            next,
            oldest,
            bytes,
            ..
        }) => {
            let at = Position { epoch, next };
            let oldest = Position {
                epoch,
                next: oldest,
            };
            let body = format!(
                "{{\"members\":{members},\"at\":\"{at}\",\"oldest\":\"{oldest}\",\"bytes\":{bytes}}}\n"
            );
            (reply.field("Fanwire-Position", at.to_string()), body)
        }
    };
    reply.body("application/json", body.into_bytes())
}
