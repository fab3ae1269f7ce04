//! The messages of requests: they are offered to the owners of their topics, or wait until they may be.
//!
//! A part of a request waits while its topic's publishers are held, and while too much of its kind is on its way, as members do.
//! It waits here, before it is offered. So it is never published if it waits too long, or if its client is gone.
//!
//! A part that was offered is numbered, whatever happens to its client.

use super::Shard;
use super::clients::Clients;
use super::exchange::{Offered, Part, Parts};
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::reply::Fault;
use crate::port::topic_name::TopicName;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::envelope::Envelope;
use crate::relay::posting::{Claim, Posted, Recall, Ticket, Verdict};
use crate::ws::frame::MessageKind;

/// Parts of one request that are offered in a step.
const PARTS_PER_STEP: usize = 256;

/// The reason why a message from outside is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Publishers wait, or too many bytes are on their way to the topic.
    Waits,
    /// The relay drains or has failed: nothing is published any more.
    Draining,
}

/// The messages of a client's request.
pub(super) fn parts_mut(clients: &mut Clients, key: ClientKey) -> Option<&mut Parts> {
    let arrival = clients.get_mut(key)?.arrival.as_mut()?;
    arrival.exchange_mut()?.parts_mut()
}

fn is_queued(clients: &Clients, ticket: Ticket, topic: &str) -> bool {
    let client = clients.get(ticket.client);
    let arrival = client.and_then(|client| client.arrival.as_ref());
    let parts = arrival.and_then(|arrival| arrival.exchange()?.parts());
    parts.is_some_and(|parts| parts.is_queued(ticket.part, topic))
}

impl Shard {
    /// Offers parts of a client's request whose topics are open, and lets the others wait. A step has a limit.
    pub(super) fn offer_parts(&mut self, key: ClientKey) {
        for _ in 0..PARTS_PER_STEP {
            let Some(parts) = parts_mut(&mut self.clients, key) else {
                return;
            };
            let Some(part) = parts.take_ready() else {
                return;
            };
            self.offer_part(Ticket { client: key, part });
        }
    }

    fn offer_part(&mut self, ticket: Ticket) {
        let Some(parts) = parts_mut(&mut self.clients, ticket.client) else {
            return;
        };
        let Some(part) = parts.part(ticket.part) else {
            return;
        };
        let topic = part.topic.clone();
        if !self.is_open_from_outside(&topic) {
            let parts = parts_mut(&mut self.clients, ticket.client);
            if let Some(claim) = parts.and_then(|parts| parts.ask(ticket.part)) {
                return self.ask_for_first(ticket, claim);
            }
            let bytes = self.enqueue_part(ticket);
            self.outside.enqueue(&topic, ticket, bytes);
            return;
        }
        let Some(parts) = parts_mut(&mut self.clients, ticket.client) else {
            return;
        };
        if let Some(Offered {
            topic,
            draft,
            claim,
        }) = parts.offer(ticket.part)
        {
            self.stats.add(Stat::PostedMessages, draft.len() as u64);
            self.outside.push(&topic, draft, ticket, claim);
        }
    }

    /// Perhaps the part is a repeat. Then its answer need not wait, and it would be wrong to say that nothing is published.
    fn ask_for_first(&mut self, ticket: Ticket, claim: Claim) {
        let owner = self.router.owner(&claim.name.topic);
        let recall = Recall {
            from: self.id,
            ticket,
            claim,
        };
        self.outbox.send(owner, Envelope::Recall(Box::new(recall)));
        self.hear_itself();
    }

    /// Returns the bytes that wait.
    fn enqueue_part(&mut self, ticket: Ticket) -> u64 {
        let Some(parts) = parts_mut(&mut self.clients, ticket.client) else {
            return 0;
        };
        parts.enqueue(ticket.part);
        let part = parts.part(ticket.part);
        part.map_or(0, Part::len_bytes)
    }

    /// Whether messages of requests may be on their way to the topic, beside those that are.
    pub(super) fn is_open_from_outside(&self, topic: &str) -> bool {
        let mirror = self.topics.find(topic).map(|key| &self.topics[key]);
        let is_held = mirror.is_some_and(|mirror| mirror.held.is_some());
        !is_held && self.outside.is_open(topic, || self.window_bytes(topic))
    }

    /// Bytes from outside that may be on their way to the topic. Without members here, the shard goes by the newest rules.
    pub(super) fn window_bytes(&self, topic: &str) -> u64 {
        let conduct = match self.topics.find(topic) {
            Some(key) => &self.topics[key].conduct,
            None => self.settings.conducts.of(topic),
        };
        conduct.policy.window_bytes
    }

