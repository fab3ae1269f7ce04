//! The output to connections, as a host handles it.

use std::io::IoSlice;
use std::time::Duration;

use fanwire::internals::ClientKey;
use fanwire::internals::relay::{Effect, Shard, Written};
use fanwire::server::Stat;

use crate::compressor::Offer;
use crate::events::{Said, Words};
use crate::model::positions::Lost;
use crate::peer::{Peer, Request};
use crate::stream::Item;
use crate::tally::Event;
use crate::world::World;

/// The beginning of the reason in the Close of a client that needs memory to compress.
const NO_WINDOW: &str = "too many clients compress";

/// The longest wait for a failed client to take its own earlier messages.
const PATIENCE: Duration = Duration::from_secs(5);

impl World {
    /// Writes to a client what its transport takes, and shows it to the model.
    pub(crate) fn write(
        &mut self,
        host: usize,
        id: usize,
        slices: &[IoSlice<'_>],
        offered: usize,
    ) -> Option<Written> {
        let most = match self.rng.below(100) {
            0..6 => 0,
            6..14 => self.rng.within(0..=200),
            _ => usize::MAX,
        };
        let Peer {
            pipe, transport, ..
        } = &mut self.peers[id];
        let written = transport.flush(pipe, slices, offered, most).ok()?;
        let taken = written.taken;
        let mut bytes: Vec<u8> = Vec::with_capacity(taken);
        for slice in slices {
            bytes.extend_from_slice(&slice[..slice.len().min(taken - bytes.len())]);
        }
        self.peers[id].note_taken(&bytes);
        self.hosts[host].written = bytes;
        self.tell(|| {
            format!("shard {host} writes {taken} of {offered} bytes to client {id}: {written:?}")
        });
        Some(written)
    }

    /// The shard has reported the effects of the last written bytes.
    pub(crate) fn note_written(
        &mut self,
        host: usize,
        shard: &Shard,
        key: ClientKey,
        written: Written,
    ) {
        let bytes = std::mem::take(&mut self.hosts[host].written);
        let Some(id) = self.hosts[host].peer_of(key) else {
            return;
        };
        self.note_stall(id, written);
        self.take_written(shard, id, &bytes, written.holds_back);
        self.raise(id);
    }

    /// Shows the written bytes to the model. The client reads them later.
    fn take_written(&mut self, shard: &Shard, id: usize, bytes: &[u8], is_held_back: bool) {
        let items = self.peers[id].stream.push(bytes);
        let items = items.unwrap_or_else(|error| panic!("to client {id}: {error}"));
        for (offset, item) in items {
            self.tell(|| format!("client {id} is sent {}", describe(&item)));
            if let Item::Answer(answer) = &item {
                self.note_answer(shard, id, answer);
                self.peers[id].expect(offset, item);
                continue;
            }
            self.note_item(id, &item);
            let may_be_refused = self.may_be_refused(shard, id, &item);
            let is_out_of_patience = self.is_out_of_patience(shard, id);
            if let Item::Response(101) = item {
                self.model.on_fields(id, self.peers[id].stream.told);
                self.note_extension(id);
            }
            if let Item::Close { code: 1013, reason } = &item
                && reason.starts_with(NO_WINDOW)
            {
                let peer = &self.peers[id];
                assert_eq!(peer.offer, Offer::InContext, "only such a client needs one");
                assert!(peer.has_compressed, "closed for what it has not sent");
                self.tally.note(Event::NoWindow);
            }
            self.model
                .written(id, &item, may_be_refused, is_out_of_patience);
            if is_held_back {
                self.tally.note(match item {
                    Item::Close { .. } => Event::CloseHeldBack,
                    _ => Event::DeliveryHeldBack,
                });
            }
            self.peers[id].expect(offset, item);
        }
    }

    fn note_item(&mut self, id: usize, item: &Item) {
        let event = match item {
            Item::Response(200) if self.peers[id].request == Request::Check => Event::Check,
            Item::Comment => Event::Comment,
            Item::Event { .. } => Event::StreamedMessage,
            Item::Words(words) => match words.said {
                Said::Refused { .. } => Event::StreamRefused,
                Said::End { .. } => Event::StreamEnd,
                Said::Place {
                    lost: Lost::Messages(1..),
                    ..
                } => Event::StreamSkip,
                Said::Place { .. } => return,
            },
            _ => return,
        };
        self.tally.note(event);
    }

    /// Checks that a client has got the extension that it offered, unless it would need memory that is short.
    fn note_extension(&mut self, id: usize) {
        let peer = &self.peers[id];
        let agreed = peer.stream.extension.as_deref();
        let expected = peer.offer.answer();
        let expected = expected.filter(|_| self.plan.config.compression.enabled);
        if agreed.is_some() {
            assert_eq!(agreed, expected, "the answer to the offer of client {id}");
            self.tally.note(Event::Extension);
        } else if expected.is_some() {
            assert_eq!(
                peer.offer,
                Offer::InContext,
                "client {id} would need no memory"
            );
            self.tally.note(Event::NoExtension);
        }
    }

    fn note_stall(&mut self, id: usize, written: Written) {
        let now = self.now;
        let peer = &mut self.peers[id];
        let since = peer.blocked_at.unwrap_or(now);
        peer.has_stalled |= now.since(since) >= self.plan.config.slow_consumer.stall_timeout;
        let since = if written.has_progressed { now } else { since };
        peer.blocked_at = written.is_blocked.then_some(since);
    }

    /// Whether a client that broke the protocol may be closed before it has read its own earlier messages: its time is
    /// over, or its host is short of memory.
    fn is_out_of_patience(&self, shard: &Shard, id: usize) -> bool {
        let peer = &self.peers[id];
        let is_late = |at| self.now.since(at) >= PATIENCE;
        let is_short = shard.stats().value(Stat::BufferLimitReached) > 0;
        is_short || peer.has_stalled || peer.offended_at.is_some_and(is_late)
    }

    fn may_be_refused(&self, shard: &Shard, id: usize, item: &Item) -> bool {
        let is_full = self.is_draining || shard.stats().value(Stat::BufferLimitReached) > 0;
        let is_too_late = *item == Item::Response(408);
        let status = match item {
            Item::Response(status)
            | Item::Words(Words {
                said: Said::Refused { status },
                ..
            }) => Some(*status),
            _ => None,
        };
        let is_turned_away = status == Some(503) && is_full;
        let peer = &self.peers[id];
        let is_right = match (peer.request, item) {
            (Request::Upgrade, Item::Response(429)) => peer.is_unseated,
            (Request::Events, Item::Words(_)) => status == Some(429) && peer.is_unseated,
            (Request::Check, Item::Response(200)) | (Request::Bad | Request::Half, _) => true,
            (Request::Upgrade | Request::Events | Request::Check | Request::Posts, _) => false,
        };
        is_right || is_too_late || is_turned_away
    }

    pub(crate) fn apply(&mut self, host: usize, effect: Effect) {
        let (Effect::ShutdownWrite(key) | Effect::Close(key) | Effect::LimitSilence(key, _)) =
            effect;
        let Some(id) = self.hosts[host].peer_of(key) else {
            panic!("{effect:?} of a connection that is not there");
        };
        self.tell(|| format!("client {id}: {effect:?}"));
        match effect {
            Effect::ShutdownWrite(_) => self.shut(id),
            Effect::LimitSilence(..) => {
                let is_stream = self.peers[id].request == Request::Events;
                assert!(
                    is_stream,
                    "client {id}: a WebSocket client is pinged instead"
                );
            }
            Effect::Close(_) => {
                self.close(host, id);
                self.hosts[host].conns[key.slot as usize] = None;
            }
        }
    }

    fn shut(&mut self, id: usize) {
        if self.peers[id].request == Request::Posts {
            // In a drain, a request may come when its connection is about to end. It is not offered then.
            let is_owed = self.model.is_owed_an_answer(id)
                || !self.is_draining && self.model.unanswered(id) > 0;
            let is_told = self.peers[id].has_said_goodbye;
            assert!(
                is_told || !is_owed,
                "client {id}: shut without an answer to what it has asked"
            );
            // Requests that it sends from now on are not read.
            self.peers[id].has_said_goodbye = true;
        }
        let Peer {
            pipe,
            stream,
            transport,
            ..
        } = &mut self.peers[id];
        assert!(
            !stream.is_torn(),
            "client {id}: shut in the middle of a frame"
        );
        transport.shut(pipe);
        self.raise(id);
    }

    fn close(&mut self, host: usize, id: usize) {
        let Peer {
            pipe, transport, ..
        } = &self.peers[id];
        let is_over = pipe.is_reset() || pipe.is_shut_by_client() || transport.is_ended();
        if transport.held_back_bytes() > 0 {
            let host = &self.hosts[host];
            assert!(
                is_over || host.is_short || host.is_ruthless,
                "client {id}: closed before its transport has sent what it took"
            );
            for _ in 0..self.peers[id].messages_held_back() {
                self.tally.note(Event::LostInTransport);
            }
        }
        self.check_answered(host, id);
        self.peers[id].pipe.close_by_server();
        self.model.close(id);
    }

    /// A client whose request was read has an answer, even if it has shut its side: unless its connection has failed, or its
    /// host has closed it because of a deadline or a cut.
    fn check_answered(&self, host: usize, id: usize) {
        let Peer {
            pipe,
            transport,
            request,
            request_bytes,
            ..
        } = &self.peers[id];
        let has_failed = pipe.is_reset() || transport.is_ended();
        let host = &self.hosts[host];
        let is_excused = has_failed || host.is_short || host.is_ruthless || host.is_cut;
        assert!(
            is_excused || self.model.unanswered(id) == 0 || self.peers[id].has_said_goodbye,
            "client {id}: closed without an answer to what it has asked"
        );
        assert!(
            is_excused
                || matches!(request, Request::Half | Request::Posts)
                || !self.model.has_read(id, *request_bytes)
                || self.model.has_answer(id),
            "client {id}: closed without an answer"
        );
    }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Message { payload, .. } | Item::Event { payload, .. } => {
            let start = payload.get(..8).unwrap_or(payload);
            format!(
                "{} bytes, {:?}",
                payload.len(),
                String::from_utf8_lossy(start)
            )
        }
        other => format!("{other:?}"),
    }
}
