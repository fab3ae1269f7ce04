//! Clients that read an event stream: a response that does not end.
//!
//! Such a client is a member like all others, and reads another form of the same batches. It differs in three ways:
//!
//! - It says nothing after its request.
//! - It cannot be asked for a sign of life. So it counts as alive as long as its socket accepts bytes.
//! - It cannot answer a Close. So the stream ends with a last event.
//!
//! The other steps of the shard come here from where frames would be read or sent.

use super::{Effect, Shard};
use crate::ids::ClientKey;
use crate::relay::policy::departure::Departure;

impl Shard {
    /// Bytes have come behind the request, and are thrown away. Each read of them counts as a control frame, so a client that
    /// sends on and on departs. A few bytes may be there by mistake, such as a second request.
    pub(super) fn on_surplus(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        let rates = &self.settings.rates;
        let is_open = client.topic().is_some();
        if is_open && !rates.admit_control(&mut client.buckets, self.now) {
            self.depart(key, Departure::Surplus);
        }
    }

    /// The client's stream begins. It never says anything, so only its system can show that it is there: it acknowledges
    /// what is sent, at least the comments. Otherwise the client has vanished.
    pub(super) fn watch_stream(&mut self, key: ClientKey) {
        let policy = self.policy_of(&self.clients[key]);
        // A client that is there and reads nothing stalls before that, and has time to take the end of its stream.
        let longest = policy.stall_timeout + policy.close_timeout;
        self.effects.push(Effect::LimitSilence(key, longest));
    }

    /// Sends a comment to a client that was sent nothing for long.
    pub(super) fn keep_stream_alive(&mut self, key: ClientKey) {
        let now = self.now;
        let client = &mut self.clients[key];
        if client.review_output(now) {
            client.keep_stream_alive(now);
            self.outflow.make_urgent(key, &mut self.clients);
        }
    }
}
