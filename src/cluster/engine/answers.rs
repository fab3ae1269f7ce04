//! Reads replies and messages, and finds the topic that each concerns.

use bytes::Bytes;

use super::asked::{Asked, Confirmation, Of, TopicKey};
use super::{Engine, MAX_DIFFERING};
use crate::cluster::batch::{self, Arrival};
use crate::cluster::hello::Hello;
use crate::cluster::info;
use crate::cluster::link::{Lane, Reason};
use crate::cluster::reply::Reply;
use crate::cluster::scripts::{self, Script};
use crate::cluster::topic::parcel::Parcel;
use crate::cluster::trouble::Trouble;
use crate::time::Timestamp;

impl<T: Parcel> Engine<T> {
    /// A whole reply came on a connection.
    pub fn on_reply(&mut self, lane: Lane, reply: &Reply, now: Timestamp) {
        self.link.note_progress(lane, now);
        match lane {
            Lane::Publisher => self.on_answer(reply, now),
            Lane::Subscriber => self.on_pushed(reply, now),
        }
        self.pump(now);
    }

    fn on_answer(&mut self, reply: &Reply, now: Timestamp) {
        let Some(asked) = self.requests.answered() else {
            self.give_up(Lane::Publisher, Reason::Protocol, now);
            return;
        };
        if let Reply::Error(text) = reply {
            self.on_error(asked, &Trouble::of(text), now);
            return;
        }
        let is_understood = match asked {
            Asked::Info => {
                self.on_info(Lane::Publisher, reply, now);
                true
            }
            Asked::Load(script) => self.on_loaded(script, reply, now),
            Asked::Still => {
                if let Some(asked_at) = self.probed_at.take() {
                    self.counts.probes += 1;
                    self.counts.round_trip_micros = now.since(asked_at).as_micros() as u64;
                }
                let identity = self.link.identity();
                let is_still = identity.is_none_or(|identity| info::is_still(identity, reply));
                if !is_still {
                    self.give_up_both(Reason::Role, now);
                }
                true
            }
            Asked::Token(token) => {
                self.on_token_published(token);
                true
            }
            Asked::Nothing => true,
            Asked::Describe(question) => {
                self.on_described(question, reply);
                true
            }
            Asked::Sync(_)
            | Asked::Publish { .. }
            | Asked::Fill(_)
            | Asked::Audit(_)
            | Asked::FindFirst { .. }
            | Asked::FindAll { .. } => self.on_topic_answer(asked, reply, now).is_some(),
        };
        if !is_understood {
            self.give_up(Lane::Publisher, Reason::Protocol, now);
        }
    }

    /// The answer to a topic's question. `None` if it is not understood.
    fn on_topic_answer(&mut self, asked: Asked, reply: &Reply, now: Timestamp) -> Option<()> {
        match asked {
            Asked::Sync(Of { key, round }) => {
                let synced = scripts::read_synced(reply)?;
                self.with(key, now, |topic, cx| topic.on_synced(round, synced, cx));
            }
            Asked::Publish {
                of: Of { key, round },
                ..
            } => {
                let Reply::Integer(answer) = *reply else {
                    return None;
                };
                self.with(key, now, |topic, cx| topic.on_published(round, answer, cx));
            }
            Asked::Fill(Of { key, round }) => {
                let entries = scripts::read_entries(reply)?;
                self.with(key, now, |topic, cx| topic.on_filled(round, entries, cx));
            }
            Asked::Audit(Of { key, round }) => {
                let answer = scripts::read_audit(reply)?;
                self.with(key, now, |topic, cx| topic.on_audit(round, answer, cx));
            }
            Asked::FindFirst {
                of,
                client,
                number,
                to,
            } => {
                let first = reply.items()?.first().and_then(scripts::entry_number);
                self.ask_all(of, client, (first.unwrap_or(number), to));
            }
            Asked::FindAll { of, client } => {
                let entries = scripts::read_entries(reply)?;
                self.with(of.key, now, |topic, cx| {
                    topic.on_found(of.round, client, entries, cx);
                });
            }
            Asked::Info
            | Asked::Load(_)
            | Asked::Still
            | Asked::Token(_)
            | Asked::Nothing
            | Asked::Describe(_) => {}
        }
        Some(())
    }

    fn on_error(&mut self, asked: Asked, trouble: &Trouble, now: Timestamp) {
        if matches!(trouble, Trouble::NotMaster(_)) {
            self.give_up_both(Reason::Role, now);
            return;
        }
        self.counts.errors += u64::from(matches!(trouble, Trouble::Other(_)));
        if *trouble == Trouble::NotLoaded {
            self.load();
        }
        match asked {
            // Without these the connection is of no use.
            Asked::Info | Asked::Load(_) => self.give_up(Lane::Publisher, Reason::Protocol, now),
            // Audits and probes are asked again before long.
            Asked::Still | Asked::Nothing | Asked::Audit(_) => {}
            Asked::Describe(question) => self.on_described(question, &Reply::Nil),
            Asked::Token(token) => {
                let fence = self.tokens.remove(&token).and_then(|token| token.fence);
                if let Some(of) = fence {
                    self.refuse(of, trouble, now);
                }
            }
            Asked::Sync(of) | Asked::Publish { of, .. } | Asked::Fill(of) => {
                self.refuse(of, trouble, now);
            }
            Asked::FindFirst { of, client, .. } | Asked::FindAll { of, client } => {
                self.with(of.key, now, |topic, cx| {
                    topic.on_found(of.round, client, Vec::new(), cx);
                });
            }
        }
    }

    fn refuse(&mut self, of: Of, trouble: &Trouble, now: Timestamp) {
        self.with(of.key, now, |topic, cx| {
            topic.on_refused(of.round, trouble, cx);
        });
    }

