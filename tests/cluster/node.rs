//! A node: the relay's own code for one engine, with invented connections, clients and histories.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use fanwire::internals::Timestamp;
use fanwire::internals::cluster::{
    Arrival, Effect, Engine, EngineSettings, Parcel, Place, Resume, State, TopicKey, Why,
};

use crate::client::{self, Heard, Session};
use crate::server::Planted;
use crate::truth::{MessageId, Truth};

/// The messages that a client publishes in one turn.
#[derive(Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) ids: Vec<MessageId>,
    frames: Bytes,
}

impl Note {
    pub(crate) fn new(ids: Vec<MessageId>, padding: usize) -> Self {
        let frames = client::frames(&ids, padding);
        Note { ids, frames }
    }
}

impl Parcel for Note {
    fn messages(&self) -> u32 {
        self.ids.len() as u32
    }

    fn len_bytes(&self) -> usize {
        self.frames.len()
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.frames[..])
    }
}

/// How far a client is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its handshake waits until the topic is where the engine is.
    Joining,
    /// Its handshake waits for the place at which it goes on.
    Resuming(Place),
    Here(Session),
    /// It is gone, at this place, and may come back anywhere.
    Gone(Option<Place>),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) understands: bool,
    pub(crate) stage: Stage,
}

/// A message that the node keeps, behind so many others of the topic's life here.
#[derive(Clone, Copy, Debug)]
struct Kept {
    count: u64,
    heard: Heard,
}

/// A topic on a node.
#[derive(Debug, Default)]
pub(crate) struct Room {
    key: Option<TopicKey>,
    pub(crate) clients: Vec<Client>,
    pub(crate) is_held: bool,
    is_drained: bool,
    history: VecDeque<Kept>,
    count: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) engine: Engine<Note>,
    pub(crate) rooms: BTreeMap<String, Room>,
    names: BTreeMap<TopicKey, String>,
    /// Messages whose sources have not got their bytes back.
    pub(crate) outstanding: BTreeSet<MessageId>,
    max_history: usize,
    planted: Planted,
    is_draining: bool,
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