    /// Something has changed that parts may wait for: those that there is room for are offered when their clients are visited.
    /// Clients that only publish are read again.
    pub(super) fn wake_posts(&mut self, topic: &TopicName) {
        if !self.is_open_from_outside(topic) {
            return;
        }
        let window_bytes = self.window_bytes(topic);
        let clients = &self.clients;
        let is_waiting = |ticket| is_queued(clients, ticket, topic);
        for ticket in self.outside.wake(topic, window_bytes, is_waiting) {
            let parts = parts_mut(&mut self.clients, ticket.client);
            if parts.is_some_and(|parts| parts.wake(ticket.part, topic)) {
                self.resume(ticket.client);
                self.make_ready(ticket.client);
            }
        }
        self.resume_sources(topic);
    }

    /// Gives up the parts of a client's request that are not offered. They are never published.
    pub(super) fn give_up_parts(&mut self, key: ClientKey, fault: Fault) {
        let Some(parts) = parts_mut(&mut self.clients, key) else {
            return;
        };
        let topics = parts.give_up(fault);
        self.leave_queues(&topics);
    }

    /// Parts wait for these topics no more. `true` marks those that were in a queue.
    pub(super) fn leave_queues(&mut self, topics: &[(TopicName, bool)]) {
        for (topic, was_queued) in topics {
            if *was_queued {
                let clients = &self.clients;
                self.outside
                    .leave(topic, |ticket| is_queued(clients, ticket, topic));
            }
            // Perhaps it was woken for room that another may have now.
            self.wake_posts(topic);
        }
    }

    /// The owner of a topic says what became of parts.
    pub(super) fn on_posted(&mut self, posted: Posted) {
        let Posted {
            topic,
            verdicts,
            dropped_bytes,
            is_held,
        } = posted;
        self.outside.on_posted(&topic, dropped_bytes, is_held);
        for (ticket, verdict) in verdicts {
            let outcome = match verdict {
                Verdict::Numbered {
                    next,
                    members,
                    epoch,
                } => Ok((self.position_in(epoch, next), members)),
                Verdict::Passed => Err(Fault::PASSED),
                Verdict::Unsure => Err(Fault::UNSURE),
                Verdict::Out => Err(Fault::OUT),
                Verdict::New => {
                    self.go_on_with(ticket);
                    continue;
                }
                Verdict::Reused => Err(Fault::REUSED),
                Verdict::NoRoom => Err(Fault::KEYS_FULL),
            };
            if let Some(parts) = parts_mut(&mut self.clients, ticket.client) {
                parts.resolve(ticket.part, outcome);
                self.answer_if_resolved(ticket.client);
                self.gauge_client(ticket.client);
            }
        }
        self.wake_posts(&topic);
    }

    /// The part is no repeat. It is offered when its topic is open.
    fn go_on_with(&mut self, ticket: Ticket) {
        if let Some(parts) = parts_mut(&mut self.clients, ticket.client) {
            if parts.go_on(ticket.part) {
                self.resume(ticket.client);
                self.make_ready(ticket.client);
            } else {
                self.answer_if_resolved(ticket.client);
            }
        }
    }

    /// Bytes of requests are numbered, and publishers of their topic are not held.
    pub(super) fn on_numbered(&mut self, topic: &TopicName, bytes: u64) {
        self.outside.on_numbered(topic, bytes);
        self.wake_posts(topic);
    }

    /// Publishes a message without a request, and without an answer. For tests.
    ///
    /// # Errors
    ///
    /// It would have to wait, or nothing is published any more. It is not taken.
    pub fn publish_from_outside(
        &mut self,
        topic: &TopicName,
        kind: MessageKind,
        payload: &[u8],
    ) -> Result<(), NotTaken> {
        if !self.drain.takes_messages() {
            return Err(NotTaken::Draining);
        }
        if !self.is_open_from_outside(topic) {
            return Err(NotTaken::Waits);
        }
        let mut draft = Draft::new(Source::Outsiders(self.id), self.now);
        draft.push(kind, payload, None);
        let client = ClientKey {
            slot: u32::MAX,
            generation: u32::MAX,
        };
        self.outside
            .push(topic, draft, Ticket { client, part: 0 }, None);
        Ok(())
    }

    /// Of each part of a client's request, whether it was offered; `None` if it has no such request. For tests.
    pub fn offered_parts(&self, key: ClientKey) -> Option<Vec<bool>> {
        let arrival = self.clients.get(key)?.arrival.as_ref()?;
        Some(arrival.exchange()?.parts()?.offered())
    }
}
