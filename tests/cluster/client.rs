//! A client's session: what it hears, judged message by message.

use std::collections::BTreeSet;

use bytes::Bytes;
use fanwire::internals::cluster::{Place, TopicNames, Why};

use crate::plan::PREFIX;
use crate::truth::{MessageId, Truth};

/// The frames of messages: texts that begin with their id.
pub(crate) fn frames(ids: &[MessageId], padding: usize) -> Bytes {
    let mut frames = Vec::new();
    for id in ids {
        let text = format!("{id} {}", "x".repeat(padding));
        assert!(text.len() < 126, "a short frame");
        frames.extend([0x81, text.len() as u8]);
        frames.extend_from_slice(text.as_bytes());
    }
    frames.into()
}

/// The messages in frames that [`frames`] made.
pub(crate) fn messages(frames: &Bytes) -> Vec<MessageId> {
    let (mut rest, mut ids) = (&frames[..], Vec::new());
    while let [_, len, after @ ..] = rest {
        let (text, after) = after.split_at(usize::from(*len));
        let text = std::str::from_utf8(text).expect("a text");
        let id = text.split(' ').next().expect("an id");
        ids.push(id.parse().expect("a number"));
        rest = after;
    }
    ids
}

/// A message at its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// The place before it.
    pub(crate) before: Place,
    pub(crate) id: MessageId,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    /// The topic, as the engine names it.
    topic: String,
    /// The client knows the relay's own words, and can be told.
    pub(crate) understands: bool,
    /// Its place, as it counts.
    pub(crate) place: Place,
    /// Other places at which it may be.
    maybe: Vec<Place>,
    seen: BTreeSet<MessageId>,
}

impl Session {
    pub(crate) fn new(topic: &str, understands: bool, place: Place) -> Self {
        let hash = TopicNames::new(PREFIX, topic).hash;
        Session {
            topic: String::from_utf8_lossy(&hash).into_owned(),
            understands,
            place,
            maybe: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Hears a message. It must be the next one, and new.
    pub(crate) fn hear(&mut self, heard: Heard, truth: &Truth) {
        self.hear_after(0, heard, truth);
    }

    /// Hears a message, after it was told that `lost` are missing before it.
    pub(crate) fn hear_after(&mut self, lost: u64, heard: Heard, truth: &Truth) {
        self.check_distance(lost, heard.before, truth);
        let Place { epoch, last } = heard.before;
        let named = truth.message(&self.topic, epoch, last + 1);
        assert_eq!(named, Some(heard.id), "the message behind {}", heard.before);
        assert!(
            self.seen.insert(heard.id),
            "{}: message {} comes twice, at {}",
            self.topic,
            heard.id,
            heard.before
        );
        self.place = Place {
            epoch,
            last: last + 1,
        };
    }

    /// Hears a message without a word about its place. It must be the next one. A message that was numbered twice leaves it open
    /// where the client is.
    pub(crate) fn hear_blindly(&mut self, id: MessageId, truth: &Truth) {
        let from: Vec<Place> = self.maybe.iter().copied().chain([self.place]).collect();
        let before = |place: &Place| Place {
            last: place.last - 1,
            ..*place
        };
        let follows = |place: &&Place| {
            let mut from = from.iter();
            from.any(|&from| truth.distance(&self.topic, from, before(place)) == Some(0))
        };
        let next: Vec<Place> = truth.places(id).iter().filter(follows).copied().collect();
        let [first, others @ ..] = &next[..] else {
            panic!(
                "{}: message {id}, of {:?}, is not the next one at {from:?}",
                self.topic,
                truth.places(id)
            );
        };
        assert!(
            self.seen.insert(id),
            "{}: message {id} comes twice",
            self.topic
        );
        self.place = *first;
        self.maybe = others.to_vec();
    }

    /// The place of the client, if it knows it.
    pub(crate) fn certain_place(&self) -> Option<Place> {
        self.maybe.is_empty().then_some(self.place)
    }

    /// Whether the client may be at `place`, as far as it knows.
    pub(crate) fn may_be_at(&self, place: Place, truth: &Truth) -> bool {
        let mut from = self.maybe.iter().chain([&self.place]);
        from.any(|&from| truth.distance(&self.topic, from, place) == Some(0))
    }

    /// A stream begins at `place`, of which nothing connects to what was heard.
    pub(crate) fn begin_anew(&mut self, place: Place) {
        self.seen.clear();
        self.place = place;
    }

    /// Checks that exactly `lost` messages lie between the session's place and `to`.
    pub(crate) fn check_distance(&self, lost: u64, to: Place, truth: &Truth) {
        let distance = truth.distance(&self.topic, self.place, to);
        assert_eq!(
            distance,
            Some(lost),
            "{}: messages from {} to {to}",
            self.topic,
            self.place
        );
    }

    /// The node says that nobody knows the session's place. It must not be a place of the epoch that the node is in.
    pub(crate) fn check_unknown(&self, here: Place, truth: &Truth) {
        let Place { epoch, last } = self.place;
        let is_known = last == 0 || truth.message(&self.topic, epoch, last).is_some();
        assert!(
            epoch != here.epoch || !is_known,
            "{}: {} is not unknown at {here}",
            self.topic,
            self.place
        );
    }

    /// Is told of a break. Returns whether the session goes on.
    pub(crate) fn told(&mut self, why: Why, at: Place, lost: Option<u64>, truth: &Truth) -> bool {
        match why {
            Why::Moved => {
                assert_eq!(lost, Some(0));
                self.check_distance(0, at, truth);
                self.place = at;
                return true;
            }
            Why::Gap => {
                if let Some(lost) = lost {
                    self.check_distance(lost, at, truth);
                }
            }
            // A new session: it may hear again what the engine has forgotten, or what nobody can compare.
            Why::Back | Why::Unknown => {
                assert_eq!(lost, None);
                self.seen.clear();
            }
        }
        self.place = at;
        self.understands
    }
}
