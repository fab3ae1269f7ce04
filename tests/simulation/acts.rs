//! The actions of clients, and accidents that happen to them.

use crate::peer::{self, Request};
use crate::rng::Rng;
use crate::tally::{Event, Stage};
use crate::world::World;

impl World {
    /// One client acts.
    pub(crate) fn any_peer_acts(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        let id = self.rng.below(self.peers.len());
        if self.peers[id].is_gone() {
            return;
        }
        match self.rng.below(100) {
            0..35 => self.transmit(id),
            35..60 => self.read(id),
            60..90 if self.peers[id].request == Request::Posts => self.post_by_http(id),
            60..90 => self.publish(id),
            90..92 => self.ping(id),
            92 => self.probe(id),
            93..95 => self.resume_reading(id),
            95..97 => self.leave_in_order(id),
            _ => self.trouble(id),
        }
        self.raise(id);
    }

    fn transmit(&mut self, id: usize) {
        let unsent = self.peers[id].unsent_bytes().max(1);
        let most = self.rng.part_of(unsent);
        self.peers[id].transmit(most);
    }

    fn read(&mut self, id: usize) {
        let waiting = self.peers[id].pipe.waiting_for_client().max(1);
        let most = self.rng.part_of(waiting);
        self.peers[id].read(most, &mut self.rng);
        self.note_open(id);
    }

    pub(crate) fn note_open(&mut self, id: usize) {
        if self.peers[id].is_open {
            self.model.open(id, self.step.get());
        }
    }

    fn publish(&mut self, id: usize) {
        let is_busy = self.peers[id].unsent_bytes() > 64 << 10;
        if !self.peers[id].may_speak() || self.peers[id].manners.is_silent || is_busy {
            return;
        }
        for _ in 0..self.rng.within(1..=self.plan.burst) {
            let (is_text, payload) = self.payload();
            let is_compressed = self.peers[id].say_message(is_text, &payload, &mut self.rng);
            let end = self.peers[id].queued_bytes;
            self.tell(|| {
                format!(
                    "client {id} posts {} bytes, compressed: {is_compressed}",
                    payload.len()
                )
            });
            self.model.post(id, end, is_text, payload, self.step.get());
        }
    }

    /// A unique payload, unless it is too short for that.
    pub(crate) fn payload(&mut self) -> (bool, Vec<u8>) {
        let (number, most) = (
            self.model.next_message(),
            self.plan.config.limits.max_message_bytes,
        );
        let rng = &mut self.rng;
        let is_text = !self.plan.is_noisy && rng.percent(50);
        let len = match rng.below(100) {
            0..5 => 0,
            5..10 => rng.within(0..=8),
            10..65 => rng.within(8..=200),
            65..85 => rng.within(8..=2_000),
            85..97 => rng.within(8..=most.min(10_000)),
            _ => rng.within(most / 2..=most),
        };
        // Under `drop`, a message must carry its number, because others are skipped.
        let is_lossy = self.plan.is_lossy();
        let len = if is_lossy { len.max(8) } else { len }.min(most);
        let mut payload = format!("{number:08x}").into_bytes();
        fill(&mut payload, len.max(8), is_text, self.plan.is_noisy, rng);
        if is_text && len > 12 {
            payload[8..12].copy_from_slice("\u{1f980}".as_bytes());
        }
        if is_text && len > 16 && rng.percent(20) {
            // Lines, some of them empty.
            for _ in 0..rng.within(1..=6) {
                let at = rng.within(12..=len - 1);
                payload[at] = rng.pick(b"\n\n\r");
            }
            if rng.percent(30) {
                let at = rng.within(12..=len - 2);
                payload[at..at + 2].copy_from_slice(b"\r\n");
            }
        }
        payload.truncate(len);
        (is_text, payload)
    }

    fn ping(&mut self, id: usize) {
        if !self.peers[id].may_speak() {
            return;
        }
        // Never the same twice.
        let number = self.peers[id].queued_bytes as u32;
        let bytes = peer::frame(0x89, &number.to_be_bytes(), &mut self.rng);
        self.peers[id].say(&bytes);
        let end = self.peers[id].queued_bytes;
        self.model.ping(id, end, number);
    }

    /// The client asks where it is.
    fn probe(&mut self, id: usize) {
        if !self.peers[id].may_speak() || !self.peers[id].wish.has_words {
            return;
        }
        self.peers[id].say_message(true, b"\0", &mut self.rng);
        let end = self.peers[id].queued_bytes;
        self.model.probe(id, end);
        self.tally.note(Event::Probe);
    }

    fn resume_reading(&mut self, id: usize) {
        let peer = &mut self.peers[id];
        if !peer.is_reading && !peer.never_reads {
            peer.is_reading = true;
            self.tally.note(Event::Resumption);
        }
    }

    fn leave_in_order(&mut self, id: usize) {
        if self.rng.percent(30) {
            self.close_in_order(id, self.stage(id));
        }
    }

    fn close_in_order(&mut self, id: usize, stage: Stage) {
        if !self.peers[id].may_speak() {
            return;
        }
        let code: u16 = self.rng.pick(&[1000, 1001, 3000, 4999]);
        let bytes = peer::frame(0x88, &code.to_be_bytes(), &mut self.rng);
        self.tell(|| format!("client {id} closes with {code}: {stage:?}"));
        self.tally.note(Event::Goodbye(stage));
        self.peers[id].say(&bytes);
        self.peers[id].has_said_goodbye = true;
    }

