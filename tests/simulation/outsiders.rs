//! Messages from outside: of requests, and not of members. A shard counts their bytes until the owner of the topic says that they
//! are numbered.
//!
//! The account of a shard is not visible. So the world keeps its own. At rest it fills the windows to the byte, without
//! requests.

use fanwire::internals::relay::{NotTaken, Shard};
use fanwire::internals::ws::{MessageKind, frame_len};

use crate::world::World;

/// All shards together take `max_lag_bytes` divided by this before outsiders of a topic have to wait.
const WINDOW_SHARE: usize = 4;

impl World {
    fn offer_from_outside(
        &mut self,
        host: usize,
        shard: &mut Shard,
        topic: usize,
        is_text: bool,
        payload: Vec<u8>,
    ) -> Result<(), NotTaken> {
        let kind = if is_text {
            MessageKind::Text
        } else {
            MessageKind::Binary
        };
        let name = self.plan.topics[topic].into();
        let taken = shard.publish_from_outside(&name, kind, &payload);
        self.tell(|| format!("an outsider publishes to topic {topic} on shard {host}: {taken:?}"));
        let is_full = self.outside_bytes[host][topic] > self.window_bytes();
        // A shard that owns the topic tells itself what is numbered, and nobody sees that.
        let is_known = !self.owns(host, topic);
        match taken {
            Ok(()) => {
                assert!(!is_known || !is_full, "too much of outsiders is taken");
                if is_known {
                    self.outside_bytes[host][topic] += frame_len(payload.len());
                }
                let step = self.step.get();
                self.model
                    .accept_outside(host, topic, is_text, payload, step);
            }
            Err(NotTaken::Waits) => {
                assert!(!is_known || is_full, "outsiders wait for no reason");
            }
            Err(NotTaken::Draining) => {
                assert!(shard.is_draining() || self.hosts[host].is_cut);
            }
        }
        taken
    }

    /// The topic's owner tells the host that so many bytes of its outsiders are numbered.
    pub(crate) fn on_numbered(&mut self, host: usize, topic: usize, bytes: u64) {
        let on_their_way = &mut self.outside_bytes[host][topic];
        let left = on_their_way.checked_sub(bytes as usize);
        *on_their_way = left.expect("bytes are numbered once");
    }

    /// Once nothing is on its way, all bytes of outsiders are numbered, and their shards know it.
    pub(crate) fn check_outsiders(&self) {
        let accounts = self.outside_bytes.iter().flatten();
        assert_eq!(
            accounts.sum::<usize>(),
            0,
            "bytes of outsiders are on their way for ever"
        );
    }

    /// The bytes that a shard takes before outsiders of a topic have to wait.
    fn window_bytes(&self) -> usize {
        self.plan.config.slow_consumer.max_lag_bytes / WINDOW_SHARE / self.plan.shards
    }

    pub(crate) fn owns(&self, host: usize, topic: usize) -> bool {
        self.router.owner(self.plan.topics[topic]).index() == host
    }

    /// Outsiders fill every window of a world at rest, to the byte. If a shard still counted only one byte that is numbered,
    /// it would not take all of that.
    pub(crate) fn fill_windows(&mut self) {
        if self.plan.posters == 0 {
            return;
        }
        self.is_settling = true;
        for host in 0..self.hosts.len() {
            let mut turn = self.hosts[host].take_turn();
            for topic in 0..self.plan.topics.len() {
                self.fill_window(host, &mut turn.shard, topic);
            }
            self.hosts[host].put_turn_back(turn);
            self.turn(host);
        }
        self.outwait_the_stuck();
    }

    fn fill_window(&mut self, host: usize, shard: &mut Shard, topic: usize) {
        let mut left = self.window_bytes();
        while left > 0 {
            let payload = self.fitting_payload(left);
            left -= frame_len(payload.len());
            let taken = self.offer_from_outside(host, shard, topic, false, payload);
            assert_eq!(taken, Ok(()), "a window is full of what is numbered");
        }
        for full in [Ok(()), Err(NotTaken::Waits)] {
            let payload = self.numbered_payload(self.least_payload());
            let taken = self.offer_from_outside(host, shard, topic, false, payload);
            assert_eq!(taken, full, "one message more than the window is taken");
        }
    }

    /// The longest payload whose frame fits into `room` bytes, and leaves no rest that is too short for a frame.
    fn fitting_payload(&self, room: usize) -> Vec<u8> {
        let least = self.least_payload();
        let most = room.min(self.plan.config.limits.max_message_bytes);
        let fits = |&len: &usize| {
            let rest = room.checked_sub(frame_len(len));
            rest.is_some_and(|rest| rest == 0 || rest >= frame_len(least))
        };
        let len = (least..=most).rev().find(fits);
        self.numbered_payload(len.expect("a window has room for a message"))
    }

    /// Under `drop`, a message must carry its number, because others are skipped.
    fn least_payload(&self) -> usize {
        let is_lossy = self.plan.is_lossy();
        if is_lossy { 8 } else { 0 }
    }

    fn numbered_payload(&self, len: usize) -> Vec<u8> {
        let mut payload = format!("{:08x}", self.model.next_message()).into_bytes();
        payload.resize(len, 0xee);
        payload
    }
}
