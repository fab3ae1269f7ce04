//! The moments at which clients are closed because their grants have ended, in seconds since the Unix epoch.
//!
//! [`expiring`](super::expiring) sets them and asks for them. They take four bytes for each slot of a client, and nothing where
//! no client has a token.

use core::num::NonZeroU32;

use crate::ids::ClientKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ends(Vec<Option<NonZeroU32>>);

impl Ends {
    /// Sets the end of a client. Without one, the end of the slot's last tenant is forgotten.
    pub(super) fn set(&mut self, key: ClientKey, end: Option<NonZeroU32>) {
        let slot = key.slot as usize;
        if slot >= self.0.len() {
            if end.is_none() {
                return;
            }
            self.0.resize(slot + 1, None);
        }
        self.0[slot] = end;
    }

    /// The end of a client.
    pub(super) fn of(&self, key: ClientKey) -> Option<NonZeroU32> {
        self.0.get(key.slot as usize).copied().flatten()
    }
}
