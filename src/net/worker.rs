//! A worker: the thread that owns a shard, its clients' sockets, and one event loop.
//!
//! It alternates between a [`Turn`] and a sleep. [`sockets::Sockets`] is the turn's link to the kernel.

mod admit;
mod inbox;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mio::Poll;

use self::sockets::Sockets;
use super::admission::Seats;
use super::alarm::Alarm;
use super::clock::Clock;
use super::complaint::Complaints;
use super::engine::Links;
use super::mail::{ControlBox, Postboxes};
use super::tls::keeper::Keeper;
use super::vitals::Vitals;
use crate::metrics::stats::Published;
use crate::port::position::Epoch;
use crate::relay::shard::Shard;
use crate::relay::turn::{Budgets, Turn};

pub(crate) use self::sockets::{ALARM, WAKER};

/// The parts of a worker.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Its shard.
    pub shard: Shard,
    /// Its event loop, in which the waker of its postbox is registered.
    pub poll: Poll,
    /// Its alarm, registered there.
    pub alarm: Alarm,
    /// All workers' inboxes.
    pub postboxes: Postboxes,
    /// The control thread's inbox.
    pub control: ControlBox,
    /// Its counters, as the metrics thread sees them.
    pub published: Arc<Published>,
    /// The state of the relay, for health checks.
    pub vitals: Arc<Vitals>,
    /// The number of connections up to which a worker takes the clients of its own topics.
    pub fill_to: usize,
    /// The seats of each address.
    pub seats: Arc<Seats>,
    /// The warnings about proxies, which all workers share.
    pub complaints: Arc<Complaints>,
    /// The relay's clock.
    pub clock: Clock,
    /// The TLS configuration for clients over TCP, if they speak TLS.
    pub tls: Option<Arc<Keeper>>,
    /// The control thread is handed the history in a drain.
    pub leaves_history: bool,
    /// The connections to engines, if several relays are one.
    pub links: Option<Links>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Worker {
    turn: Turn,
    sockets: Sockets,
}

impl Worker {
    /// A worker, ready to run.
    pub(crate) fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        let id = parts.shard.id();
        Worker {
            turn: Turn::new(parts.shard, Budgets::default(), now),
            sockets: Sockets {
                events: mio::Events::with_capacity(sockets::EVENTS),
                news: VecDeque::new(),
                id,
                poll: parts.poll,
                alarm: parts.alarm,
                to_notify: vec![false; parts.postboxes.len()],
                postboxes: parts.postboxes,
                control: parts.control,
                published: parts.published,
                vitals: parts.vitals,
                fill_to: parts.fill_to,
                seats: parts.seats,
                complaints: parts.complaints,
                clock: parts.clock,
                conns: Vec::new(),
                scratch: super::conn::Scratch::new(parts.tls.is_some()),
                tls: parts.tls,
                leaves_history: parts.leaves_history,
                links: parts.links,
                has_reported: false,
                stopped: false,
            },
        }
    }

    /// From now on the numbers are those of another epoch. Called before it runs.
    pub(crate) fn renew_epoch(&mut self, epoch: Epoch) {
        self.turn.shard.renew_epoch(epoch);
    }

    /// Runs until it is told to stop. It fails only if the kernel refuses to wait for events.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.sockets.stopped {
            self.sleep_and_turn()?;
        }
        Ok(())
    }

    fn sleep_and_turn(&mut self) -> io::Result<()> {
        let now = self.sockets.clock.now();
        let sleep = self.turn.sleep(now);
        self.sockets.wait(sleep, now)?;
        self.turn.run(&mut self.sockets);
        Ok(())
    }
}
