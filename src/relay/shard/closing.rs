//! Closing by hand: the operator closes the clients of a topic, or those of a subject.
//!
//! The host hands the order over with its mail. Each client is told so, with Close 1000. It may come back at once if it is
//! still let in: an operator who bars somebody takes away the right first.

use super::Shard;
use super::arrival::Stage;
use super::client::Client;
use super::phase::Phase;
use crate::ids::ClientKey;
use crate::port::topic_name::TopicName;
use crate::relay::policy::departure::Departure;

/// The clients that an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Those that hear this topic, or may only publish to it.
    Topic(TopicName),
    /// Those whose token, or whose grants of a proxy, have this name.
    Subject(Box<str>),
}

impl Shard {
    /// Closes clients. Those that are just being let in are cut, and are judged anew when they come back.
    pub(crate) fn close_by_hand(&mut self, whom: &Whom) {
        let clients = self.clients.iter();
        let meant: Vec<(ClientKey, Phase)> = clients
            .filter(|&(key, client)| self.is_meant(key, client, whom))
            .map(|(key, client)| (key, client.phase()))
            .collect();
        for (key, phase) in meant {
            match phase {
                Phase::Open => self.depart(key, Departure::ByHand),
                Phase::Placing | Phase::Joining => self.cut(key, Departure::ByHand),
                Phase::Requesting
                | Phase::Exchanging
                | Phase::Closing
                | Phase::Finishing
                | Phase::Lingering => {}
            }
        }
    }

    fn is_meant(&self, key: ClientKey, client: &Client, whom: &Whom) -> bool {
        match whom {
            Whom::Subject(name) => self.subjects.of(key) == Some(name),
            Whom::Topic(name) => self.topic_of(client) == Some(name),
        }
    }

    /// The topic of a client that is open or is being let in.
    fn topic_of<'a>(&'a self, client: &'a Client) -> Option<&'a TopicName> {
        if let Some(topic) = client.topic() {
            return Some(&self.topics[topic].name);
        }
        let joins = client.arrival.as_deref().map(|arrival| &arrival.stage);
        match joins {
            Some(Stage::Granted(terms) | Stage::Joining(terms, _)) => Some(&terms.topic),
            Some(_) | None => client.source(),
        }
    }
}
