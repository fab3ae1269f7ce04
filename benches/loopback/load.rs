//! The load generator: it sends in a closed loop, or at a set rate, and checks every delivery.
//!
//! It is one thread that does as little as it can. All frames have one size, so the first bytes of a frame suffice for the check.
//!
//! Each member must get each sender's messages in the order in which they were sent, each exactly once. All members must get
//! the messages of all senders in the same order. Anything else is an error and ends the benchmark.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::transport::{self, Speech, Transport};
use crate::wire::{CHECKED_BYTES, Form, Pace, Traffic};

/// The size of one read. It is more than the messages in flight to one member, in any scenario.
const SCRATCH_BYTES: usize = 512 << 10;

/// The longest time without a delivery. After it, something is broken.
const STALL: Duration = Duration::from_secs(10);

/// The sleep of the generator while it waits for deliveries of small messages. If it waited for events instead, almost every send
/// would wake it, and the server would pay for that. The price depends on which of the two is faster. Clients on other machines
/// never cost a server that.
const NAP: Duration = Duration::from_micros(50);

/// The least members for a nap. With fewer there are few sends, and the nap would be most of the measured time.
const NAP_FROM_MEMBERS: usize = 8;

/// The payload from which on there is no nap: large messages measure throughput.
const NAP_BELOW_PAYLOAD_BYTES: usize = 4 << 10;

/// The result of a stretch of load.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) deliveries: u64,
    pub(crate) elapsed: Duration,
    /// The time from the moment a message was due until a member had it, if messages are sent at a set rate.
    pub(crate) latency: Latency,
}

/// The times of deliveries, counted in bins.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    /// The last bin is for everything longer.
    bins: Vec<u64>,
}

impl Latency {
    const BIN: Duration = Duration::from_micros(20);

    const BINS: usize = 10_000;

    /// The end of the last but one bin, in milliseconds. Longer times are not told apart.
    pub(crate) const REACH_MS: f64 = 1e-6 * (Self::BIN.as_nanos() * Self::BINS as u128) as f64;

    fn new() -> Latency {
        Latency {
            bins: vec![0; Latency::BINS + 1],
        }
    }

    fn note(&mut self, took: Duration) {
        let bin = (took.as_nanos() / Latency::BIN.as_nanos()) as usize;
        self.bins[bin.min(Latency::BINS)] += 1;
    }

    /// The time in milliseconds within which this percentage of deliveries came. Infinite if it is in the last bin.
    pub(crate) fn percentile_ms(&self, percent: u64) -> f64 {
        let all: u64 = self.bins.iter().sum();
        let mut left = all * percent / 100;
        let bin = self.bins.iter().position(|&count| {
            let is_it = left < count;
            left = left.saturating_sub(count);
            is_it
        });
        if bin == Some(Latency::BINS) {
            return f64::INFINITY;
        }
        (bin.unwrap_or(0) as f64 + 0.5) * Latency::BIN.as_secs_f64() * 1e3
    }
}

/// The times at which messages are due, at a set rate.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    began: Instant,
    per_second: u32,
    /// The number of the first message.
    first: u64,
}

impl Schedule {
    fn due(&self, message: u64) -> Instant {
        let before = (message - self.first) as f64;
        self.began + Duration::from_secs_f64(before / f64::from(self.per_second))
    }

    /// The number of messages that are due by `now`, with those before the first. The first is due at once.
    fn due_by(&self, now: Instant) -> u64 {
        // A measurement lasts seconds at most.
        let elapsed_us = now.duration_since(self.began).as_micros() as u64;
        self.first + elapsed_us * u64::from(self.per_second) / 1_000_000 + 1
    }
}

