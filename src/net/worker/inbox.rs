//! The mail of a worker, and what each kind of it does. [`Sockets`] calls it for everything in its postbox.

use super::sockets::Sockets;
use crate::net::mail::Mail;
use crate::net::stream::Stream;
use crate::relay::policy::departure::refusal_stat;
use crate::relay::shard::Shard;
use crate::ws::handshake::Refusal;

impl Sockets {
    pub(super) fn on_mail(&mut self, shard: &mut Shard, mail: Mail) {
        match mail {
            Mail::Envelope(envelope) => shard.handle(envelope),
            Mail::Socket(stream, peer, admission) => {
                let key = self.take_socket(shard, stream, admission);
                if peer.is_loopback() {
                    shard.note_loopback(key);
                }
            }
            Mail::Client(client) => {
                let (conn, transfer) = *client;
                self.take_client(shard, conn, transfer);
            }
            Mail::Refusal(stream, refusal) => self.refuse_socket(shard, stream, refusal),
            Mail::Surplus(kind) => shard.stats_mut().inc(refusal_stat(kind)),
            Mail::Close(whom) => shard.close_by_hand(&whom),
            Mail::Settings(new) => {
                self.fill_to = new.fill_to;
                shard.reconfigure(new.settings);
            }
            Mail::Found(found) => {
                if let Some(links) = &mut self.links {
                    links.on_found(&found, self.poll.registry());
                }
            }
            Mail::Drain => shard.begin_drain(),
            Mail::Abandon => shard.abandon(),
            Mail::Stop => {
                self.postboxes[self.id.index()].note_stopping();
                shard.cut_all();
                self.stopped = true;
            }
        }
    }

    fn refuse_socket(&mut self, shard: &mut Shard, stream: Stream, refusal: Refusal) {
        let key = self.take_socket(shard, stream, None);
        self.refuse_in_order(shard, key, refusal);
    }
}
