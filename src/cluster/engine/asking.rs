//! From what topics and the link ask to commands.

use bytes::Bytes;

use super::asked::{Asked, Confirmation, Of, SubscriptionChange, Token, TopicKey};
use super::{Action, Engine};
use crate::cluster::batch::{self, Head};
use crate::cluster::command::Command;
use crate::cluster::link::Lane;
use crate::cluster::place::{Epoch, MAX_NUMBER};
use crate::cluster::requests::Urgency;
use crate::cluster::scripts::{self, PublishCall, SCRIPTS, SyncCall};
use crate::cluster::topic::effect::{Effect, Request};
use crate::cluster::topic::parcel::Parcel;

/// The most names in one SUBSCRIBE.
const MAX_NAMES: usize = 512;

impl<T: Parcel> Engine<T> {
    /// Does what a topic asks; the rest is for its owner.
    pub(super) fn perform(&mut self, key: TopicKey, effect: Effect<T>) {
        match effect {
            Effect::Ask { request, round } => self.ask(Of { key, round }, request),
            effect => self.events.push((key, effect)),
        }
    }

    fn ask(&mut self, of: Of, request: Request) {
        let slot = of.key.slot;
        let names = &self.entries[slot].names;
        match request {
            Request::Subscribe => {
                let round = of.round;
                self.change_subscription(slot, true, Confirmation::Subscribed { round });
            }
            Request::Unsubscribe { forgets } => {
                let hash = names.hash.clone();
                self.change_subscription(slot, false, Confirmation::Unsubscribed);
                if forgets {
                    let node = self.settings.topic.node;
                    let command = Command::new("HDEL").arg(hash);
                    let command = command.arg(format!("d{node}")).arg(format!("m{node}"));
                    self.send_later(command, Asked::Nothing);
                }
            }
            Request::Sync { base } => self.ask_sync(of, base),
            Request::Publish { epoch, seq } => self.ask_publish(of, epoch, seq),
            Request::Fence => {
                self.counts.fences += 1;
                self.publish_token(Some(of));
            }
            Request::Fill { from, to } => {
                self.counts.fills += 1;
                let command = range("XRANGE", &names.stream, from, Some(to));
                self.send_later(command, Asked::Fill(of));
            }
            Request::Find { client, number, to } => {
                let command = range("XREVRANGE", &names.stream, number, None);
                let command = command.arg("COUNT").number(1);
                let asked = Asked::FindFirst {
                    of,
                    client,
                    number,
                    to,
                };
                self.send_later(command, asked);
            }
            Request::Audit => self.ask_audit(slot),
            Request::Reset => {
                let command = Command::new("DEL").arg(names.hash.clone());
                let command = command.arg(names.stream.clone());
                self.send_later(command, Asked::Nothing);
            }
            Request::Suspect => self.ask_still(),
        }
    }

    fn ask_sync(&mut self, of: Of, base: u64) {
        let entry = &self.entries[of.key.slot];
        // A topic asks only while the link is up.
        let Some(server) = self.link.identity() else {
            return;
        };
        self.counts.syncs += 1;
        let settings = &self.settings.topic;
        let call = SyncCall {
            server,
            fresh: Epoch::from_bits(self.chance.next()),
            node: settings.node,
            base,
            ttl_secs: settings.topic_ttl.as_secs().max(1),
            members: entry.topic.members(),
            // A look at all nodes costs; one renewal in sixteen is enough.
            sweeps: self.chance.below(16) == 0,
        };
        let command = self.loaded.sync(&entry.names, &call);
        self.send_later(command, Asked::Sync(of));
    }

    fn ask_publish(&mut self, of: Of, epoch: Epoch, seq: u64) {
        let entry = &self.entries[of.key.slot];
        let Some(offer) = entry.topic.on_way() else {
            return;
        };
        debug_assert_eq!(offer.seq, seq, "the batch on its way is the one to publish");
        self.counts.published += 1;
        let head = Head {
            version: self.peers.version(),
            count: offer.count,
            node: self.settings.topic.node,
            seq,
            epoch,
        };
        let pieces = offer.parcels.iter().flat_map(Parcel::pieces);
        let call = PublishCall {
            head,
            packed: batch::pack(&head, pieces),
            keep: scripts::keep(self.settings.history_bytes, offer.len_bytes),
            history_ttl_secs: self.settings.history_ttl.as_secs().max(1),
        };
        let command = self.loaded.publish(&entry.names, call);
        self.send_first(command, Asked::Publish(of));
    }

