//! A request that is no upgrade, from the end of its head to the end of its answer.
//!
//! [`exchanging`](super::exchanging) takes it through its steps, and [`offering`](super::offering) its messages. This file knows
//! neither the shard nor the owners of topics.
//!
//! A request that publishes has a *part* for each topic that it names: usually one. All messages of a part are published one
//! behind the other, or none of them is.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::outside::ACCOUNT_BYTES;
use crate::access::Judged;
use crate::http::reader::Reader;
use crate::ids::Seq;
use crate::port::decision::Port;
use crate::port::idempotency::{Digest, Key};
use crate::port::lines::{self, Line};
use crate::port::position::Position;
use crate::port::post::{self, Content, MAX_MESSAGES, Post};
use crate::port::reply::{Fault, Manner, Reply};
use crate::port::subject::Subject;
use crate::port::topic_name::TopicName;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::posting::{Claim, Name};
use crate::time::Timestamp;
use crate::ws::encode::{frame_len, push_message};
use crate::ws::frame::MessageKind;

/// A message of this size is a draft of its own, and not copied again.
const WHOLE_FROM_BYTES: usize = 4 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    /// How the request is answered.
    pub(super) manner: Manner,
    /// The progress so far.
    pub(super) progress: Progress,
}

/// A step of an exchange.
#[derive(Debug)]
pub(super) enum Progress {
    /// The body is arriving.
    Body(Reader, Box<Post>),
    /// The messages are made, wait, or are on their way.
    Parts(Box<Parts>),
    /// The topic's owner was asked about it.
    Asked,
    /// The answer is on its way to the client.
    Answered,
}

/// The messages of a request.
#[derive(Debug)]
pub(super) struct Parts {
    parts: Vec<Part>,
    /// Parts that may be offered to the owners of their topics.
    ready: VecDeque<u32>,
    /// Parts without a result.
    open: usize,
    /// Bytes of messages that are not offered yet.
    held_bytes: usize,
    /// Bytes of the names of topics, and of the claims that are made for them.
    named_bytes: usize,
    /// The lines of a body that names the topic of each; `None` for a request to one topic.
    lines: Option<Lines>,
    /// The sender, until it is judged and the parts are ready.
    sender: Option<Box<Sender>>,
    /// Nothing is offered any more, and this is why.
    given_up: Option<Fault>,
}

/// The sender of a request.
#[derive(Debug)]
pub(super) struct Sender {
    /// Its rate goes by this.
    pub(super) subject: Subject,
    /// The key under which it may repeat the request.
    pub(super) key: Option<Key>,
}

/// The part of a request that goes to one topic.
#[derive(Debug)]
pub(super) struct Part {
    /// The topic.
    pub(super) topic: TopicName,
    /// The messages, until they are offered.
    draft: Option<Draft>,
    /// The number of messages.
    count: u32,
    claim: Option<Claim>,
    /// The owner was asked whether it is a repeat.
    was_asked: bool,
    state: State,
}

/// The messages of a part that is offered now.
#[derive(Debug)]
pub(super) struct Offered {
    /// The topic.
    pub(super) topic: TopicName,
    /// The messages.
    pub(super) draft: Draft,
    /// They may be a repeat.
    pub(super) claim: Option<Claim>,
}

/// A result: the position behind the last message, and the members; or why nothing is published.
pub(super) type Outcome = Result<(Position, u32), Fault>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the list of those that may be offered.
    Ready,
    /// The owner is asked whether it is a repeat, because the topic is not open.
    Asked,
    /// In the queue of its topic.
    Queued,
    /// On its way to the owner, or numbered there.
    Offered,
    Done(Outcome),
}

/// Lines that name their topics.
#[derive(Debug)]
struct Lines {
    /// Of each line that was read, in order.
    fates: Vec<Fate>,
    unread: Option<Box<Unread>>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is no message.
    Fault(Fault),
    /// It is this message of this part.
    Message { part: u32, index: u32 },
}

