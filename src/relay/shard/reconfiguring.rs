//! Other settings, while the shard runs.
//!
//! The host hands them over as one value, between two steps of a turn. So each message and each request is judged by one
//! configuration as a whole. A topic keeps its own settings for its life, and the next one has the new ones. The table in
//! `docs/operations.md` says what each key does to those who are connected.
//!
//! All of this costs time with the number of clients and topics. It happens only if a value has changed that needs it.

use super::{Settings, Shard};
use crate::ids::ClientKey;
use crate::relay::policy::senders::Senders;

impl Shard {
    /// Puts other settings in force. The epoch stays, and nobody is closed by this step.
    pub fn reconfigure(&mut self, settings: Settings) {
        let settings = settings.in_epoch(self.settings.epoch);
        let old = std::mem::replace(&mut self.settings, settings);
        let conducts = self.settings.conducts.clone();
        self.set_conducts(&conducts);
        let share_bytes = self.settings.max_buffered_bytes;
        self.memory.set_share(share_bytes);
        self.owner.set_share(share_bytes);
        if self.settings.rates != old.rates {
            // A part of one burst that is used up says nothing about another one.
            for client in self.clients.iter_mut() {
                client.buckets.refill();
            }
            self.senders = Senders::default();
        }
        if self.settings.ping_interval != old.ping_interval {
            let clients: Vec<ClientKey> = self.clients.keys_in(|_| true);
            for client in clients {
                self.reschedule(client);
            }
        }
    }
}
