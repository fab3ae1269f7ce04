//! Excuses: a pause of the process does not count against clients.
//!
//! The turn calls [`Shard::excuse`] when its clock shows a pause, before anything that the pause has left in sockets is read.

use super::Shard;
use crate::metrics::stats::Stat;
use crate::relay::patience::Pause;

impl Shard {
    /// Moves every deadline by the length of the pause, and lets clients send what they could have sent in that time.
    ///
    /// This looks at every client. Pauses are rare, and each of them was much longer.
    #[cold]
    pub(crate) fn excuse(&mut self, pause: Pause) {
        let span = pause.span();
        self.stats.inc(Stat::Pauses);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.stats.add(Stat::PausedMicros, micros);
        // The control thread tells the operator, once for all shards.
        tracing::debug!(shard = self.id.0, ?span, "the shard stood still");
        self.now = self.now.max(pause.ended);
        for client in self.clients.iter_mut() {
            client.excuse(pause);
        }
        for &key in &self.graced {
            self.topics[key].grace.excuse(span);
        }
        self.owner.excuse(span);
        self.spread.excuse(span);
    }
}