/// The rest of a body, which is read in steps.
#[derive(Debug)]
struct Unread {
    body: Vec<u8>,
    /// The request may publish to the topics that this allows.
    judged: Judged,
    at: usize,
    parts_by_topic: HashMap<TopicName, u32>,
    source: Source,
    now: Timestamp,
}

impl Exchange {
    /// Memory of what has come of the request and waits, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let held = match &self.progress {
            Progress::Body(reader, post) => reader.memory_bytes() + post.judged.memory_bytes(),
            Progress::Parts(parts) => parts.memory_bytes(),
            Progress::Asked | Progress::Answered => 0,
        };
        size_of::<Exchange>() + held
    }

    /// The messages of the request.
    pub(super) fn parts(&self) -> Option<&Parts> {
        match &self.progress {
            Progress::Parts(parts) => Some(parts),
            Progress::Body(..) | Progress::Asked | Progress::Answered => None,
        }
    }

    /// The same, to go on with them.
    pub(super) fn parts_mut(&mut self) -> Option<&mut Parts> {
        match &mut self.progress {
            Progress::Parts(parts) => Some(parts),
            Progress::Body(..) | Progress::Asked | Progress::Answered => None,
        }
    }

    /// Whether the request publishes and is not answered yet.
    pub(super) fn is_open_post(&self) -> bool {
        matches!(self.progress, Progress::Body(..) | Progress::Parts(_))
    }

    /// Whether there is something to do without an event.
    pub(super) fn has_work(&self) -> bool {
        self.parts().is_some_and(Parts::has_work)
    }
}

impl Parts {
    /// The messages of a body for one topic.
    pub(super) fn one(
        topic: TopicName,
        content: Content,
        body: &[u8],
        has_history: bool,
        sender: Sender,
        (source, now): (Source, Timestamp),
    ) -> Result<Parts, Fault> {
        let is_single = content != Content::Lines;
        let draft = if is_single && body.len() >= WHOLE_FROM_BYTES {
            let mut frame = Vec::with_capacity(frame_len(body.len()) + 16);
            post::messages(content, body, has_history, |kind, payload| {
                push_message(&mut frame, kind, payload);
            })?;
            Draft::whole(source, now, Bytes::from(frame), None)
        } else {
            let mut draft = Draft::new(source, now);
            post::messages(content, body, has_history, |kind, payload| {
                draft.push(kind, payload, None);
            })?;
            draft
        };
        let mut parts = Parts::none(sender, None);
        parts.add(topic, draft);
        Ok(parts)
    }

    /// The lines of a body that names the topic of each. They are read in steps.
    pub(super) fn many(
        body: Vec<u8>,
        judged: Judged,
        sender: Sender,
        (source, now): (Source, Timestamp),
    ) -> Parts {
        let lines = Lines {
            fates: Vec::new(),
            unread: Some(Box::new(Unread {
                body,
                judged,
                at: 0,
                parts_by_topic: HashMap::new(),
                source,
                now,
            })),
        };
        Parts::none(sender, Some(lines))
    }

    fn none(sender: Sender, lines: Option<Lines>) -> Parts {
        Parts {
            parts: Vec::new(),
            ready: VecDeque::new(),
            open: 0,
            held_bytes: 0,
            named_bytes: 0,
            lines,
            sender: Some(Box::new(sender)),
            given_up: None,
        }
    }

    fn add(&mut self, topic: TopicName, draft: Draft) -> u32 {
        let count = draft.len() as u32;
        // A request has fewer than 2³² messages.
        let part = self.parts.len() as u32;
        self.held_bytes += cost_of(&draft);
        // A claim shares the texts. It has a counter beside its name.
        let has_key = self.sender.as_ref().is_some_and(|one| one.key.is_some());
        let claim = if has_key { size_of::<Name>() + 16 } else { 0 };
        // While a part waits or is on its way, its topic has an account.
        self.named_bytes += topic.len() + claim + ACCOUNT_BYTES;
        self.parts.push(Part {
            topic,
            draft: Some(draft),
            count,
            claim: None,
            was_asked: false,
            state: State::Ready,
        });
        self.open += 1;
        part
    }

