//! The decision on a request that publishes: whether it is let in, and on what terms its body is read.
//!
//! [`post`](super::post) knows what the head and the body mean. A body that names the topic of each line is judged twice: here
//! for what the request has brought, and line by line once it is read ([`Port::allow_line`]).

use super::cors::Cors;
use super::decision::{Decision, Decline, Peer, Port, check};
use super::idempotency::Key;
use super::post::{self, Content, Post};
use super::reply::{Fault, Manner};
use super::subject::Origin;
use super::words;
use crate::access::{Barred, Circumstances, Judged};
use crate::http::body::Framing;
use crate::http::request::RequestHead;
use crate::time::WallTime;
use crate::ws::frame::MessageKind;

impl Port {
    /// A request that publishes.
    pub(super) fn decide_post(
        &self,
        head: &RequestHead<'_>,
        peer: Peer,
        now: Option<WallTime>,
    ) -> Decision {
        let manner = Manner::of(head, Cors::of(head, &self.access));
        let forwarded = self.named(head, peer);
        let address = forwarded.as_ref().and_then(|named| named.address);
        let named = address.map(Origin::from);
        let circumstances = Circumstances::of(now, peer);
        match self.post(head, named, circumstances, manner.clone()) {
            Ok(post) => Decision::Publish(Box::new(post), forwarded),
            Err(fault) => Decision::Decline(Decline {
                fault,
                kind: None,
                manner: manner.closing(),
            }),
        }
    }

    fn post(
        &self,
        head: &RequestHead<'_>,
        named: Option<Origin>,
        circumstances: Circumstances,
        manner: Manner,
    ) -> Result<Post, Fault> {
        let target = check(head)?;
        let framing = Framing::of(head)?;
        let content = Content::of(head)?;
        let topic = match content {
            Content::Many => None,
            Content::Text | Content::Binary | Content::Lines => Some(self.topic(target.path)?),
        };
        let judged = self.access.judge(head, circumstances)?;
        let access = &self.access;
        access.allow_to_publish(&judged, topic.as_deref())?;
        Ok(Post {
            topic,
            content,
            framing,
            awaits_continue: post::awaits_continue(head)?,
            key: Key::of(head)?,
            named,
            judged,
            manner,
        })
    }

    /// Whether a request may publish to one of its topics.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn allow_line(&self, judged: &Judged, topic: &str) -> Result<(), Fault> {
        Ok(self.access.allow_to_publish(judged, Some(topic))?)
    }

    /// Whether a topic takes a message of a request. A body for one topic is no longer than its messages may be.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn allow_message(
        &self,
        topic: &str,
        kind: MessageKind,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let topics = self.topics();
        if payload.len() > topics.of(topic).max_message_bytes {
            return Err(Fault::LINE_TOO_LARGE);
        }
        if words::is_reserved(kind, payload) && topics.reserves_texts(topic) {
            return Err(Fault::RESERVED);
        }
        Ok(())
    }
}

impl From<Barred> for Fault {
    fn from(barred: Barred) -> Fault {
        match barred {
            Barred::NeedsToken => Fault::TOKEN_NEEDED,
            Barred::Topic => Fault::TOPIC_FORBIDDEN,
            Barred::Everybody => Fault::FORBIDDEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Publish};

    /// The answer to a POST to `/a` of a client that has brought nothing.
    fn decide(publish: Publish, content: &str) -> Result<(), Fault> {
        let mut config = Config::default();
        config.access.publish = publish;
        let head = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: {content}\r\n\r\n");
        match Port::new(&config).decide(head.as_bytes(), Peer::default(), None) {
            Ok(Decision::Publish(..)) => Ok(()),
            Ok(Decision::Decline(decline)) => Err(decline.fault),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_with_nothing_is_told_whether_a_token_would_help() {
        for content in ["text/plain", post::MANY] {
            assert_eq!(decide(Publish::Everyone, content), Ok(()));
            assert_eq!(decide(Publish::Token, content), Err(Fault::TOKEN_NEEDED));
            assert_eq!(decide(Publish::Nobody, content), Err(Fault::FORBIDDEN));
        }
    }
}
