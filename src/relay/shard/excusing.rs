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
        tracing::info!(
            shard = self.id.0,
            ?span,
            "the relay stood still, or was too busy; its clients are not blamed for that"
        );
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
