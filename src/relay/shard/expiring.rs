//! The end of grants: a client that came with a token is closed once the token is not accepted any more.
//!
//! The moment is drawn when the client's request is granted. It lies between 30 and 60 seconds behind `exp`, so tokens that were
//! made together do not end together. Before it the token would still be accepted, and the client would come back with it.
//!
//! The moment is a time of day ([`ends`](super::ends)). Each look at a client's deadline converts it by the newest time of day
//! that the host has told.

use core::num::NonZeroU32;
use std::time::Duration;

use super::Shard;
use super::client::Client;
use crate::access::grants::LEEWAY;
use crate::ids::ClientKey;
use crate::time::{Timestamp, WallTime};

/// The range of moments, in seconds. A fraction of a second comes on top.
const SPREAD_SECONDS: u64 = 29;

/// The host tells the time of day again when the last one is this old. The system's clock may have been set meanwhile.
const CLOCK_AGE: Duration = Duration::from_secs(1);

impl Shard {
    /// Whether the host should tell the time of day again.
    pub(crate) fn wants_wall_time(&self) -> bool {
        self.wall_time
            .is_none_or(|(_, at)| self.now.since(at) >= CLOCK_AGE)
    }

    /// Draws the moment at which a client is closed whose grants end at `expires_at`. Each client that is granted its request
    /// comes here.
    pub(super) fn draw_end(&mut self, key: ClientKey, expires_at: Option<u64>) {
        let end = expires_at.and_then(|expires_at| {
            let spread = self.chance.below(SPREAD_SECONDS + 1);
            let end = expires_at.saturating_add(LEEWAY.as_secs() + spread);
            // The last second that fits is in 2106.
            NonZeroU32::new(u32::try_from(end).unwrap_or(u32::MAX))
        });
        self.ends.set(key, end);
    }

    /// The moment at which the grants of an open client end. One that leaves anyway has another deadline.
    pub(super) fn end_of_grants(&self, key: ClientKey, client: &Client) -> Option<Timestamp> {
        let end = self.ends.of(key).filter(|_| !client.leaves_at_head)?;
        let (WallTime(then), at) = self.wall_time?;
        let end = Duration::from_secs(end.get().into()) + fraction(key);
        Some(at + end.saturating_sub(then))
    }
}

/// A fraction of a second that is different for neighbours, so that the clients of one second do not end together.
fn fraction(key: ClientKey) -> Duration {
    let mixed = key.slot.wrapping_mul(0x9e37_79b9);
    Duration::from_millis(u64::from(mixed % 1000))
}
