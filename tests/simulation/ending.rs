//! The end of a world: it comes to rest, and then ends in one of several ways.

use fanwire::internals::relay::Envelope;
use fanwire::server::Stat;

use crate::host::{CONGESTION_RETRY, Host};
use crate::peer::{self, Peer};
use crate::plan::{EndAt, Ending};
use crate::tally::{Event, Moment, Stage};
use crate::world::{Parcel, World};

/// The most rounds before a world that does not come to rest counts as broken.
const ROUNDS_TO_REST: usize = 200_000;

/// The most deadlines to wait for before a client that does not leave counts as forgotten.
const DEADLINES_TO_EMPTY: usize = 2_000;

impl World {
    /// All remaining clients read and write again. Vanished ones are detected.
    pub(crate) fn calm(&mut self) {
        self.tell(|| "everybody reads".into());
        for id in 0..self.peers.len() {
            self.peers[id].is_reading = !self.peers[id].never_reads;
            if self.peers[id].has_vanished {
                self.peers[id].pipe.reset_by_client();
                self.raise(id);
            }
        }
    }

    /// Lets everybody act until nobody can.
    pub(crate) fn settle(&mut self) {
        self.is_settling = true;
        for _ in 0..ROUNDS_TO_REST {
            self.step.set(self.step.get() + 1);
            if !self.everybody_acts() {
                self.is_settling = false;
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn everybody_acts(&mut self) -> bool {
        let mut has_acted = false;
        for id in 0..self.peers.len() {
            has_acted |= self.peers[id].read(usize::MAX, &mut self.rng);
            has_acted |= self.peers[id].transmit(usize::MAX);
            self.note_open(id);
            self.raise(id);
        }
        for host in 0..self.hosts.len() {
            if self.is_awake(host) {
                self.turn(host);
                has_acted = true;
            }
        }
        has_acted || self.await_next_move()
    }

    /// If nobody can act because messages wait for the next fan-out of their topic, clients for room in the inboxes, or a
    /// shutdown for the next Close, the clock moves to that. It moves to no deadline, because a timer would heal a wake that was
    /// forgotten.
    fn await_next_move(&mut self) -> bool {
        let fan_outs = self.hosts.iter().map(|host| host.shard().next_fan_out());
        let fan_out = fan_outs.flatten().min();
        let waiting = self.hosts.iter().filter(|host| host.waits_for_room());
        let retries = waiting.map(|host| {
            let at = host
                .next_timeout()
                .filter(|&at| at <= self.now + CONGESTION_RETRY);
            at.expect("a host looks again soon whether the inboxes have room")
        });
        let retry = retries.min();
        let closes = self.hosts.iter().map(|host| host.shard().next_close());
        let close = closes.flatten().min();
        let Some(due) = [fan_out, retry, close].into_iter().flatten().min() else {
            return false;
        };
        self.tally.note(if Some(due) == retry {
            Event::RetryAwaited
        } else if Some(due) == fan_out {
            Event::FanOutAwaited
        } else {
            Event::CloseAwaited
        });
        assert!(due > self.now, "a host sleeps, and its clients wait for it");
        self.now = due;
        true
    }

    /// Waits until clients that never read are disconnected. With the clock stopped they would block everybody.
    pub(crate) fn outwait_the_stuck(&mut self) {
        self.settle();
        for _ in 0..DEADLINES_TO_EMPTY {
            let lagging = |host: &Host| host.value(Stat::MembersLagging);
            if self.hosts.iter().map(lagging).sum::<u64>() == 0 {
                return;
            }
            self.tally.note(Event::Outwaited);
            let next = self.next_timeout().expect("a stuck client has a deadline");
            self.now = self.now.max(next);
            self.settle();
        }
        panic!("a stuck client is not seen off");
    }

    /// Whether the end begins now, if it begins in the middle of other events.
    pub(crate) fn is_time(&self, end: EndAt) -> bool {
        self.step.get() >= end.step && self.is_moment(end.moment)
    }

    /// Whether this is happening.
    fn is_moment(&self, moment: Moment) -> bool {
        let is_at = |stage: Stage| self.there().any(|peer| self.stage(peer.id) == stage);
        match moment {
            Moment::Any => true,
            Moment::Upgrade => is_at(Stage::Upgrading) || is_at(Stage::Greeting),
            Moment::Transfer => is_at(Stage::Moving),
            Moment::Join => self.envelopes().any(is_of_a_join),
            Moment::Hold => {
                let holds = |host: &Host| host.value(Stat::TopicsHeld) > 0;
                self.envelopes().any(is_of_a_hold) || self.hosts.iter().any(holds)
            }
            Moment::Messages => self.envelopes().any(|envelope| envelope.weight_bytes() > 0),
            Moment::Wait => self
                .hosts
                .iter()
                .any(|host| host.value(Stat::CoalescingBytes) > 0),
            Moment::HeldBack => is_at(Stage::HeldBack),
            Moment::MidFrame => self.there().any(|peer| peer.stream.is_torn()),
            Moment::CloseAwaited => is_at(Stage::CloseAwaited),
            Moment::Stall => self.there().any(|peer| !peer.is_reading),
            Moment::Pause => (0..self.hosts.len()).any(|host| self.is_paused(host)),
        }
    }

    /// Envelopes on their way between shards.
    fn envelopes(&self) -> impl Iterator<Item = &Envelope> {
        let parcels = self.links.iter().flatten().flatten();
        parcels.filter_map(|parcel| match parcel {
            Parcel::Envelope { envelope, .. } => Some(envelope),
            Parcel::Client { .. } => None,
        })
    }

    fn there(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| !peer.is_gone())
    }

    fn note_moments(&mut self, event: fn(Moment) -> Event) {
        for moment in Moment::ALL {
            if self.is_moment(moment) {
                self.tally.note(event(moment));
            }
        }
    }

    pub(crate) fn end(&mut self) {
        let ending = self.plan.ending;
        self.tell(|| format!("the end: {ending:?}"));
        match ending {
            Ending::Drain => {
                self.begin_drain();
                // In a spread, others go on for long, and are closed with messages on their way.
                let is_at_once = self.plan.config.shutdown.spread.is_zero();
                self.steps_on(if is_at_once { 60 } else { 600 });
                self.calm();
                self.settle();
                self.check_polite_are_gone();
                self.wait_for_deadlines();
                self.cut_the_rude();
            }
            Ending::DrainThenCut => {
                self.begin_drain();
                let most = self.plan.end_at.map_or(60, |end| end.steps_to_cut);
                self.steps_on(most);
                self.tally.note(Event::CutMidDrain);
                self.cut();
            }
            Ending::Cut => self.cut(),
            Ending::Leave => {
                self.everybody_leaves();
                self.calm();
                self.settle();
                self.check_polite_are_gone();
                self.wait_for_deadlines();
            }
        }
    }

    fn begin_drain(&mut self) {
        self.tell(|| "the drain begins".into());
        self.note_moments(Event::Drain);
        self.is_draining = true;
        for host in &mut self.hosts {
            host.drain_is_due = true;
        }
    }

    /// Continues as before for up to `most` steps.
    fn steps_on(&mut self, most: usize) {
        for _ in 0..self.rng.within(0..=most) {
            self.step();
        }
    }

    fn cut(&mut self) {
        self.tell(|| "everything is cut".into());
        self.note_moments(Event::Cut);
        self.is_cut = true;
        for host in &mut self.hosts {
            host.cut_is_due = true;
        }
        // Each host does it in its own time.
        self.steps_on(20);
        self.calm();
        self.settle();
    }

    fn everybody_leaves(&mut self) {
        for id in 0..self.peers.len() {
            match self.rng.below(3) {
                0 if self.peers[id].may_speak() => {
                    let bytes = peer::frame(0x88, &1000u16.to_be_bytes(), &mut self.rng);
                    self.peers[id].say(&bytes);
                    self.peers[id].has_said_goodbye = true;
                }
                1 if !self.peers[id].is_gone() => self.peers[id].pipe.reset_by_client(),
                _ => self.peers[id].shuts_when_sent = true,
            }
            self.raise(id);
        }
    }

    fn wait_for_deadlines(&mut self) {
        for _ in 0..DEADLINES_TO_EMPTY {
            // In a drain, a client that does not answer its Close has no deadline.
            let is_quiet = |host: &Host| host.shard().next_deadline().is_none();
            if self.hosts.iter().all(is_quiet) {
                return;
            }
            let next = self.next_timeout().expect("a host sleeps until a deadline");
            self.now = self.now.max(next);
            self.settle();
        }
        panic!("somebody stays for ever");
    }

    /// Clients that answer no Close are cut in the end, and no others.
    fn cut_the_rude(&mut self) {
        for peer in self.peers.iter().filter(|peer| self.is_connected(peer)) {
            assert!(
                !peer.manners.answers_close || peer.never_reads,
                "client {} answers and is not seen off",
                peer.id
            );
        }
        if self.hosts.iter().any(|host| !host.shard().is_empty()) {
            self.cut();
        }
    }
}

fn is_of_a_join(envelope: &Envelope) -> bool {
    matches!(
        envelope,
        Envelope::Subscribe { .. } | Envelope::Subscribed { .. }
    )
}

fn is_of_a_hold(envelope: &Envelope) -> bool {
    matches!(
        envelope,
        Envelope::Hold { .. } | Envelope::Release { .. } | Envelope::Held { .. }
    )
}