impl Node {
    pub(crate) fn new(
        settings: EngineSettings,
        seed: u64,
        max_history: usize,
        planted: Planted,
        now: Timestamp,
    ) -> Self {
        Node {
            engine: Engine::new(settings, seed, now),
            rooms: BTreeMap::new(),
            names: BTreeMap::new(),
            outstanding: BTreeSet::new(),
            max_history,
            planted,
            is_draining: false,
            tally: BTreeMap::new(),
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// The key of a topic, and its room. A topic that the engine's side has forgotten begins anew.
    fn key(&mut self, topic: &str) -> TopicKey {
        let key = self.engine.topic(topic);
        let room = self.rooms.entry(topic.into()).or_default();
        if room.key != Some(key) {
            assert!(
                room.history.is_empty() || self.planted == Planted::HistoryWithHole,
                "{topic}: forgotten with its history"
            );
            room.key = Some(key);
            room.count = 0;
        }
        self.names.insert(key, topic.into());
        key
    }

    /// A client comes, with the place that it had elsewhere.
    pub(crate) fn join(
        &mut self,
        topic: &str,
        number: u64,
        understands: bool,
        place: Option<Place>,
        now: Timestamp,
    ) {
        let key = self.key(topic);
        let stage = place.map_or(Stage::Joining, Stage::Resuming);
        let room = self.rooms.get_mut(topic).expect("a room");
        room.clients.push(Client {
            number,
            understands,
            stage,
        });
        self.note_members(topic, now);
        if let Some(place) = place {
            self.note("resumes");
            self.engine.resume(key, number, place, now);
        }
    }

    /// A client goes. Returns its place, if it had one.
    pub(crate) fn leave(&mut self, topic: &str, at: usize, now: Timestamp) -> Option<Place> {
        let key = self.key(topic);
        let room = self.rooms.get_mut(topic).expect("a room");
        let client = room.clients.remove(at);
        self.note_members(topic, now);
        match client.stage {
            Stage::Here(session) => Some(session.place),
            Stage::Resuming(place) => {
                self.engine.forget_resumer(key, client.number, now);
                Some(place)
            }
            Stage::Joining => None,
            Stage::Gone(place) => place,
        }
    }

    fn note_members(&mut self, topic: &str, now: Timestamp) {
        let key = self.key(topic);
        let present = |client: &&Client| !matches!(client.stage, Stage::Gone(_));
        let members = self.rooms[topic].clients.iter().filter(present).count();
        self.engine.on_members(key, members as u64, now);
    }

    pub(crate) fn publish(&mut self, topic: &str, note: Note, truth: &Truth, now: Timestamp) {
        let key = self.key(topic);
        self.outstanding.extend(&note.ids);
        if self.planted == Planted::LocalDelivery && !self.engine.is_up() {
            let ids = note.ids.clone();
            self.deliver_locally(topic, &ids, truth);
        }
        self.engine.publish(key, note, now);
    }

    /// Plants a fault: members hear messages that have no place.
    fn deliver_locally(&mut self, topic: &str, ids: &[MessageId], truth: &Truth) {
        let room = self.rooms.get_mut(topic).expect("a room");
        for client in &mut room.clients {
            if let Stage::Here(session) = &mut client.stage {
                for &id in ids {
                    let before = session.place;
                    session.hear(Heard { before, id }, truth);
                }
            }
        }
    }

    /// Takes what happened to topics. Clients whose streams ended are [`Stage::Gone`].
    pub(crate) fn take_events(&mut self, truth: &Truth, now: Timestamp) {
        loop {
            let events = self.engine.take_events();
            if events.is_empty() {
                break;
            }
            for (key, effect) in events {
                let topic = self.names[&key].clone();
                self.take_event(&topic, effect, truth);
                if !self.is_draining {
                    self.note_members(&topic, now);
                }
            }
        }
        self.seat_joiners();
    }

    fn take_event(&mut self, topic: &str, effect: Effect<Note>, truth: &Truth) {
        match effect {
            Effect::Ask { .. } => panic!("questions are not for the owner"),
            Effect::Deliver { arrival, ours } => self.deliver(topic, &arrival, ours, truth),
            Effect::Told { why, at, lost } => self.tell(topic, why, at, lost, truth),
            Effect::ForgetHistory => {
                if self.planted != Planted::HistoryWithHole {
                    self.room(topic).history.clear();
                }
            }
            Effect::Passed(notes) => {
                self.note("passed");
                for id in self.give_back(&notes) {
                    assert!(
                        truth.was_numbered(id),
                        "{id} passed, and was never numbered"
                    );
                }
            }
            Effect::GivenUp(notes) => {
                self.note("given up");
                self.give_back(&notes);
            }
            Effect::Dropped(notes) => {
                self.note("dropped");
                for id in self.give_back(&notes) {
                    assert!(!truth.was_numbered(id), "{id} was dropped, and is numbered");
                }
            }
            Effect::Unsure => self.note("unsure"),
            Effect::Out => self.note("out"),
            Effect::Hold(is_held) => self.room(topic).is_held = is_held,
            Effect::Resumed {
                client,
                resume,
                found,
                at,
            } => self.resumed(topic, client, (resume, &found, at), truth),
            Effect::Drained => {
                self.note("drained");
                let room = self.room(topic);
                room.history.clear();
                let was_drained = std::mem::replace(&mut room.is_drained, true);
                assert!(!was_drained, "{topic} is drained twice");
            }
        }
    }

    fn room(&mut self, topic: &str) -> &mut Room {
        self.rooms.get_mut(topic).expect("a room")
    }

    /// The sources of these get their bytes back, once.
    fn give_back(&mut self, notes: &[Note]) -> Vec<MessageId> {
        let ids: Vec<MessageId> = notes.iter().flat_map(|note| note.ids.clone()).collect();
        for id in &ids {
            assert!(self.outstanding.remove(id), "{id} comes back twice");
        }
        ids
    }

    fn deliver(&mut self, topic: &str, arrival: &Arrival, ours: Option<Vec<Note>>, truth: &Truth) {
        self.note("delivered");
        if let Some(notes) = ours {
            let frames: Vec<u8> = notes.iter().flat_map(|note| note.frames.to_vec()).collect();
            assert_eq!(
                arrival.frames, frames,
                "our own batch is what we have of it"
            );
            self.give_back(&notes);
        }
        let max_history = self.max_history;
        let room = self.room(topic);
        assert!(!room.is_drained, "{topic} delivers after its drain");
        for (heard, count) in heard(arrival).zip(room.count..) {
            for client in &mut room.clients {
                if let Stage::Here(session) = &mut client.stage {
                    session.hear(heard, truth);
                }
            }
            room.history.push_back(Kept { count, heard });
            room.count = count + 1;
        }
        while room.history.len() > max_history {
            room.history.pop_front();
        }
    }

    fn tell(&mut self, topic: &str, why: Why, at: Place, lost: Option<u64>, truth: &Truth) {
        self.note(match why {
            Why::Moved => "moved",
            Why::Gap => "gap",
            Why::Back => "back",
            Why::Unknown => "unknown",
        });
        let hears_on = self.planted == Planted::HearsBehindBreak;
        for client in &mut self.room(topic).clients {
            let Stage::Here(session) = &mut client.stage else {
                continue;
            };
            if why != Why::Moved && !session.understands {
                if !hears_on {
                    client.stage = Stage::Gone(Some(session.place));
                }
                continue;
            }
            session.told(why, at, lost, truth);
        }
    }

    fn resumed(
        &mut self,
        topic: &str,
        number: u64,
        (resume, found, here): (Resume, &[Arrival], Place),
        truth: &Truth,
    ) {
        self.note(match resume {
            Resume::Here(_) => "resumed here",
            Resume::Found { .. } => "resumed from the stream",
            Resume::Unknown => "resumed from nowhere",
        });
        let room = self.room(topic);
        let begin = room.history.front().map_or(room.count, |kept| kept.count);
        let is_it = |client: &&mut Client| client.number == number;
        let client = room
            .clients
            .iter_mut()
            .find(is_it)
            .expect("a client that waits");
        let Stage::Resuming(place) = client.stage else {
            panic!("a client that did not ask");
        };
        let (lost, mut messages) = match resume {
            Resume::Here(count) => (begin.saturating_sub(count), Vec::new()),
            Resume::Found { lost, then } if begin <= then => {
                let all = found.iter().flat_map(heard);
                (
                    lost,
                    all.filter(|heard| heard.before.last >= place.last)
                        .collect(),
                )
            }
            // The node has not kept what would follow.
            Resume::Found { lost, then } => {
                let all = found.iter().flat_map(heard);
                let found = all.filter(|heard| heard.before.last >= place.last).count();
                (lost + found as u64 + begin - then, Vec::new())
            }
            Resume::Unknown => (0, Vec::new()),
        };
        let from = match resume {
            Resume::Here(count) => count,
            Resume::Found { then, .. } => then,
            Resume::Unknown => begin,
        };
        let kept = room.history.iter().filter(|kept| kept.count >= from);
        messages.extend(kept.map(|kept| kept.heard));
        let mut session = Session::new(topic, client.understands, place);
        if resume == Resume::Unknown {
            session.check_unknown(here, truth);
            session.place = messages.first().map_or(here, |first| first.before);
        }
        let mut lost = lost;
        for heard in messages {
            session.hear_after(lost, heard, truth);
            lost = 0;
        }
        session.check_distance(lost, here, truth);
        session.place = here;
        client.stage = Stage::Here(session);
    }

    /// Clients that wait get their places.
    fn seat_joiners(&mut self) {
        for (topic, room) in &mut self.rooms {
            let Some(engine_topic) = room.key.and_then(|key| self.engine.get(key)) else {
                continue;
            };
            let Some(place) = engine_topic.place().filter(|_| engine_topic.is_joinable()) else {
                continue;
            };
            for client in &mut room.clients {
                if let Stage::Joining = client.stage {
                    let session = Session::new(topic, client.understands, place);
                    client.stage = Stage::Here(session);
                }
            }
        }
    }

    /// Removes the clients whose streams have ended.
    pub(crate) fn take_gone(&mut self) -> Vec<(String, u64, bool, Option<Place>)> {
        let mut gone = Vec::new();
        for (topic, room) in &mut self.rooms {
            room.clients.retain(|client| match client.stage {
                Stage::Gone(place) => {
                    gone.push((topic.clone(), client.number, client.understands, place));
                    false
                }
                Stage::Joining | Stage::Resuming(_) | Stage::Here(_) => true,
            });
        }
        gone
    }

    /// The node is to end. Nobody joins or publishes any more.
    pub(crate) fn drain(&mut self, until: Timestamp, now: Timestamp) {
        self.is_draining = true;
        self.engine.drain(until, now);
    }

    /// Whether every fence could be answered. Then all sources have their bytes back.
    pub(crate) fn is_drained(&self) -> bool {
        let is_drained = self.engine.topics().all(|(_, topic)| topic.is_drained());
        assert!(
            !is_drained || self.outstanding.is_empty(),
            "drained with messages"
        );
        is_drained
    }

    /// The node is gone. Its clients come back elsewhere.
    pub(crate) fn end(&mut self) -> Vec<(String, u64, bool, Option<Place>)> {
        for room in self.rooms.values_mut() {
            for client in &mut room.clients {
                let place = match &client.stage {
                    Stage::Joining => None,
                    Stage::Resuming(place) => Some(*place),
                    Stage::Here(session) => Some(session.place),
                    Stage::Gone(place) => *place,
                };
                client.stage = Stage::Gone(place);
            }
        }
        self.take_gone()
    }

    /// Checks what must hold between any two steps.
    pub(crate) fn check(&self, max_pending: u64) {
        let held: u64 = self
            .engine
            .topics()
            .map(|(_, topic)| topic.pending_bytes() + topic.kept_bytes())
            .sum();
        assert_eq!(
            held,
            self.engine.pending_bytes(),
            "the meter counts what is held"
        );
        assert!(
            held <= max_pending,
            "{held} bytes are held, of {max_pending}"
        );
        for (name, topic) in self.engine.topics() {
            assert!(
                topic.state() != State::Live || topic.is_whole(),
                "{name} is live, and not whole"
            );
        }
    }
}

/// The messages of a batch at their places.
fn heard(arrival: &Arrival) -> impl Iterator<Item = Heard> + use<> {
    let (epoch, first) = (arrival.head.epoch, arrival.first);
    let ids = client::messages(&arrival.frames).into_iter();
    ids.zip(first..).map(move |(id, number)| {
        let last = number - 1;
        let before = Place { epoch, last };
        Heard { before, id }
    })
}
