//! The request of a client: how far it has come, and who has to say how it is answered.

use super::Client;
use crate::http::response::Body;
use crate::port::terms::Terms;
use crate::relay::shard::arrival::Stage;
use crate::relay::shard::exchange::Exchange;
use crate::relay::shard::phase::Phase;
use crate::ws::handshake::Refusal;

impl Client {
    /// The terms of a client whose place is undecided.
    pub(in crate::relay::shard) fn undecided_terms(&self) -> Option<&Terms> {
        self.arrival.as_ref()?.undecided_terms()
    }

    /// Whether a proxy's header is awaited. Until it is there, nothing can be sent to anybody.
    pub(in crate::relay::shard) fn awaits_preface(&self) -> bool {
        let arrival = self.arrival.as_ref();
        arrival.is_some_and(|arrival| matches!(arrival.stage, Stage::Preface))
    }

    /// The refusal that waits for the rest of its request, which says how to answer.
    pub(in crate::relay::shard) fn refusal(&self) -> Option<Refusal> {
        self.arrival.as_ref()?.refusal
    }

    /// Whether it may ask for an event stream, as far as its request has come.
    pub(in crate::relay::shard) fn mentions_events(&self) -> bool {
        let arrival = self.arrival.as_ref();
        arrival.is_some_and(|arrival| arrival.mentions_events())
    }

    /// The body that the answer to its health check has; `None` if it does not wait for one.
    pub(in crate::relay::shard) fn probe(&self) -> Option<Body> {
        let arrival = self.arrival.as_ref()?;
        match arrival.stage {
            Stage::Probe(body) => Some(body),
            Stage::Preface
            | Stage::Head(_)
            | Stage::Exchange(_)
            | Stage::AwaitsSeat(..)
            | Stage::Granted(_)
            | Stage::Joining(..)
            | Stage::Joined => None,
        }
    }

    /// Whether its request is a health check that is not answered yet.
    pub(in crate::relay::shard) fn is_probe(&self) -> bool {
        self.probe().is_some()
    }

    /// Whether the host has to seat the client that a proxy has named.
    pub(in crate::relay::shard) fn awaits_seat(&self) -> bool {
        let arrival = self.arrival.as_ref();
        arrival.is_some_and(|arrival| matches!(arrival.stage, Stage::AwaitsSeat(..)))
    }

    /// The request that is being answered.
    pub(in crate::relay::shard) fn exchange(&self) -> Option<&Exchange> {
        self.arrival.as_ref()?.exchange()
    }

    /// The same, to go on with it.
    pub(in crate::relay::shard) fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        self.arrival.as_mut()?.exchange_mut()
    }

    /// Whether it waits between two requests.
    pub(in crate::relay::shard) fn is_idle(&self) -> bool {
        let arrival = self.arrival.as_ref();
        arrival.is_some_and(|arrival| arrival.is_idle())
    }

    /// Whether bytes of its next request came with the last one.
    pub(in crate::relay::shard) fn has_early_request(&self) -> bool {
        let arrival = self.arrival.as_ref();
        self.phase == Phase::Requesting
            && arrival.is_some_and(|arrival| {
                matches!(arrival.stage, Stage::Head(_)) && !arrival.early.is_empty()
            })
    }

    /// Whether its request is complete, and the host has to say how it is answered.
    pub(in crate::relay::shard) fn awaits_host(&self) -> bool {
        self.is_probe() || self.awaits_seat()
    }
}
