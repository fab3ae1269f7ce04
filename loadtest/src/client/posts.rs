//! A connection that publishes by POST: the requests in flight, and the answers that arrive in the same order.
//!
//! A connection calls it with the bytes that it reads. It knows nothing of publishers or checks.

use std::collections::VecDeque;

use super::http::Head;
use crate::check::position::Position;
use crate::clock::{MILLISECOND, SECOND};

/// The time until a request is sent again that was refused for now: at least, at most, and if the relay says nothing.
const SHORTEST_PAUSE: u64 = 100 * MILLISECOND;
const LONGEST_PAUSE: u64 = 5 * SECOND;
const USUAL_PAUSE: u64 = SECOND;

/// The longest body of an answer.
const MAX_BODY: usize = 64 << 10;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The number of the message among those of its publisher.
    pub(crate) sequence: u64,
    /// The time at which the request was sent.
    pub(crate) sent: u64,
    /// The position behind the message.
    pub(crate) at: Option<Position>,
    /// The position behind the message before it on this connection.
    pub(crate) before: Option<Position>,
}

/// A request that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The pause after which it may be sent again; `None` if it is refused for good.
    pub(crate) pause: Option<u64>,
}

/// The requests of a connection.
#[derive(Debug)]
pub(crate) struct Posts {
    /// The most requests in flight.
    most: usize,
    /// By request in flight: the number of its message, and when it was sent.
    in_flight: VecDeque<(u64, u64)>,
    input: Vec<u8>,
    last: Option<Position>,
    refusal: Option<Refusal>,
    /// Whether nothing more is sent.
    is_stopped: bool,
    /// Whether the relay ends the connection after its last answer.
    is_closing: bool,
}

impl Posts {
    /// A connection with at most so many requests in flight.
    pub(crate) fn new(most: usize) -> Posts {
        Posts {
            most,
            in_flight: VecDeque::new(),
            input: Vec::new(),
            last: None,
            refusal: None,
            is_stopped: false,
            is_closing: false,
        }
    }

    /// Whether another request may be sent.
    pub(crate) fn has_room(&self) -> bool {
        let is_over = self.is_stopped || self.is_closing;
        !is_over && self.in_flight.len() < self.most && self.refusal.is_none()
    }

    /// Nothing more is sent: the relay refuses it for good.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Whether the relay has said that this connection is over, and everything is answered.
    pub(crate) fn is_used_up(&self) -> bool {
        self.is_closing && self.may_reopen()
    }

    /// Whether the connection is worth opening again.
    pub(crate) fn may_reopen(&self) -> bool {
        self.is_idle() && !self.is_stopped
    }

    /// Whether every request is answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// A request with this message is sent.
    pub(crate) fn on_sent(&mut self, sequence: u64, now: u64) {
        self.in_flight.push_back((sequence, now));
    }

    /// The refusal that came, if one did.
    pub(crate) fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Takes the bytes that were read. An error says how the server broke the protocol.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut on_answer: impl FnMut(Answer),
    ) -> Result<(), &'static str> {
        self.input.extend_from_slice(bytes);
        while let Some(head) = Head::parse(&self.input)? {
            let body = body_bytes(&head)?;
            let end = head.bytes + body;
            if self.input.len() < end {
                break;
            }
            self.input.drain(..end);
            let request = self.in_flight.pop_front();
            let (sequence, sent) = request.ok_or("an answer without a request")?;
            let is_close = |field: &str| field.eq_ignore_ascii_case("close");
            self.is_closing |= head.field("connection").is_some_and(is_close);
            let at = head.field("fanwire-position").and_then(Position::parse);
            if head.status != 202 {
                self.refusal = Some(Refusal {
                    pause: pause(&head).filter(|_| self.most == 1),
                });
            }
            let before = std::mem::replace(&mut self.last, at.clone());
            on_answer(Answer {
                status: head.status,
                sequence,
                sent,
                at,
                before,
            });
        }
        Ok(())
    }
}

fn body_bytes(head: &Head) -> Result<usize, &'static str> {
    if head.field("transfer-encoding").is_some() {
        return Err("an answer to a post that comes in chunks");
    }
    let length = head.field("content-length").map(str::parse);
    match length {
        Some(Ok(length)) if length <= MAX_BODY => Ok(length),
        Some(_) => Err("an answer to a post with a length that cannot be"),
        // These have no body (RFC 9110, 6.4.1).
        None if head.status == 204 => Ok(0),
        None => Err("an answer to a post without a length"),
    }
}

/// The pause that a temporary refusal asks for.
fn pause(head: &Head) -> Option<u64> {
    if !matches!(head.status, 429 | 503) {
        return None;
    }
    let asked = head.field("retry-after").and_then(|text| text.parse().ok());
    let pause = asked.map_or(USUAL_PAUSE, |seconds: u64| seconds.saturating_mul(SECOND));
    Some(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &str = "HTTP/1.1 202 Accepted\r\nFanwire-Position: a-8\r\nContent-Length: 4\r\n\r\nbodyHTTP/1.1 503 No\r\n\
        Retry-After: 2\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn answers_belong_to_requests_in_their_order_however_they_are_cut() {
        for size in 1..ANSWERS.len() {
            let mut posts = Posts::new(1);
            posts.on_sent(4, 100);
            assert!(!posts.has_room());
            posts.on_sent(5, 200);
            let mut answers = Vec::new();
            for chunk in ANSWERS.as_bytes().chunks(size) {
                posts.feed(chunk, |answer| answers.push(answer)).unwrap();
            }
            let [first, second] = &answers[..] else {
                panic!("{answers:?}");
            };
            assert_eq!((first.status, first.sequence, first.sent), (202, 4, 100));
            assert_eq!(first.at, Position::parse("a-8"));
            assert_eq!((second.status, second.sequence), (503, 5));
            assert_eq!(second.before, first.at);
            assert!(posts.is_idle() && !posts.has_room());
            let refusal = posts.take_refusal().unwrap();
            assert_eq!(refusal.pause, Some(2 * SECOND));
            assert!(posts.has_room());
        }
    }

    #[test]
    fn a_refusal_behind_others_cannot_be_repeated_without_another_order() {
        let mut posts = Posts::new(2);
        posts.on_sent(0, 0);
        let refusal = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        posts.feed(refusal, |_| {}).unwrap();
        assert_eq!(posts.take_refusal(), Some(Refusal { pause: None }));
        assert!(posts.feed(refusal, |_| {}).is_err(), "nothing was asked");
    }
}