    /// Reads up to `most` lines.
    ///
    /// # Errors
    /// There are too many, or none.
    pub(super) fn read_lines(&mut self, most: usize, port: &Port) -> Result<(), Fault> {
        let lines = self.lines.as_mut();
        let Some(mut unread) = lines.and_then(|lines| lines.unread.take()) else {
            return Ok(());
        };
        for _ in 0..most {
            let Some(range) = post::next_line(&unread.body, &mut unread.at) else {
                return self.end_lines();
            };
            let fate = self.read_line(&mut unread, range, port);
            if let Some(lines) = &mut self.lines {
                if lines.fates.len() == MAX_MESSAGES {
                    return Err(Fault::TOO_MANY);
                }
                lines.fates.push(fate);
            }
        }
        if let Some(lines) = &mut self.lines {
            lines.unread = Some(unread);
        }
        Ok(())
    }

    fn read_line(&mut self, unread: &mut Unread, range: Range<usize>, port: &Port) -> Fate {
        let topic_of = |name: &str| port.topic_named(name);
        let read = lines::read(&unread.body[range], topic_of);
        let Line { topic, message } = match read {
            Ok(line) => line,
            Err(fault) => return Fate::Fault(fault),
        };
        let known = unread.parts_by_topic.get(&topic).copied();
        if known.is_none()
            && let Err(fault) = port.allow_line(&unread.judged, &topic)
        {
            return Fate::Fault(fault);
        }
        let place = known.unwrap_or_else(|| {
            let draft = Draft::new(unread.source, unread.now);
            let place = self.add(topic.clone(), draft);
            unread.parts_by_topic.insert(topic, place);
            place
        });
        let message = message.and_then(|(kind, payload)| {
            port.allow_message(&self.parts[place as usize].topic, kind, &payload)?;
            Ok((kind, payload))
        });
        match message {
            Ok((kind, payload)) => self.push(place, kind, &payload),
            Err(fault) => {
                self.resolve(place, Err(Fault::SPOILED));
                Fate::Fault(fault)
            }
        }
    }

    fn push(&mut self, part: u32, kind: MessageKind, payload: &[u8]) -> Fate {
        let one = &mut self.parts[part as usize];
        let index = one.count;
        one.count += 1;
        if let Some(draft) = &mut one.draft {
            let before = cost_of(draft);
            draft.push(kind, payload, None);
            self.held_bytes += cost_of(draft) - before;
        }
        Fate::Message { part, index }
    }

