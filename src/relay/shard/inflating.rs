//! Compressed messages of clients: the agreement on them, and the step that inflates one.
//!
//! [`reading`](super::reading) calls this with what the decoder has found, and takes the messages on. A client whose messages
//! refer to earlier ones gets a window with its first compressed message. A window stays with its client, because the relay
//! could not read on without it.

use std::ops::ControlFlow;

use super::Shard;
use super::client::Client;
use super::skills::Compression;
use crate::ids::ClientKey;
use crate::metrics::stats::Stat;
use crate::port::terms::{Form, Terms};
use crate::relay::policy::departure::Departure;
use crate::relay::topic::Topic;
use crate::ws::decode::Message;
use crate::ws::inflate::Window;

impl Shard {
    /// Agrees on compression with a client that is about to be open, if its terms say so. Once half of the memory for windows is
    /// taken, a client that would need one gets no extension, and sends plain messages.
    pub(super) fn agree_on_deflate(&mut self, key: ClientKey, terms: &mut Terms) {
        let Some(deflate) = terms.deflate else {
            return;
        };
        let client = &mut self.clients[key];
        let taken_bytes = self.stats.value(Stat::InflateWindowBytes);
        let needs_window =
            !deflate.client_no_context_takeover && (client.may_publish || client.has_words());
        if needs_window && !self.inflation.has_room(taken_bytes, 2) {
            terms.deflate = None;
            terms.form = Form::Frames;
            return;
        }
        client
            .skills
            .set_compression(if deflate.client_no_context_takeover {
                Compression::Alone
            } else {
                Compression::InContext
            });
        client.decoder.take_deflated();
        self.stats.inc(Stat::DeflateMembers);
    }

    /// The client is not open any more: its window is gone, and its messages are not inflated any more.
    pub(super) fn forget_deflate(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if client.skills.compression() == Compression::Never {
            return;
        }
        client.skills.set_compression(Compression::Never);
        self.stats.dec(Stat::DeflateMembers);
        if client.drop_window() {
            let window_bytes = Window::BYTES as u64;
            self.stats
                .replace(Stat::InflateWindowBytes, window_bytes, 0);
        }
    }

    /// Inflates a compressed message, unless nobody would get it. A client that has broken a rule departs or fails.
    ///
    /// The plain message waits in [`Inflation`](super::inflation::Inflation), and the caller is told to break. It treats the
    /// message like any other, and goes on. So plain messages pay nothing for this.
    #[cold]
    #[inline(never)]
    pub(super) fn on_deflated(&mut self, key: ClientKey, message: &Message<'_>) -> ControlFlow<()> {
        let max_message_bytes = self.max_message_bytes(&self.clients[key]);
        let client = &mut self.clients[key];
        let compression = client.skills.compression();
        if compression == Compression::Never {
            return ControlFlow::Continue(());
        }
        // A client with the relay's own words may ask something at any time.
        if !client.has_words() {
            if !self.drain.takes_messages() {
                return ControlFlow::Continue(());
            }
            if !client.may_publish {
                self.depart(key, Departure::PublishDenied);
                return ControlFlow::Break(());
            }
        }
        if compression == Compression::InContext && client.window().is_none() {
            let taken_bytes = self.stats.value(Stat::InflateWindowBytes);
            if !self.inflation.has_room(taken_bytes, 1) {
                self.depart(key, Departure::Window);
                return ControlFlow::Break(());
            }
            client.set_window(Window::new());
            self.stats
                .add(Stat::InflateWindowBytes, Window::BYTES as u64);
        }
        let inflater = self.inflation.inflater();
        match inflater.inflate(message, client.window_mut(), max_message_bytes) {
            Ok(plain) => {
                let plain = plain.into_assembled();
                self.stats.inc(Stat::InflatedMessages);
                self.stats.add(Stat::InflatedBytes, plain.len() as u64);
                let wire_bytes = message.payload.as_slice().len();
                self.inflation.set_plain(wire_bytes, message.kind, plain);
                ControlFlow::Break(())
            }
            Err(error) => self.on_violation(key, error),
        }
    }

    /// Whether a client that compresses has to be heard no further for now: its topic has as many bytes on their way as a topic
    /// may have.
    pub(super) fn has_inflated_enough(&self, key: ClientKey) -> bool {
        let compresses = |client: &&Client| client.skills.compression() != Compression::Never;
        let Some(client) = self.clients.get(key).filter(compresses) else {
            return false;
        };
        if let Some(topic) = client.source() {
            return self.outside.is_full(topic, self.window_bytes(topic));
        }
        let topic = client.topic().map(|topic| &self.topics[topic]);
        topic.is_some_and(Topic::is_window_full)
    }

    /// Bytes of messages that were inflated since the last call.
    pub(in crate::relay) fn take_inflated_bytes(&mut self) -> usize {
        self.inflation.take_bytes()
    }
}
