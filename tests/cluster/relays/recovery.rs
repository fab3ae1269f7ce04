//! The end of a world: all is mended, and every promise is judged once more.

use std::time::Duration;

use fanwire::internals::cluster::{Epoch, Place, TopicNames};

use super::world::{TOPICS, World};
use crate::faults::{self, Lasting};
use crate::plan::PREFIX;
use crate::server::Planted;

/// The longest time until all is well again, once nothing goes wrong any more.
const RECOVERY: Duration = Duration::from_mins(3);

impl World {
    /// Nothing goes wrong any more. A demotion still takes its time.
    pub(super) fn mend(&mut self) {
        self.tell(|| "    all is mended".into());
        for at in 0..self.readers.len() {
            self.set_room(at, usize::MAX);
        }
        for (at, lasting) in std::mem::take(&mut self.lasting) {
            match lasting {
                Lasting::Demoted(_) => self.lasting.push((at, lasting)),
                Lasting::OutOfMemory | Lasting::Cut | Lasting::Forsaken(_) => {
                    faults::end(&mut self.fleet, lasting);
                }
            }
        }
    }

    pub(super) fn recover(&mut self, when: &str, is_over: fn(&mut World) -> Result<(), String>) {
        let until = self.now + RECOVERY;
        loop {
            self.step += 1;
            self.end_lasting();
            self.settle();
            match is_over(self) {
                Ok(()) if self.lasting.is_empty() => return,
                Ok(()) => {}
                Err(why) => assert!(self.now < until, "{when}: {why}"),
            }
            let now = self.now;
            let wakes = self
                .relays
                .iter_mut()
                .filter_map(|relay| relay.next_wake(now));
            let wake = wakes.min().map_or(Duration::ZERO, |at| at.since(now));
            let least = Duration::from_millis(1);
            self.advance(wake.clamp(least, Duration::from_millis(500)));
        }
    }

    /// Serves and reads all that there is.
    fn settle(&mut self) {
        loop {
            self.rest();
            let links = self.fleet.to_serve(self.now);
            for &link in &links {
                let planted = Planted::Nothing;
                self.fleet.serve(link, &mut self.truth, self.now, planted);
            }
            let ready = self.ready();
            for &(relay, shard, lane) in &ready {
                if self.is_ready(relay, shard, lane) {
                    self.read(relay, shard, lane);
                }
            }
            self.fleet.tidy();
            if links.is_empty() && ready.is_empty() {
                return;
            }
        }
    }

    /// Every client is where the engine is, and has heard what it said.
    pub(super) fn is_well(&mut self) -> Result<(), String> {
        for relay in &self.relays {
            for turn in &relay.turns {
                if !turn.shard.cluster().expect("it has engines").is_up() {
                    return Err("a link is down".into());
                }
            }
        }
        for reader in &self.readers {
            let number = reader.number;
            let Some(session) = reader.session() else {
                return Err(format!("client {number} waits"));
            };
            if !reader.unheard.is_empty() {
                return Err(format!("client {number} never heard {:?}", reader.unheard));
            }
            let hash = TopicNames::new(PREFIX, &reader.topic).hash;
            let server = &self.fleet.servers[self.fleet.address];
            let at = Place {
                epoch: Epoch(server.number(&hash, "e")),
                last: server.number(&hash, "n"),
            };
            if !session.may_be_at(at, &self.truth) && at.last > 0 {
                return Err(format!(
                    "client {number} is at {}, the engine at {at}",
                    session.place
                ));
            }
        }
        Ok(())
    }

    /// No relay has a client or a topic, and no memory is counted.
    pub(super) fn is_gone(&mut self) -> Result<(), String> {
        for (number, relay) in self.relays.iter_mut().enumerate() {
            for (outside, turn) in relay.outsides.iter_mut().zip(&relay.turns) {
                outside.sockets.retain(|_, socket| !socket.is_closed);
                let shard = &turn.shard;
                if !shard.is_empty() {
                    return Err(format!("relay {number} has {} clients", shard.len()));
                }
                let cluster = shard.cluster().expect("it has engines");
                if let Some((name, topic)) = cluster.engines()[0].topics().next() {
                    return Err(format!("relay {number} still has {name}: {topic:?}"));
                }
                if cluster.pending_bytes() != 0 {
                    return Err(format!("relay {number} counts memory"));
                }
                for topic in TOPICS {
                    if shard.next_number(topic).is_some() {
                        return Err(format!("relay {number} has an owner of {topic}"));
                    }
                }
                if !shard.is_at_rest() {
                    return Err(format!("relay {number} has bytes on their way"));
                }
            }
        }
        Ok(())
    }
}