    /// All lines are read.
    fn end_lines(&mut self) -> Result<(), Fault> {
        let fates = self.lines.as_mut().map(|lines| &mut lines.fates);
        match fates {
            Some(fates) if fates.is_empty() => Err(Fault::NO_LINE),
            Some(fates) => {
                fates.shrink_to_fit();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether all lines are read.
    pub(super) fn is_read(&self) -> bool {
        let lines = self.lines.as_ref();
        lines.is_none_or(|lines| lines.unread.is_none())
    }

    /// The number of messages that can be published.
    pub(super) fn messages(&self) -> usize {
        let open = self.parts.iter().filter(|part| part.draft.is_some());
        open.map(|part| part.count as usize).sum()
    }

    /// The sender, if it is to be judged: all messages are made, and none is ready.
    pub(super) fn unjudged(&self) -> Option<&Sender> {
        self.sender.as_deref().filter(|_| self.is_read())
    }

    /// The sender may publish the messages. With a key, they may be a repeat.
    pub(super) fn release(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        let Sender { subject, key } = *sender;
        for (index, part) in self.parts.iter_mut().enumerate() {
            let Some(draft) = &part.draft else {
                continue;
            };
            part.claim = key.as_ref().map(|key| Claim {
                name: Arc::new(Name {
                    topic: part.topic.clone(),
                    subject,
                    key: key.clone(),
                }),
                digest: Digest::of(draft.frames()),
            });
            // A request has fewer than 2³² parts.
            self.ready.push_back(index as u32);
        }
    }

    /// Whether there is something to do without an event.
    fn has_work(&self) -> bool {
        !self.is_read() || self.sender.is_some() || !self.ready.is_empty()
    }

    /// Takes a part that may be offered.
    pub(super) fn take_ready(&mut self) -> Option<u32> {
        self.ready.pop_front()
    }

    /// A part.
    pub(super) fn part(&self, part: u32) -> Option<&Part> {
        self.parts.get(part as usize)
    }

    /// The part is offered: takes its messages.
    pub(super) fn offer(&mut self, part: u32) -> Option<Offered> {
        let part = self.parts.get_mut(part as usize)?;
        let draft = part.draft.take()?;
        self.held_bytes -= cost_of(&draft);
        part.state = State::Offered;
        Some(Offered {
            topic: part.topic.clone(),
            draft,
            claim: part.claim.take(),
        })
    }

    /// The part has to wait. Its claim, if its owner must be asked first whether it is a repeat.
    pub(super) fn ask(&mut self, part: u32) -> Option<Claim> {
        let part = self.parts.get_mut(part as usize)?;
        let claim = part.claim.clone().filter(|_| !part.was_asked)?;
        part.was_asked = true;
        part.state = State::Asked;
        Some(claim)
    }

    /// The part is no repeat. Says whether it is ready again: the request may be given up meanwhile.
    pub(super) fn go_on(&mut self, part: u32) -> bool {
        if let Some(fault) = self.given_up {
            self.resolve(part, Err(fault));
            return false;
        }
        self.parts[part as usize].state = State::Ready;
        self.ready.push_back(part);
        true
    }

    /// The part waits in the queue of its topic.
    pub(super) fn enqueue(&mut self, part: u32) {
        self.parts[part as usize].state = State::Queued;
    }

    /// Whether the part waits in the queue of this topic.
    pub(super) fn is_queued(&self, part: u32, topic: &str) -> bool {
        let part = self.parts.get(part as usize);
        part.is_some_and(|part| part.state == State::Queued && *part.topic == *topic)
    }

    /// The part may be offered again, if it waits for this topic. Says whether it does.
    pub(super) fn wake(&mut self, part: u32, topic: &str) -> bool {
        let is_queued = self.is_queued(part, topic);
        if is_queued {
            self.parts[part as usize].state = State::Ready;
            self.ready.push_back(part);
        }
        is_queued
    }

    /// The part has its result. The first one counts.
    pub(super) fn resolve(&mut self, part: u32, outcome: Outcome) {
        let Some(part) = self.parts.get_mut(part as usize) else {
            return;
        };
        if matches!(part.state, State::Done(_)) {
            return;
        }
        part.state = State::Done(outcome);
        self.open -= 1;
        if let Some(draft) = part.draft.take() {
            self.held_bytes -= cost_of(&draft);
        }
    }

    /// Gives up the parts that are not offered. Lines that are not read stay so: there is no answer for them. Returns the topics,
    /// each with whether the part is in its queue.
    pub(super) fn give_up(&mut self, fault: Fault) -> Vec<(TopicName, bool)> {
        let mut topics = Vec::new();
        self.ready.clear();
        self.sender = None;
        self.given_up = Some(fault);
        for part in &mut self.parts {
            let is_queued = match part.state {
                State::Ready => false,
                State::Queued => true,
                // A repeat must not be told that it is not published.
                State::Asked | State::Offered | State::Done(_) => continue,
            };
            topics.push((part.topic.clone(), is_queued));
            part.state = State::Done(Err(fault));
            self.open -= 1;
            if let Some(draft) = part.draft.take() {
                self.held_bytes -= cost_of(&draft);
            }
        }
        topics
    }

    /// Whether some part is neither offered nor given up.
    pub(super) fn has_unoffered(&self) -> bool {
        let is_left = !self.is_read() || self.parts.iter().any(|part| part.draft.is_some());
        is_left && self.given_up.is_none()
    }

    /// Whether some part was offered, or is perhaps a repeat of one that was.
    pub(super) fn has_offered(&self) -> bool {
        let mut states = self.parts.iter().map(|part| part.state);
        states.any(|state| match state {
            State::Asked | State::Offered | State::Done(Ok(_)) => true,
            State::Done(Err(fault)) => matches!(fault, Fault::PASSED | Fault::UNSURE),
            State::Ready | State::Queued => false,
        })
    }

    /// Whether each part has its result.
    pub(super) fn is_resolved(&self) -> bool {
        self.open == 0 && self.is_read() && self.sender.is_none()
    }

    /// The answer, once each part has its result.
    pub(super) fn reply(&self) -> Reply {
        debug_assert!(self.is_resolved(), "a part has no result");
        let Some(lines) = &self.lines else {
            return match self.parts.first().map(|part| part.state) {
                Some(State::Done(Ok((at, members)))) => post::accepted(at, members),
                Some(State::Done(Err(fault))) => fault.reply(),
                Some(State::Ready | State::Asked | State::Queued | State::Offered) | None => {
                    unreachable!("a request to one topic has one part, which has its result")
                }
            };
        };
        post::many(lines.fates.iter().map(|fate| match *fate {
            Fate::Fault(fault) => Err(fault),
            Fate::Message { part, index } => self.position(part, index),
        }))
    }

    /// The position behind a message of a part.
    fn position(&self, part: u32, index: u32) -> Result<Position, Fault> {
        let part = &self.parts[part as usize];
        let State::Done(outcome) = part.state else {
            unreachable!("each part has its result");
        };
        let (end, _) = outcome?;
        let behind = u64::from(part.count - 1 - index);
        Ok(Position {
            next: Seq(end.next.0 - behind),
            ..end
        })
    }

    fn memory_bytes(&self) -> usize {
        let lines = self.lines.as_ref().map_or(0, |lines| {
            let unread = lines.unread.as_ref();
            let body = unread.map_or(0, |unread| {
                // A table has a byte of its own for each place.
                let place = size_of::<(TopicName, u32)>() + 1;
                let places = unread.parts_by_topic.capacity() * place;
                unread.body.capacity() + unread.judged.memory_bytes() + places
            });
            lines.fates.capacity() * size_of::<Fate>() + body
        });
        let ready = self.ready.capacity() * size_of::<u32>();
        let parts = self.parts.capacity() * size_of::<Part>() + self.named_bytes;
        size_of::<Parts>() + parts + ready + self.held_bytes + lines
    }

    /// Of each part, whether it was offered. A repeat that is answered without that has its claim still. For tests.
    pub(super) fn offered(&self) -> Vec<bool> {
        let was_offered = |part: &Part| match part.state {
            State::Offered => true,
            State::Done(Ok(_)) => part.claim.is_none(),
            State::Ready | State::Asked | State::Queued | State::Done(Err(_)) => false,
        };
        self.parts.iter().map(was_offered).collect()
    }

    /// The parts that wait in the queues of their topics. For tests.
    pub(super) fn queued(&self) -> impl Iterator<Item = (u32, &str)> {
        let parts = (0..).zip(&self.parts);
        let queued = parts.filter(|(_, part)| part.state == State::Queued);
        queued.map(|(index, part)| (index, &*part.topic))
    }

    /// Checks the accounts. For tests.
    pub(super) fn check(&self) {
        let drafts = self.parts.iter().filter_map(|part| part.draft.as_ref());
        assert_eq!(drafts.map(cost_of).sum::<usize>(), self.held_bytes);
        let open = |part: &&Part| !matches!(part.state, State::Done(_));
        assert_eq!(self.parts.iter().filter(open).count(), self.open);
    }
}

impl Part {
    /// Bytes of messages that are not offered.
    pub(super) fn len_bytes(&self) -> u64 {
        self.draft
            .as_ref()
            .map_or(0, |draft| draft.len_bytes() as u64)
    }
}

/// Memory of a draft, in bytes.
fn cost_of(draft: &Draft) -> usize {
    // Bodies fit.
    draft.cost_bytes() as usize
}
