//! Clients that the owner of their topic has confirmed: they become members, or replay kept messages first.
//!
//! A client that asked for earlier messages gets them from the owner's list. If they are few, it takes a cursor behind the
//! others', and the log takes the batches that it needs.
//!
//! If they are many, it replays the list without a cursor, so that no publisher waits for it. At the end of the list the owner
//! is asked again, until few are left.

use super::arrival::Stage;
use super::phase::{Phase, Step};
use super::replaying::Replaying;
use super::{Shard, place_of};
use crate::ids::{ClientKey, Seq};
use crate::metrics::stats::Stat;
use crate::port::position::{Position, Start};
use crate::port::terms::{Beginning, Form, Selection, Terms, Welcome};
use crate::port::topic_name::TopicName;
use crate::relay::batch::past::Resumed;
use crate::relay::conduct::Conduct;
use crate::relay::envelope::{Envelope, Hold};
use crate::relay::places::Places;
use crate::relay::policy::departure::Departure;
use crate::relay::topic::TopicKey;
use crate::relay::topic::member::Member;
use crate::relay::topic::replay::Replay;

/// The gauge of members that read a form.
pub(super) fn members_stat(form: Form) -> Stat {
    match form {
        Form::Frames => Stat::MembersByFrames,
        Form::Events => Stat::MembersByEvents,
        Form::Deflated => Stat::MembersByDeflated,
    }
}

impl Shard {
    /// The owner's answer to a client that joins or replays.
    ///
    /// The owner's earlier batches are already in the log, or went to a membership that has ended. Its later ones begin with
    /// `next`. So the member sees no gap and no repetition.
    pub(super) fn on_subscribed(
        &mut self,
        name: &TopicName,
        key: ClientKey,
        (next, resumed): (Seq, Option<&Resumed>),
        places: Option<Box<Places>>,
    ) {
        let Some(topic_key) = self.topics.find(name) else {
            return;
        };
        let topic = &mut self.topics[topic_key];
        if topic.places.is_none() {
            // Later ones come as marks.
            topic.places = places;
        }
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        match client.phase() {
            Phase::Joining => self.welcome(topic_key, key, next, resumed),
            Phase::Open if client.replay().is_some() && client.ending().is_none() => {
                self.go_on(topic_key, key, next, resumed);
            }
            Phase::Requesting
            | Phase::Exchanging
            | Phase::Placing
            | Phase::Open
            | Phase::Closing
            | Phase::Finishing
            | Phase::Lingering => {}
        }
    }

    /// Takes note of what the owner says of a topic to each client that joins.
    pub(super) fn note_conduct(&mut self, name: &TopicName, conduct: &Conduct, held: Option<Hold>) {
        if let Some(key) = self.topics.find(name) {
            let topic = &mut self.topics[key];
            topic.conduct = *conduct;
            topic.held = held;
        }
    }

    /// Sends a joining client its response, and gives it its place.
    fn welcome(&mut self, topic: TopicKey, key: ClientKey, next: Seq, resumed: Option<&Resumed>) {
        let now = self.date();
        let pause_ms = if self.clients[key].is_stream() {
            self.draw_pause_ms()
        } else {
            0
        };
        let client = &mut self.clients[key];
        // Its moment in a spread came while it joined. Its early frames may be a reason of their own to leave.
        let is_sent_away = client.leaves_at_head;
        let Some(arrival) = client.arrival.take() else {
            return;
        };
        let Stage::Joining(mut terms, _) = arrival.stage else {
            return;
        };
        let keeps_history = resumed.is_some();
        if terms.has_words(keeps_history) {
            self.clients[key].give_words();
        }
        let asked = terms.form;
        self.agree_on_deflate(key, &mut terms);
        if terms.form != asked {
            // The owner hears of it with the next audience.
            let audience = &mut self.topics[topic].audience;
            audience.leave(asked);
            audience.enter(terms.form);
            self.topics.touch(topic);
        }
        let client = &mut self.clients[key];
        let beginning = resumed.and_then(|resumed| {
            Some(Beginning {
                at: match &resumed.places {
                    Some(places) => places.at(resumed.from),
                    None => place_of(&self.settings, &self.topics[topic], resumed.from),
                }?,
                lost: resumed.lost,
            })
        });
        client.take(Step::Join);
        client.carry_plain(terms.response(Welcome {
            now,
            beginning,
            may_skip: self.topics[topic].conduct.policy.skips(),
            pause_ms,
        }));
        self.stats.inc(Stat::Connections);
        self.stats.inc(Stat::ConnectedClients);
        self.stats.inc(members_stat(terms.form));
        if terms.form == Form::Events {
            self.watch_stream(key);
        }
        self.count_resume(&terms, resumed);
        self.count_subprotocol(key, terms.subprotocol.selection(keeps_history));
        self.take_place(topic, key, terms.form, next, resumed);
        if let Some(resumed) = resumed {
            self.note_marks_behind(topic, key, resumed);
        }
        self.outflow.make_urgent(key, &mut self.clients);
        self.resume(key);
        self.reschedule(key);
        self.abandon_newcomer(key);
        self.on_undecoded(key, arrival.early);
        if is_sent_away {
            self.send_newcomer_away(key);
        }
        if self.has_undecoded(key) {
            // No event of its socket announces the rest.
            self.make_ready(key);
        }
        self.gauge_client(key);
    }