    fn on_info(&mut self, lane: Lane, reply: &Reply, now: Timestamp) {
        let (mut out, bits) = (Vec::new(), self.chance.next());
        let found = info::identity(reply);
        self.link.on_identity(lane, found, now, bits, &mut out);
        self.follow(out, now);
    }

    fn on_loaded(&mut self, script: Script, reply: &Reply, now: Timestamp) -> bool {
        let Some(digest) = reply.bytes() else {
            return false;
        };
        self.loaded.note(script, digest.clone());
        self.loading = self.loading.saturating_sub(1);
        if self.loading == 0 {
            self.on_greeted(Lane::Publisher, now);
        }
        true
    }

    fn on_greeted(&mut self, lane: Lane, now: Timestamp) {
        let (mut out, bits) = (Vec::new(), self.chance.next());
        self.link.on_greeted(lane, now, bits, &mut out);
        self.follow(out, now);
    }

    /// P has published a token. S owes it now, if it has not come already.
    fn on_token_published(&mut self, token: u64) {
        if let Some(token) = self.tokens.get_mut(&token)
            && !token.is_published
        {
            token.is_published = true;
            self.tokens_owed += 1;
        }
    }

    fn on_pushed(&mut self, reply: &Reply, now: Timestamp) {
        let items = match reply {
            Reply::Bulk(_) => {
                self.on_info(Lane::Subscriber, reply, now);
                return;
            }
            Reply::Array(items) => items,
            Reply::Status(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Nil => {
                self.on_subscriber_error(reply, now);
                return;
            }
        };
        let [kind, channel, payload] = &items[..] else {
            self.give_up(Lane::Subscriber, Reason::Protocol, now);
            return;
        };
        match (kind.bytes().map(|kind| &kind[..]), channel.bytes(), payload) {
            (Some(b"message"), Some(channel), Reply::Bulk(payload)) => {
                self.on_message(channel, payload, now);
            }
            (Some(b"subscribe"), Some(channel), Reply::Integer(_)) => {
                self.on_confirmed(channel, true, now);
            }
            (Some(b"unsubscribe"), Some(channel), Reply::Integer(_)) => {
                self.on_confirmed(channel, false, now);
            }
            _ => self.give_up(Lane::Subscriber, Reason::Protocol, now),
        }
    }

    fn on_subscriber_error(&mut self, reply: &Reply, now: Timestamp) {
        match reply {
            Reply::Error(text) if matches!(Trouble::of(text), Trouble::NotMaster(_)) => {
                self.give_up_both(Reason::Role, now);
            }
            Reply::Error(_) => {
                self.counts.errors += 1;
                self.give_up(Lane::Subscriber, Reason::Protocol, now);
            }
            Reply::Status(_)
            | Reply::Integer(_)
            | Reply::Bulk(_)
            | Reply::Nil
            | Reply::Array(_) => {
                self.give_up(Lane::Subscriber, Reason::Protocol, now);
            }
        }
    }

    fn on_confirmed(&mut self, channel: &Bytes, is_on: bool, now: Timestamp) {
        if *channel == self.own {
            return;
        }
        if *channel == self.hello {
            // It was asked for last.
            self.on_greeted(Lane::Subscriber, now);
            return;
        }
        let Some(&slot) = self.slots_by_channel.get(channel) else {
            return;
        };
        let key = self.key_of(slot);
        let confirmations = &mut self.entries[slot].confirmations;
        match (confirmations.pop_front(), is_on) {
            (Some(Confirmation::Subscribed { round }), true) => {
                self.owed -= 1;
                self.with(key, now, |topic, cx| topic.on_subscribed(round, cx));
            }
            (Some(Confirmation::Unsubscribed), false) => {
                self.owed -= 1;
                self.with(key, now, |_, _| {});
            }
            (Some(_) | None, _) => self.give_up(Lane::Subscriber, Reason::Protocol, now),
        }
    }

    fn on_message(&mut self, channel: &Bytes, payload: &Bytes, now: Timestamp) {
        if *channel == self.own {
            self.on_token(payload, now);
        } else if *channel == self.hello {
            let differences = self.peers.on_hello(payload, now);
            if !differences.is_empty() {
                self.counts.mismatched += 1;
                self.note_differing(payload, differences);
            }
        } else if let Some(&slot) = self.slots_by_channel.get(channel) {
            let key = self.key_of(slot);
            self.on_batch(key, batch::read(payload.clone()).ok(), now);
        }
    }

    fn note_differing(&mut self, hello: &[u8], differences: Vec<&'static str>) {
        if self.differing.len() < MAX_DIFFERING
            && let Some(hello) = Hello::read(hello)
        {
            self.differing.push((hello.node, differences));
        }
    }

    fn on_batch(&mut self, key: TopicKey, arrival: Option<Arrival>, now: Timestamp) {
        self.entries[key.slot].is_quiet = false;
        match &arrival {
            Some(arrival) => {
                self.counts.received += 1;
                self.is_confirmed |= arrival.head.node == self.settings.topic.node;
            }
            None => self.counts.refused += 1,
        }
        self.with(key, now, |topic, cx| topic.on_arrival(arrival, cx));
    }

    fn on_token(&mut self, payload: &Bytes, now: Timestamp) {
        let number = std::str::from_utf8(payload)
            .ok()
            .and_then(|text| text.parse().ok());
        let Some(token) = number.and_then(|number: u64| self.tokens.remove(&number)) else {
            return;
        };
        self.tokens_owed -= usize::from(token.is_published);
        self.is_confirmed = true;
        if let Some(Of { key, round }) = token.fence {
            self.with(key, now, |topic, cx| topic.on_fence(round, cx));
        }
    }
}
