//! Breaks in the streams of topics that an engine numbers, and outages of engines.
//!
//! The topic's owner sends a mark when the engine's numbers do not simply go on. A member that understands the relay's own
//! words is told at its place in the stream, and stays. The stream of another member ends at a break: it gets all that it was
//! owed before, nothing from behind, and then a Close with its position.
//!
//! These Closes are spread over `cluster.close_spread`. Until then such a client has no cursor in the log, so nobody waits for
//! it.

use std::sync::Arc;

use super::Shard;
use super::client::Client;
use super::control::Note;
use super::phase::Phase;
use super::replaying::{Ending, Replaying};
use crate::ids::{ClientKey, Seq};

use crate::port::position::Position;
use crate::port::terms::Form;
use crate::port::topic_name::TopicName;
use crate::relay::batch::past::{Past, Resumed};
use crate::relay::owner::cluster::Cluster;
use crate::relay::places::Mark;
use crate::relay::policy::departure::{Departure, refusal_stat};
use crate::relay::shard::arrival::Stage;
use crate::relay::topic::TopicKey;
use crate::relay::topic::replay::Replay;
use crate::time::Timestamp;
use crate::ws::handshake::Refusal;

impl Shard {
    /// The engine's numbers do not simply go on behind the last batch.
    pub(super) fn on_mark(&mut self, name: &TopicName, mark: &Mark) {
        let Some(key) = self.topics.find(name) else {
            return;
        };
        let topic = &mut self.topics[key];
        let Some(places) = &mut topic.places else {
            // Nobody has a place yet.
            return;
        };
        let keeps_history = topic.conduct.keeps_history();
        let before = places.at(mark.next).filter(|_| keeps_history);
        places.push(*mark);
        let replaying = self.replays.clients();
        let is_here = |&client: &ClientKey| self.clients[client].topic() == Some(key);
        let replaying: Vec<ClientKey> = replaying.filter(is_here).collect();
        let members = self.topics[key].members().to_vec();
        let mut past = None;
        for client in members.into_iter().chain(replaying) {
            if self.clients[client].ending().is_some() {
                // Its stream has ended before.
                continue;
            }
            if self.clients[client].has_words() {
                self.note_mark(client, mark, keeps_history);
            } else if mark.is_break {
                self.end_stream(client, (mark.next, before), &mut past);
            }
        }
        self.gauge_log(key);
        self.topics.touch(key);
    }

    /// Tells a client of a mark when it has come so far.
    fn note_mark(&mut self, key: ClientKey, mark: &Mark, keeps_history: bool) {
        let at = keeps_history.then_some(mark.at);
        if at.is_none() && !mark.is_break {
            // Without places, there is nothing to say.
            return;
        }
        let note = Note {
            next: mark.next,
            at,
            lost: mark.lost,
        };
        self.clients[key].queue_control(|control| control.note(note));
        self.outflow.make_urgent(key, &mut self.clients);
    }

    /// A client begins with what is kept. It is told of the marks behind the beginning.
    pub(super) fn note_marks_behind(&mut self, topic: TopicKey, key: ClientKey, resumed: &Resumed) {
        if !self.clients[key].has_words() {
            return;
        }
        let topic = &self.topics[topic];
        let keeps_history = topic.conduct.keeps_history();
        let Some(here) = &topic.places else {
            return;
        };
        let mut marks: Vec<Mark> = Vec::new();
        let mut from = resumed.from;
        if let Some(there) = &resumed.places {
            marks.extend(there.news_behind(from));
            from = resumed.until;
            let at = here.at(from);
            if let Some(at) = at.filter(|_| at != there.at(from)) {
                marks.push(Mark::going_on(from, at));
            }
        }
        marks.extend(here.news_behind(from));
        for mark in marks {
            self.note_mark(key, &mark, keeps_history);
        }
    }