/// The members of one topic on one server.
#[derive(Debug)]
pub(crate) struct Load {
    traffic: Traffic,
    poll: Poll,
    events: Events,
    /// The first ones publish.
    members: Vec<Member>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Member {
    stream: Transport,
    form: Form,
    sent: u64,
    received: u64,
    /// The count that the next message of each sender must have.
    expected: Vec<u32>,
    /// A hash of everything received. It depends on the order.
    hash: u64,
    /// The number of bytes of a message that has arrived in part. `partial` has the first of them.
    partial_bytes: usize,
    partial: [u8; CHECKED_BYTES],
    /// Bytes that the socket has not accepted yet.
    unsent: Vec<u8>,
}

impl Load {
    /// Connects all members. Nobody can send on a stream of events, so the publishers have a WebSocket then.
    pub(crate) fn connect(
        server: SocketAddr,
        traffic: Traffic,
        speech: Speech,
    ) -> io::Result<Load> {
        let poll = Poll::new()?;
        let trust = Arc::new(transport::trust()?);
        let members = (0..traffic.members).map(|index| {
            let (speech, form) = match speech {
                Speech::Events if index < traffic.publishers => (Speech::WebSocket, Form::Frames),
                Speech::Events => (speech, Form::Events),
                _ => (speech, Form::Frames),
            };
            let mut stream = Transport::connect(server, speech, &trust)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(stream.socket(), Token(index), interest)?;
            Ok(Member {
                stream,
                form,
                sent: 0,
                received: 0,
                expected: vec![0; traffic.publishers],
                hash: 0,
                partial_bytes: 0,
                partial: [0; CHECKED_BYTES],
                unsent: Vec::new(),
            })
        });
        Ok(Load {
            traffic,
            members: members.collect::<io::Result<_>>()?,
            poll,
            events: Events::with_capacity(1024),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Keeps the window full for `span`, and then waits until every message has arrived.
    pub(crate) fn run(&mut self, span: Duration) -> io::Result<Served> {
        let began = Instant::now();
        let sent_before = self.sent();
        let schedule = match self.traffic.pace {
            Pace::All | Pace::Sender => None,
            Pace::PerSecond(per_second) => Some(Schedule {
                began,
                per_second,
                first: sent_before,
            }),
        };
        let mut latency = Latency::new();
        let mut heard_at = began;
        loop {
            let received_by_all = self.received_by_all();
            if began.elapsed() < span {
                self.publish(received_by_all, schedule)?;
            } else if received_by_all == self.sent() {
                break;
            }
            if self.receive(schedule, &mut latency)? {
                heard_at = Instant::now();
            } else if heard_at.elapsed() >= STALL {
                return Err(io::Error::other("deliveries are missing"));
            }
        }
        self.check_order()?;
        Ok(Served {
            deliveries: (self.sent() - sent_before) * self.members.len() as u64,
            elapsed: began.elapsed(),
            latency,
        })
    }

    fn sent(&self) -> u64 {
        self.members.iter().map(|member| member.sent).sum()
    }

    fn received_by_all(&self) -> u64 {
        let received = self.members.iter().map(|member| member.received);
        received.min().unwrap_or(0)
    }

    fn publish(&mut self, received_by_all: u64, schedule: Option<Schedule>) -> io::Result<()> {
        let is_due = schedule.map(|schedule| schedule.due_by(Instant::now()));
        let publishers = self.traffic.publishers;
        for (sender, member) in self.members[..publishers].iter_mut().enumerate() {
            let received = match self.traffic.pace {
                Pace::All | Pace::PerSecond(_) => received_by_all,
                Pace::Sender => member.received,
            };
            let allowed = received / publishers as u64 + self.traffic.window as u64;
            let allowed = is_due.map_or(allowed, |due| due.min(allowed));
            if allowed <= member.sent {
                continue;
            }
            for count in member.sent..allowed {
                self.traffic
                    .push_client_frame(&mut member.unsent, sender, count);
            }
            member.sent = allowed;
            member.flush()?;
        }
        Ok(())
    }

    /// Returns whether anything was delivered.
    fn receive(&mut self, schedule: Option<Schedule>, latency: &mut Latency) -> io::Result<bool> {
        // At a set rate, the next message is due whether or not anything comes.
        let patience = schedule.map_or(STALL, |_| Duration::ZERO);
        self.poll.poll(&mut self.events, Some(patience))?;
        let mut has_heard = false;
        for event in &self.events {
            let member = &mut self.members[event.token().0];
            if event.is_writable() {
                member.flush()?;
            }
            if event.is_readable() {
                let before = member.received;
                member.receive(&self.traffic, &mut self.scratch)?;
                has_heard |= member.received > before;
                if let Some(schedule) = schedule {
                    let now = Instant::now();
                    let received = before..member.received;
                    received.for_each(|message| {
                        latency.note(now.saturating_duration_since(schedule.due(message)));
                    });
                }
            }
        }
        let is_crowd = self.members.len() >= NAP_FROM_MEMBERS;
        if is_crowd && self.traffic.payload_bytes < NAP_BELOW_PAYLOAD_BYTES {
            std::thread::sleep(NAP);
        }
        Ok(has_heard)
    }

    fn check_order(&self) -> io::Result<()> {
        let hash = self.members[0].hash;
        if self.members.iter().any(|member| member.hash != hash) {
            return Err(io::Error::other("members have seen different orders"));
        }
        Ok(())
    }
}

impl Member {
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, traffic: &Traffic, scratch: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(io::Error::other("the server has closed a connection")),
                Ok(n) => {
                    self.check(traffic, &scratch[..n])?;
                    if n < scratch.len() && self.stream.is_drained_by_a_short_read() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn check(&mut self, traffic: &Traffic, mut input: &[u8]) -> io::Result<()> {
        let message_bytes = traffic.bytes_in(self.form);
        if self.partial_bytes > 0 {
            let missing = message_bytes - self.partial_bytes;
            let (rest, next) = input.split_at(missing.min(input.len()));
            self.keep(rest);
            input = next;
            if self.partial_bytes < message_bytes {
                return Ok(());
            }
            self.partial_bytes = 0;
            let start = self.partial;
            self.check_message(traffic, &start)?;
        }
        let mut messages = input.chunks_exact(message_bytes);
        for message in &mut messages {
            let start = message.first_chunk().expect("a message is longer");
            self.check_message(traffic, start)?;
        }
        self.keep(messages.remainder());
        Ok(())
    }

    /// Keeps bytes of a message whose end has not arrived.
    fn keep(&mut self, bytes: &[u8]) {
        if self.partial_bytes < CHECKED_BYTES {
            let room = &mut self.partial[self.partial_bytes..];
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
        }
        self.partial_bytes += bytes.len();
    }

    fn check_message(&mut self, traffic: &Traffic, start: &[u8; CHECKED_BYTES]) -> io::Result<()> {
        let Some((sender, count)) = traffic.parse(self.form, start) else {
            let error = format!("nobody sent a message that begins with {start:02x?}");
            return Err(io::Error::other(error));
        };
        let expected = &mut self.expected[sender];
        if count != *expected {
            let error = format!("message {count} of sender {sender} came, but {expected} was due");
            return Err(io::Error::other(error));
        }
        *expected = (*expected + 1) % traffic.counts();
        // Any mixing that depends on the order will do. The multiplier is Knuth's for MMIX.
        self.hash = self
            .hash
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(sender as u64 + 1);
        self.received += 1;
        Ok(())
    }
}
