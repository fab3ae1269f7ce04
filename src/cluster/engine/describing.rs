//! Questions about topics that this node need not have: where a topic is, and how many members other nodes have in it.
//!
//! The answer is a courtesy. A node that was killed is counted until the engine has not heard of it for `topic_ttl`.

use super::Engine;
use super::asked::{Asked, Described};
use crate::cluster::command::Command;
use crate::cluster::names::TopicNames;
use crate::cluster::place::{Epoch, NodeId, Place};
use crate::cluster::reply::Reply;
use crate::cluster::topic::parcel::Parcel;
use crate::time::Timestamp;

impl<T: Parcel> Engine<T> {
    /// Asks what the engine knows of a topic. One entry of [`Engine::take_described`] answers it, by the number of the question.
    pub fn describe(&mut self, name: &str, question: u64, now: Timestamp) {
        if !self.is_up() {
            self.described.push((question, None));
            return;
        }
        let names = TopicNames::new(&self.settings.hello.shared.prefix, name);
        let command = Command::new("HGETALL").arg(names.hash);
        self.describing.insert(question);
        self.send_later(command, Asked::Describe(question));
        self.pump(now);
    }

    /// Takes the answers to questions about topics; `None` if the engine did not answer.
    pub fn take_described(&mut self) -> Vec<(u64, Option<Described>)> {
        std::mem::take(&mut self.described)
    }

    /// The engine has answered, or refuses to.
    pub(super) fn on_described(&mut self, question: u64, reply: &Reply) {
        self.describing.remove(&question);
        let described = read(reply, self.settings.topic.node);
        self.described.push((question, described));
    }

    /// Nothing that was asked will be answered.
    pub(super) fn forget_questions(&mut self) {
        let questions = std::mem::take(&mut self.describing);
        let unanswered = questions.into_iter().map(|question| (question, None));
        self.described.extend(unanswered);
    }
}

/// Reads the answer to HGETALL, as this `node` sees it.
fn read(reply: &Reply, node: NodeId) -> Option<Described> {
    let own = format!("m{node}");
    let (mut epoch, mut last, mut others) = (None, None, 0);
    for pair in reply.items()?.chunks_exact(2) {
        let [name, value] = pair else { continue };
        match name.bytes().map(|name| &name[..]) {
            Some(b"e") => epoch = value.number(),
            Some(b"n") => last = value.number(),
            Some([b'm', ..]) if name.bytes().is_some_and(|name| *name != own) => {
                // The count, and the time at which it was written.
                let text = value
                    .bytes()
                    .and_then(|text| std::str::from_utf8(text).ok());
                let count = text.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
                others += count.unwrap_or(0);
            }
            Some(_) | None => {}
        }
    }
    let at = epoch.zip(last).map(|(epoch, last)| Place {
        epoch: Epoch(epoch),
        last,
    });
    Some(Described { at, others })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulks(texts: &[&str]) -> Reply {
        let bulk = |text: &&str| Reply::Bulk(text.to_string().into());
        Reply::Array(texts.iter().map(bulk).collect())
    }

    #[test]
    fn members_of_other_nodes_are_added_up() {
        let own = format!("m{}", NodeId(1));
        let reply = bulks(&[
            "e", "7", "n", "42", &own, "5 100", "m0a", "3 100", "m0b", "4 90", "d0a", "99", "m0c",
            "x",
        ]);
        let described = read(&reply, NodeId(1)).unwrap();
        let at = Some(Place {
            epoch: Epoch(7),
            last: 42,
        });
        assert_eq!(described, Described { at, others: 7 });
        let nothing = read(&bulks(&[]), NodeId(1)).unwrap();
        assert_eq!(
            nothing,
            Described {
                at: None,
                others: 0
            }
        );
        assert_eq!(read(&Reply::Nil, NodeId(1)), None);
    }
}
