//! The numbers of messages, as clients are told them.
//!
//! The model has one order for each topic, whatever the relay forgets. A number is the place in this order and a distance that
//! changes only when the relay has forgotten the topic. So every position that a client is told can be compared with the
//! place of its next message.

use super::{Client, Life, Member, Model};
use crate::stream::Item;
use std::time::Duration;

use fanwire::config::SlowConsumerPolicy;
use fanwire::internals::port::Epoch;

/// Messages are dropped for their age at multiples of this.
const AGE_STEP: Duration = Duration::from_millis(250);

/// The place that a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asked {
    /// None.
    #[default]
    Nothing,
    /// A number that somebody was told.
    Number(u64),
    /// A number of an epoch that is over.
    Foreign(u64),
    /// Something that is not a position.
    Nonsense,
    /// So many messages.
    Last(u64),
}

/// The messages that are lost, as the relay says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    NotSaid,
    Unknown,
    Messages(u64),
}

/// A place that the relay has told a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) epoch: Epoch,
    pub(crate) number: u64,
    pub(crate) lost: Lost,
}

impl Told {
    /// Reads `{"at":"E-N","lost":…}`.
    fn of_words(text: &str) -> Told {
        let inner = text
            .strip_prefix("\0{\"at\":\"")
            .expect("words have a form");
        let (at, rest) = inner.split_once('"').expect("a position ends");
        let lost = match rest {
            "}" => Lost::NotSaid,
            ",\"lost\":null}" => Lost::Unknown,
            rest => {
                let number = rest.strip_prefix(",\"lost\":");
                let number = number.and_then(|rest| rest.strip_suffix('}'));
                let number = number.expect("words have a form");
                Lost::Messages(number.parse().expect("a number"))
            }
        };
        let (epoch, number) = read_position(at);
        Told {
            epoch,
            number,
            lost,
        }
    }

    /// Reads the fields of a 101, if they are there.
    pub(crate) fn of_fields(position: Option<&str>, lost: Option<&str>) -> Option<Told> {
        let (epoch, number) = read_position(position?);
        Some(Told {
            epoch,
            number,
            lost: match lost {
                None => Lost::NotSaid,
                Some("unknown") => Lost::Unknown,
                Some(lost) => Lost::Messages(lost.parse().expect("a number")),
            },
        })
    }
}

/// The epoch and the number in a position.
pub(crate) type Place = (Epoch, u64);

/// Reads a position.
pub(crate) fn read_position(position: &str) -> Place {
    let (epoch, number) = position.split_once('-').expect("a position has an epoch");
    let epoch = epoch.parse().expect("an epoch is a word");
    (epoch, number.parse().expect("a position has a number"))
}

impl Model {
    /// The owner says which number the topic's first message had, and its next one; `None` if it has forgotten the topic.
    pub(crate) fn note_numbers(&mut self, topic: usize, numbers: Option<(u64, u64)>) {
        let one = &mut self.topics[topic];
        let Some((born, next)) = numbers else {
            return;
        };
        let base = next.checked_sub(one.order.len() as u64);
        let base = base.expect("each message has a number of its own");
        let born = born
            .checked_sub(base)
            .expect("the first is not a later one") as usize;
        let life = Life { base, born };
        if one.life != life {
            assert!(
                base >= one.life.base && born >= one.life.born,
                "a number names two messages"
            );
            one.life = life;
        }
        // Those that joined on the owner's own shard in this turn.
        for client in 0..self.clients.len() {
            if self.clients[client].topic == topic {
                self.note_life(client);
            }
        }
    }

    /// The client's topic is in the life that the model knows.
    pub(super) fn note_life(&mut self, client: usize) {
        let client = &mut self.clients[client];
        if let Some(member) = &mut client.member {
            member.life.get_or_insert(self.topics[client.topic].life);
        }
    }

    /// The client asks for a place, and understands the relay's own words or not.
    pub(crate) fn ask(&mut self, client: usize, asked: Asked, has_words: bool) {
        self.clients[client].asked = asked;
        self.clients[client].has_words = has_words;
    }

    /// A number that a client of the topic could be at.
    pub(crate) fn any_number(&self, topic: usize, choice: usize) -> Option<u64> {
        let there = self.clients.iter().filter(|client| client.topic == topic);
        let number = |client: &Client| client.member.as_ref()?.number();
        let numbers: Vec<u64> = there
            .filter_map(|client| number(client).or(client.left_at))
            .collect();
        (!numbers.is_empty()).then(|| numbers[choice % numbers.len()])
    }

    /// The client has sent a question that ends at `end` of its bytes.
    pub(crate) fn probe(&mut self, client: usize, end: u64) {
        self.clients[client].probes.push_back(end);
    }

    /// The 101 tells the client where it is.
    pub(crate) fn on_fields(&mut self, client: usize, told: Option<Told>) {
        if let Some(told) = told {
            self.on_beginning(client, told);
        }
    }