    /// Ends a client's stream in front of a message, which is a position. It leaves when it has been sent what comes before, at a
    /// moment of its own.
    fn end_stream(
        &mut self,
        key: ClientKey,
        until: (Seq, Option<Position>),
        past: &mut Option<Arc<Past>>,
    ) {
        let spread = self.close_spread_micros();
        let ending = Ending {
            at: Timestamp(self.now.0 + self.chance.below(spread + 1)),
            is_due: false,
            until,
        };
        let client = &mut self.clients[key];
        let Some(member) = &client.member else {
            client.end_replay(ending);
            self.reschedule(key);
            self.outflow.make_urgent(key, &mut self.clients);
            return;
        };
        if member.own_ahead > 0 {
            // A list has its own messages, too.
            return self.depart(key, Departure::Break);
        }
        let topic_key = member.topic;
        let topic = &mut self.topics[topic_key];
        let past = past.get_or_insert_with(|| Arc::new(topic.log.past()));
        let form = member.form();
        let mut from = member.position(&topic.log);
        let mut sent = member.sent_of_message(&topic.log);
        if form == Form::Deflated && sent > 0 {
            // The list is read plain. The message in progress may be compressed.
            let sharing = self.memory.sharing();
            let rest = member.rest_of_frame(&topic.log, |batch| sharing.sharers(batch));
            client.carry_message(rest);
            (from, sent) = (Seq(from.0 + 1), 0);
        }
        let range = (from, until.0);
        let replay = Replay::within(topic_key, form, range, past.clone(), sent);
        let list = self.replays.enter(past, key, &mut self.stats);
        if let Some(member) = client.member.take() {
            if client.blocked {
                topic.log.unblock(member.cursor, key);
            }
            let place = member.place;
            member.leave(&mut topic.log);
            for (moved, place) in topic.remove(place) {
                let moved = self.clients[moved].member.as_mut();
                moved.expect("a listed client is a member").place = place;
            }
        }
        self.clients[key].set_replay(Replaying::to_the_end(replay, list, ending));
        self.resume(key);
        self.reschedule(key);
        self.outflow.make_urgent(key, &mut self.clients);
    }

    fn close_spread_micros(&self) -> u64 {
        let settings = self.owner.cluster().map(Cluster::settings);
        // A spread lasts seconds.
        settings.map_or(0, |settings| settings.close_spread.as_micros() as u64)
    }

    /// The moment of a client has come whose stream has ended. It leaves once it has been sent what it was owed.
    pub(super) fn hasten_end(&mut self, key: ClientKey) {
        self.clients[key].hasten_end();
        self.outflow.make_urgent(key, &mut self.clients);
    }

    /// The client has been sent all that came before the end of its stream.
    pub(super) fn end_stream_if_due(&mut self, key: ClientKey, ending: Ending) {
        if !ending.is_due || self.clients[key].carry().is_some() {
            return;
        }
        let departure = if self.clients[key].leaves_at_head {
            Departure::Shutdown
        } else {
            Departure::Break
        };
        self.depart(key, departure);
        self.take_up_last_words(key);
    }

    /// The engine of its topic is away, so a client cannot join.
    pub(super) fn refuse_joining(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if client.phase() != Phase::Joining {
            return;
        }
        let refusal = if self.drain.is_announced() {
            Refusal::SHUTDOWN
        } else {
            Refusal::OUT
        };
        let Some(arrival) = client.arrival.take() else {
            return;
        };
        let Stage::Joining(terms, topic) = arrival.stage else {
            return;
        };
        self.stats.inc(refusal_stat(refusal.kind));
        self.topics[topic].audience.leave(terms.form);
        self.topics.touch(topic);
        self.answer_refused(key, refusal, terms.answer.cors());
    }

    /// Messages of members here will not be delivered. If they were never sent, those who may have sent them are to know.
    pub(super) fn on_returned(&mut self, name: &TopicName, bytes: u64, is_dropped: bool) {
        let Some(key) = self.topics.find(name) else {
            return;
        };
        self.note_return(key, bytes);
        self.topics.touch(key);
        if is_dropped {
            let have_published = |client: &super::client::Client| client.has_published;
            self.close_members(key, have_published);
        }
    }

    /// Nothing could be published to the topic for too long. Members with something to publish are to try elsewhere.
    pub(super) fn on_out(&mut self, name: &TopicName) {
        let Some(key) = self.topics.find(name) else {
            return;
        };
        let waiting = self.topics[key].waiting.clone();
        for client in waiting {
            self.close_for_outage(key, client);
        }
    }

    fn close_members(&mut self, topic: TopicKey, is_meant: impl Fn(&Client) -> bool) {
        let members = self.topics[topic].members().to_vec();
        for key in members {
            if is_meant(&self.clients[key]) {
                self.close_for_outage(topic, key);
            }
        }
    }

    fn close_for_outage(&mut self, topic: TopicKey, key: ClientKey) {
        let Some(client) = self.clients.get(key) else {
            return;
        };
        if client.phase() == Phase::Open && client.topic() == Some(topic) {
            self.leave_at_head(key, Some(Departure::Outage));
        }
    }

    fn take_up_last_words(&mut self, key: ClientKey) {
        if let Some(client) = self.clients.get_mut(key)
            && client.phase().may_send()
        {
            client.take_up_control(None, Seq(u64::MAX));
        }
    }
}