    fn count_resume(&mut self, terms: &Terms, resumed: Option<&Resumed>) {
        let has_come_back = matches!(terms.start, Start::At(_) | Start::Unknown);
        let Some(resumed) = resumed.filter(|_| has_come_back) else {
            return;
        };
        self.stats.inc(match resumed.lost {
            Some(0) => Stat::ResumedFull,
            Some(_) => Stat::ResumedPartly,
            None => Stat::ResumedUnknown,
        });
    }

    /// Counts a client that is let in without any of the subprotocols that it offers.
    pub(super) fn count_subprotocol(&mut self, key: ClientKey, selection: &Selection) {
        if let Selection::Unmet { count } = selection {
            self.stats.inc(Stat::SubprotocolsUnmet);
            tracing::debug!(
                shard = self.id.0,
                client = key.slot,
                offered = count,
                "a client offers subprotocols, and server.subprotocols has none of them"
            );
        }
    }

    /// Gives an open client its place: in the log if few messages lie before `next`, and at the beginning of a list otherwise.
    fn take_place(
        &mut self,
        topic_key: TopicKey,
        key: ClientKey,
        form: Form,
        next: Seq,
        resumed: Option<&Resumed>,
    ) {
        let topic = &mut self.topics[topic_key];
        let client = &mut self.clients[key];
        if let Some(Resumed {
            from,
            past,
            until,
            places,
            ..
        }) = resumed
        {
            let owed = until.0 - from.0;
            self.stats.add(Stat::Offered, owed);
            self.stats.add(Stat::Replayed, owed);
            let index = past.index_of(*from);
            let is_last = index + 1 == past.entries().len();
            let policy = &topic.conduct.policy;
            let has_to_replay = policy.has_to_replay(past.cost_from(index), is_last);
            if *until < next || has_to_replay || places.is_some() {
                let list = self.replays.enter(past, key, &mut self.stats);
                let replay = Replay::new(topic_key, form, (*from, *until), past.clone());
                client.set_replay(Replaying {
                    places: places.clone(),
                    ..Replaying::new(replay, list)
                });
                return;
            }
        }
        if topic.members().is_empty() {
            topic.log.reset(next);
        }
        assert_eq!(
            topic.log.next(),
            next,
            "the mirror of a topic is where its owner says it is"
        );
        let cursor = match resumed {
            Some(resumed) => {
                let form = form.of_kept();
                topic.log.enter_at(resumed.from, form, &resumed.past)
            }
            None => topic.log.enter(),
        };
        let member = Member::new(topic_key, topic.add(key), form, cursor);
        let probation_bytes = topic.conduct.policy.probation_bytes();
        client.trusted_at_bytes = member.place_bytes(&topic.log) + probation_bytes;
        client.member = Some(member);
        if client.blocked {
            topic.log.block(cursor, key);
        }
        self.gauge_log(topic_key);
        self.topics.touch(topic_key);
    }

    /// Asks the owner for the messages behind a list that is over.
    pub(super) fn ask_for_more(&mut self, key: ClientKey) {
        let Some(replaying) = self.clients[key].replay_mut() else {
            return;
        };
        if std::mem::replace(&mut replaying.has_asked, true) {
            return;
        }
        let position = Position {
            epoch: self.settings.epoch,
            next: replaying.replay.position(),
        };
        let form = replaying.replay.form;
        let topic = &mut self.topics[replaying.replay.topic];
        let subscribe = Envelope::Subscribe {
            topic: topic.name.clone(),
            from: self.id,
            client: key,
            audience: topic.tell_audience(),
            form,
            start: Some(Box::new(Start::At(position))),
        };
        self.outbox.send(topic.owner, subscribe);
    }

    /// The clients that replay and have not been sent their whole list. For tests.
    pub fn unfinished_replays(&self) -> Vec<ClientKey> {
        let mut keys = self.clients.keys_in(|phase| phase == Phase::Open);
        keys.retain(|&key| self.is_replay_over(key) == Some(false));
        keys
    }

    /// Whether a client that replays has been sent its whole list; `None` if it does not replay. For tests.
    pub fn is_replay_over(&self, key: ClientKey) -> Option<bool> {
        let replaying = self.clients.get(key)?.replay()?;
        Some(replaying.replay.is_over())
    }

    /// The owner has answered a client whose list is over.
    fn go_on(&mut self, topic: TopicKey, key: ClientKey, next: Seq, resumed: Option<&Resumed>) {
        let lost = resumed.and_then(|resumed| resumed.lost);
        if lost != Some(0) && !self.on_lost_in_replay(key, lost.unwrap_or(0)) {
            return;
        }
        let Some(replaying) = self.clients[key].take_replay() else {
            return;
        };
        self.replays.leave(replaying.list, key, &mut self.stats);
        let form = replaying.replay.form;
        self.take_place(topic, key, form, next, resumed);
        self.outflow.make_urgent(key, &mut self.clients);
    }

    /// `lost` messages were dropped from the history before the client had read so far. Its policy decides. Says whether the
    /// client stays.
    fn on_lost_in_replay(&mut self, key: ClientKey, lost: u64) -> bool {
        self.stats.add(Stat::Offered, lost);
        if !self.policy_of(&self.clients[key]).skips() {
            self.stats.add(Stat::Discarded, lost);
            self.depart(key, Departure::Lag);
            return false;
        }
        self.stats.add(Stat::Dropped, lost);
        let client = &mut self.clients[key];
        if client.has_words() {
            client.queue_control(|control| control.skipped(lost));
        }
        true
    }
}