    fn trouble(&mut self, id: usize) {
        if !self.rng.percent(self.plan.trouble) {
            return;
        }
        let kind = self.rng.below(3);
        self.tell(|| format!("client {id} makes trouble of kind {kind}"));
        match kind {
            0 => self.peers[id].has_vanished = true,
            1 => self.peers[id].shuts_when_sent = true,
            _ if self.peers[id].request == Request::Events && !self.peers[id].is_gone() => {
                // Nothing that a reader of events says means anything.
                let junk = vec![b'x'; self.rng.within(1..=200)];
                self.peers[id].say(&junk);
                self.tally.note(Event::Junk);
            }
            _ if self.peers[id].may_speak() => {
                let most = self.plan.config.limits.max_message_bytes;
                let bytes = self.peers[id].offence(most, &mut self.rng);
                self.peers[id].say(&bytes);
                self.peers[id].has_said_goodbye = true;
                self.peers[id].offended_at = Some(self.now);
            }
            _ => {}
        }
    }

    /// Accidents that may happen in any step.
    pub(crate) fn mishaps(&mut self) {
        if self.rng.below(1_000) < self.plan.resets {
            self.reset_somebody();
        }
        if self.rng.below(1_000) < self.plan.half_closes {
            self.half_close_somebody();
        }
        if self.rng.below(1_000) < self.plan.goodbyes
            && let Some((id, stage)) = self.any_victim()
        {
            self.close_in_order(id, stage);
        }
        if self.rng.below(1_000) < self.plan.stalls {
            self.stall_somebody();
        }
        if self.rng.below(1_000) < self.plan.pauses {
            self.pause();
        }
    }

    /// Resets a connection. Returns whether there was one.
    pub(crate) fn reset_somebody(&mut self) -> bool {
        let Some((id, stage)) = self.any_victim() else {
            return false;
        };
        self.tell(|| format!("client {id} resets its connection: {stage:?}"));
        self.tally.note(Event::Reset(stage));
        self.peers[id].pipe.reset_by_client();
        self.raise(id);
        true
    }

    pub(crate) fn half_close_somebody(&mut self) {
        let Some((id, stage)) = self.any_victim() else {
            return;
        };
        if self.peers[id].pipe.is_shut_by_client() {
            return;
        }
        self.tell(|| format!("client {id} shuts its side: {stage:?}"));
        self.tally.note(Event::HalfClose(stage));
        self.peers[id].shut_at_once();
        self.raise(id);
    }

    fn stall_somebody(&mut self) {
        let Some((id, _)) = self.any_victim() else {
            return;
        };
        let is_for_ever = self.rng.percent(self.plan.stalls_for_ever);
        let peer = &mut self.peers[id];
        if !peer.is_reading {
            return;
        }
        peer.is_reading = false;
        peer.never_reads = is_for_ever;
        self.tell(|| format!("client {id} stops to read, for ever: {is_for_ever}"));
        self.tally.note(if is_for_ever {
            Event::StallForEver
        } else {
            Event::Stall
        });
    }

    /// A client for an accident: any, or one in a random stage, because most stages are short.
    fn any_victim(&mut self) -> Option<(usize, Stage)> {
        let stages: Vec<(usize, Stage)> = self
            .peers
            .iter()
            .filter(|peer| !peer.is_gone())
            .map(|peer| (peer.id, self.stage(peer.id)))
            .collect();
        let wanted = self.rng.pick(&Stage::ALL);
        let mut at_stage = stages.iter().filter(|(_, stage)| *stage == wanted);
        let of_stage = at_stage.next().copied();
        match of_stage {
            Some(victim) if self.rng.percent(80) => Some(victim),
            _ if stages.is_empty() => None,
            _ => Some(self.rng.pick(&stages)),
        }
    }

    /// The stage of the client.
    pub(crate) fn stage(&self, id: usize) -> Stage {
        let peer = &self.peers[id];
        let model = &self.model;
        if peer.is_moving {
            Stage::Moving
        } else if peer.key.is_none() {
            Stage::Unaccepted
        } else if !peer.counterpart.is_greeted() {
            Stage::Greeting
        } else if model.farewell(id).is_some() && !peer.has_said_goodbye {
            Stage::CloseAwaited
        } else if peer.has_said_goodbye {
            Stage::Leaving
        } else if peer.transport.held_back_bytes() > 0 {
            Stage::HeldBack
        } else if peer.stream.is_torn() {
            Stage::MidFrame
        } else if peer.request == Request::Posts {
            Stage::Posting
        } else if !model.has_read(id, peer.request_bytes) {
            Stage::Upgrading
        } else if !model.has_joined(id) {
            Stage::Joining
        } else if !peer.is_open {
            Stage::Answered
        } else if model.is_owed(id) {
            Stage::Owed
        } else if peer.is_speaking() {
            Stage::Speaking
        } else {
            Stage::Idle
        }
    }

    /// Lists the client with its host, if it has something to report.
    pub(crate) fn raise(&mut self, id: usize) {
        let peer = &mut self.peers[id];
        if peer.key.is_some() && peer.pipe.has_news() && !peer.is_listed {
            peer.is_listed = true;
            self.hosts[peer.host].events.push_back(id);
        }
    }
}

/// Words that messages are made of. A client that inflates with the wrong window finds another word in the place of the
/// right one.
const WORDS: [&[u8; 6]; 12] = [
    b"price:", b"volume", b"symbol", b"trade=", b"buyer.", b"seller", b"amount", b"offer#",
    b"bid_at", b"ask_at", b"closed", b"opened",
];

/// Fills a payload up to `len` bytes: with words, or with bytes that do not shrink.
fn fill(payload: &mut Vec<u8>, len: usize, is_text: bool, is_noisy: bool, rng: &mut Rng) {
    while payload.len() < len {
        if is_noisy {
            payload.extend(rng.next().to_be_bytes());
        } else {
            let word = rng.pick(&WORDS);
            payload.extend(word.map(|byte| if is_text { byte } else { byte | 0x80 }));
        }
    }
    payload.truncate(len);
}