    pub(super) fn ask_audit(&mut self, slot: usize) {
        self.counts.audits += 1;
        let entry = &self.entries[slot];
        let command = Command::new("HMGET").arg(entry.names.hash.clone());
        let (key, round) = (self.key_of(slot), entry.topic.round());
        let asked = Asked::Audit(Of { key, round });
        self.send_later(command.arg("e").arg("n"), asked);
    }

    /// Asks for all entries of a client, from the one that was found.
    pub(super) fn ask_all(&mut self, of: Of, client: u64, (from, to): (u64, u64)) {
        let Some(entry) = self.entries.get(of.key.slot) else {
            return;
        };
        let command = range("XRANGE", &entry.names.stream, from, Some(to));
        self.send_later(command, Asked::FindAll { of, client });
    }

    /// Asks what is needed before a connection is usable.
    pub(super) fn greet(&mut self, lane: Lane) {
        match lane {
            Lane::Publisher => {
                self.send_first(Command::new("INFO"), Asked::Info);
                self.load();
            }
            Lane::Subscriber => {
                self.actions.push(Action::Send(lane, Command::new("INFO")));
                let command = Command::new("SUBSCRIBE").arg(self.own.clone());
                let command = command.arg(self.hello.clone());
                self.actions.push(Action::Send(lane, command));
            }
        }
    }

    /// Loads all scripts, unless that is under way.
    pub(super) fn load(&mut self) {
        if self.loading > 0 {
            return;
        }
        self.loading = SCRIPTS.len();
        for script in SCRIPTS {
            let command = Command::new("SCRIPT").arg("LOAD").arg(script.text());
            self.send_first(command, Asked::Load(script));
        }
    }

    /// Asks whether the server is still what it was. If nothing came back lately, a write shows that it takes writes, and that S
    /// hears of them.
    pub(super) fn probe(&mut self) {
        self.ask_still();
        if !std::mem::take(&mut self.is_confirmed) {
            self.publish_token(None);
        }
    }

    fn ask_still(&mut self) {
        let command = Command::new("INFO").arg("replication");
        self.send_first(command, Asked::Still);
    }

    pub(super) fn publish_token(&mut self, fence: Option<Of>) {
        self.last_token = (self.last_token + 1) % MAX_NUMBER;
        let token = self.last_token;
        let is_published = false;
        self.tokens.insert(
            token,
            Token {
                fence,
                is_published,
            },
        );
        let command = self.loaded.probe(&self.own, token);
        self.send_first(command, Asked::Token(token));
    }

    pub(super) fn send_first(&mut self, command: Command, asked: Asked) {
        self.requests.push(Urgency::First, command, asked);
    }

    fn send_later(&mut self, command: Command, asked: Asked) {
        self.requests.push(Urgency::Later, command, asked);
    }

    fn change_subscription(&mut self, slot: usize, is_on: bool, confirmation: Confirmation) {
        let entry = &mut self.entries[slot];
        entry.confirmations.push_back(confirmation);
        self.owed += 1;
        let channel = entry.names.channel.clone();
        self.subscriptions
            .push(SubscriptionChange { is_on, channel });
    }

    /// Joins changes of one kind into commands.
    pub(super) fn flush_subscriptions(&mut self) {
        let mut changes = std::mem::take(&mut self.subscriptions)
            .into_iter()
            .peekable();
        while let Some(change) = changes.next() {
            let is_on = change.is_on;
            let name = if is_on { "SUBSCRIBE" } else { "UNSUBSCRIBE" };
            let mut command = Command::new(name).arg(change.channel);
            while command.args.len() <= MAX_NAMES
                && let Some(next) = changes.next_if(|next| next.is_on == is_on)
            {
                command = command.arg(next.channel);
            }
            self.actions.push(Action::Send(Lane::Subscriber, command));
        }
    }

    /// A connection is lost: nothing that was asked on it will be answered.
    pub(super) fn forget_connection(&mut self, lane: Lane) {
        self.tokens.clear();
        self.tokens_owed = 0;
        match lane {
            Lane::Publisher => {
                self.requests.clear();
                self.loading = 0;
            }
            Lane::Subscriber => {
                self.subscriptions.clear();
                self.owed = 0;
                for (_, entry) in &mut self.entries {
                    entry.confirmations.clear();
                }
            }
        }
    }
}

/// A range of a stream, by numbers. Backwards it begins at `from`, and has no other end.
fn range(name: &'static str, stream: &Bytes, from: u64, to: Option<u64>) -> Command {
    let command = Command::new(name).arg(stream.clone()).number(from);
    match to {
        Some(to) => command.number(to),
        None => command.arg("-"),
    }
}
