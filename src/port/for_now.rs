//! The answer to a request that is refused for now: the relay is full, or it shuts down.
//!
//! Nobody looks at its topic or at its token. It is answered as what it asks for, so that the client can read when to come back.

use super::cors::Cors;
use super::decision::{Decline, Port, check_without_body};
use super::events;
use super::reply::Manner;
use crate::http::request::RequestHead;
use crate::ws::handshake::Refusal;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ForNow {
    /// An event stream that ends at once. These pages may read it.
    Stream(Cors),
    /// The status of the refusal.
    Decline(Decline),
}

impl Port {
    /// The answer to a request with this head; `None` if that is no request.
    pub(crate) fn refuse_for_now(&self, head: &[u8], refusal: Refusal) -> Option<ForNow> {
        let head = RequestHead::parse(head).ok()?;
        let cors = Cors::of(&head, &self.access);
        if self.may_read_events(&head) {
            return Some(ForNow::Stream(cors));
        }
        let publishes = self.is_post(&head);
        Some(ForNow::Decline(Decline {
            fault: refusal.into(),
            kind: (!publishes).then_some(refusal.kind),
            manner: Manner::of(&head, cors).closing(),
        }))
    }

    /// Whether the request asks for an event stream that it may get later.
    fn may_read_events(&self, head: &RequestHead<'_>) -> bool {
        !self.is_probe(head)
            && events::is_asked(head)
            && check_without_body(head).is_ok()
            && self.access.check_origin(head).is_ok()
    }
}