    /// Whether the message is for this client the relay's own.
    pub(super) fn is_words(&self, client: usize, item: &Item) -> bool {
        let Item::Message { is_text, payload } = item else {
            return false;
        };
        self.clients[client].has_words && *is_text && payload.first() == Some(&0)
    }

    pub(super) fn on_words(&mut self, client: usize, payload: &[u8]) {
        let told = Told::of_words(std::str::from_utf8(payload).expect("text"));
        self.on_told(client, told);
    }

    /// The client is told that it is here.
    pub(super) fn on_told(&mut self, client: usize, told: Told) {
        if !self.member(client).is_told {
            return self.on_beginning(client, told);
        }
        let one = &mut self.clients[client];
        let consumed = one.consumed;
        while one.probes.pop_front_if(|end| *end <= consumed).is_some() {}
        let member = one.member.as_mut().expect("words are for members");
        match told.lost {
            Lost::NotSaid => {}
            Lost::Unknown => panic!("a skip is counted"),
            Lost::Messages(lost) => {
                assert!(lost > 0, "a skip of nothing");
                member.next += lost as usize;
                member.skipped += lost as usize;
            }
        }
        assert_eq!(
            (self.epoch, member.number()),
            (told.epoch, Some(told.number)),
            "client {client} is told another place than it has counted"
        );
    }

    /// The client's stream begins where it is told.
    fn on_beginning(&mut self, client: usize, told: Told) {
        assert_eq!(told.epoch, self.epoch, "the numbers are of another epoch");
        let one = &self.clients[client];
        let topic = &self.topics[one.topic];
        let life = self
            .member(client)
            .life
            .expect("a topic with a client has numbers");
        let Life { base, .. } = life;
        let place = told.number.checked_sub(base).expect("a place of this life") as usize;
        let born = base + life.born as u64;
        let next = base + topic.order.len() as u64;
        assert!(
            (born..=next).contains(&told.number),
            "{told:?} of {born} to {next}"
        );
        match (&one.asked, told.lost) {
            (Asked::Nothing, Lost::NotSaid | Lost::Messages(0)) => {
                assert_eq!(
                    place,
                    self.member(client).next,
                    "it begins with the next message"
                );
            }
            (Asked::Number(asked), Lost::Messages(lost)) => {
                assert!((born..=next).contains(asked), "an unknown place is known");
                assert_eq!(told.number, asked + lost, "what is lost is counted");
                assert!(
                    lost == 0 || !self.keeps_everything,
                    "nothing has to be lost: {told:?}, {asked} asked, {life:?}, next {next}"
                );
            }
            (Asked::Number(asked), Lost::Unknown) => {
                assert!(*asked < born || *asked > next, "a known place is unknown");
            }
            (Asked::Nonsense | Asked::Foreign(_), Lost::Unknown) => {}
            (Asked::Last(most), Lost::Messages(0)) => {
                // Others may have been sent since the client was confirmed.
                let head = base + self.member(client).next as u64;
                assert!(head - told.number <= *most, "more than the last");
            }
            (asked, lost) => panic!("{asked:?} is answered {lost:?}"),
        }
        let member = self.member(client);
        if place < member.next {
            let kept_until = topic.numbered_at[place] + self.max_age + AGE_STEP;
            assert!(
                kept_until > member.confirmed_at,
                "a message is kept for too long"
            );
        }
        let member = self.clients[client].member.as_mut().expect("a member");
        member.is_told = true;
        member.join = place;
        member.next = place;
    }

    /// The number of the client's next message, if it was told where it began.
    pub(super) fn member_number(&self, client: usize) -> Option<u64> {
        self.member(client).number()
    }

    fn member(&self, client: usize) -> &Member {
        let member = self.clients[client].member.as_ref();
        member.expect("the relay's own words are for members")
    }

    /// Takes the position out of a Close's reason, and checks it.
    pub(super) fn take_position(&self, client: usize, reason: &str) -> String {
        let Some((before, rest)) = reason.split_once("; at ") else {
            assert!(
                !self.has_history || reason.is_empty(),
                "{reason:?} says no position"
            );
            return reason.to_owned();
        };
        let (position, behind) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        let one = &self.clients[client];
        let member = self.member(client);
        let (epoch, told) = read_position(position);
        assert_eq!(epoch, self.epoch, "a Close names another epoch");
        match member.number() {
            Some(number)
                if one.has_words || self.rule(client).policy != SlowConsumerPolicy::Drop =>
            {
                assert_eq!(
                    told, number,
                    "client {client} leaves at another place than it has counted"
                );
            }
            Some(number) => assert!(told >= number, "client {client} is sent back"),
            None => {}
        }
        format!("{before}{behind}")
    }

    /// Once nothing is on its way, every question is answered.
    pub(super) fn check_probes(&self, client: usize) {
        assert!(
            self.clients[client].probes.is_empty(),
            "client {client}: a question is not answered"
        );
    }
}

impl Member {
    /// The number of its next message, if it was told where it began.
    pub(super) fn number(&self) -> Option<u64> {
        let life = self.life.filter(|_| self.is_told)?;
        Some(life.base + self.next as u64)
    }
}
