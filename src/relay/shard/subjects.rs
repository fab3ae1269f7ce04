//! The names of the bearers whose tokens or grants clients came with.
//!
//! [`closing`](super::closing) asks for them. They take a pointer for each slot of a client, and nothing where no client has
//! brought a name.

use crate::ids::ClientKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Subjects(Vec<Option<Box<str>>>);

impl Subjects {
    /// Sets the name of a client. Without one, the name of the slot's last tenant is forgotten.
    pub(super) fn set(&mut self, key: ClientKey, subject: Option<&str>) {
        let slot = key.slot as usize;
        if slot >= self.0.len() {
            if subject.is_none() {
                return;
            }
            self.0.resize(slot + 1, None);
        }
        self.0[slot] = subject.map(Box::from);
    }

    /// The name of a client.
    pub(super) fn of(&self, key: ClientKey) -> Option<&str> {
        self.0.get(key.slot as usize)?.as_deref()
    }

    /// Forgets the name of a client that is gone.
    pub(super) fn forget(&mut self, key: ClientKey) {
        if let Some(subject) = self.0.get_mut(key.slot as usize) {
            *subject = None;
        }
        if self.0.iter().rev().take(64).all(Option::is_none) {
            // The room that a crowd needed is given back bit by bit.
            let kept = self.0.len().saturating_sub(64);
            self.0.truncate(kept);
        }
    }
}
