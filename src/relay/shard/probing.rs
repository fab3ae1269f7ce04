//! Health checks on the relay's port (`server.health_path`): a request that is answered, and asks for no topic.
//!
//! The shard does not know the state of the relay. So the turn asks for each probe with [`Shard::poll_probe`], and answers it
//! with what the host says. The connection then ends in order, and is counted neither as a client nor as a refusal.

use bytes::Bytes;

use super::Shard;
use super::arrival::{Arrival, Stage, Undecoded};
use super::client::Client;
use crate::http::health::Health;
use crate::http::response::{Body, Connection};
use crate::http::routes::Route;
use crate::ids::ClientKey;
use crate::port::cors::Cors;
use crate::port::reply::{Manner, Reply};

impl Shard {
    /// Takes note of a probe. It is answered in this turn.
    pub(super) fn note_probe(&mut self, key: ClientKey, body: Body) {
        let arrival = Arrival::at(Stage::Probe(body), Undecoded::default());
        self.clients[key].arrival = Some(Box::new(arrival));
        self.probes.push(key);
    }

    /// The number of probes to be answered. It includes some that are gone.
    pub(in crate::relay) fn probes_len(&self) -> usize {
        self.probes.len()
    }

    /// The next probe to be answered with [`Shard::answer_probe`].
    pub(crate) fn poll_probe(&mut self) -> Option<ClientKey> {
        self.probes.pop()
    }

    /// Answers a probe, and closes its connection in order.
    pub(crate) fn answer_probe(&mut self, key: ClientKey, health: Health) {
        let client = self.clients.get(key);
        let Some(body) = client.and_then(Client::probe) else {
            return;
        };
        let answer = Route::Ready.answer(health, || None);
        let reply = Reply::new(answer.status);
        let reply = reply.body(answer.content_type, answer.body.into_owned().into_bytes());
        let manner = Manner {
            cors: Cors::None,
            connection: Connection::Close,
            body,
        };
        let answer = reply.encode(&manner, self.date());
        self.end_with(key, Some(Bytes::from(answer)));
    }
}
