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
            Request::Unsubscribe => {
                self.change_subscription(slot, false, Confirmation::Unsubscribed);
                self.say_empty(slot);
            }
            Request::Sync { base } => self.ask_sync(of, base),
            Request::Publish { epoch, seq } => {
                let asked = Asked::Publish { of, epoch, seq };
                self.requests.push(Urgency::First, None, asked);
            }
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
                self.counts.finds += 1;
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
            Request::Audit => self.ask_audit(of),
            Request::Reset => {
                let command = Command::new("DEL").arg(names.hash.clone());
                let command = command.arg(names.stream.clone());
                self.send_later(command, Asked::Nothing);
            }
            Request::Suspect => self.ask_still(),
        }
    }

    fn ask_sync(&mut self, of: Of, base: u64) {
        self.counts.syncs += 1;
        if let Some(command) = self.sync_command(of.key.slot, base) {
            self.send_later(command, Asked::Sync(of));
        }
    }

    /// Says that no member is left. Our last number stays in the engine until it has not heard of us for `topic_ttl`. An order to
    /// remove it might come late, from a connection that stalls, when the topic is back and has published.
    fn say_empty(&mut self, slot: usize) {
        if let Some(command) = self.sync_command(slot, 0) {
            self.send_later(command, Asked::Nothing);
        }
    }

    /// The call of SYNC; `None` if the link is down, when no topic asks.
    fn sync_command(&mut self, slot: usize, base: u64) -> Option<Command> {
        let entry = &self.entries[slot];
        let settings = &self.settings.topic;
        let call = SyncCall {
            server: self.link.identity()?,
            fresh: Epoch::from_bits(self.chance.next()),
            node: settings.node,
            base,
            ttl_secs: settings.topic_ttl.as_secs().max(1),
            members: entry.topic.members(),
            // A look at all nodes costs; one in sixteen is enough.
            sweeps: self.chance.below(16) == 0,
        };
        Some(self.loaded.sync(&entry.names, &call))
    }

    /// The command that publishes a batch. `None` if the batch is not on its way any more.
    pub(super) fn packed(&mut self, asked: Asked) -> Option<Command> {
        let Asked::Publish { of, epoch, seq } = asked else {
            return None;
        };
        let entry = self.entries.get(of.key.slot)?;
        let is_it = entry.generation == of.key.generation;
        let offer = entry
            .topic
            .on_way()
            .filter(|offer| is_it && offer.seq == seq)?;
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
        Some(self.loaded.publish(&entry.names, call))
    }

    fn ask_audit(&mut self, of: Of) {
        self.counts.audits += 1;
        let command = Command::new("HMGET").arg(self.entries[of.key.slot].names.hash.clone());
        self.send_later(command.arg("e").arg("n"), Asked::Audit(of));
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
        self.requests.push(Urgency::First, Some(command), asked);
    }

    pub(super) fn send_later(&mut self, command: Command, asked: Asked) {
        self.requests.push(Urgency::Later, Some(command), asked);
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
                self.probed_at = None;
                self.forget_questions();
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
