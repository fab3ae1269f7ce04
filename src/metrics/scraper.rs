//! One connection to the metrics port: requests in, answers out, one at a time and in order.
//!
//! The [`exporter`](super::exporter) drives it when its socket is ready, and drops it past its
//! [`deadline`](Scraper::deadline). It holds at most one request and one answer, because it reads the next request only
//! when the last answer has left.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant, SystemTime};

use mio::net::TcpStream;

use crate::http::requests::{Refused, Request, Requests};
use crate::http::response::{Body, Connection};
use crate::http::routes::{Answer, Route};
use crate::time::WallTime;

/// The most that one read takes. Requests are small.
const READ_BYTES: usize = 4 << 10;
/// Requests answered before other connections get their turn.
const REQUESTS_PER_TURN: usize = 16;
/// The most input that is thrown away behind the last answer.
const LINGER_BYTES: usize = 4 << 20;

/// The limits of the metrics port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at a time. One more takes the place of the one whose last answer is the oldest.
    pub max_connections: usize,
    /// From `accept` or the first byte of a request until its answer has left. Progress does not renew it.
    pub request_timeout: Duration,
    /// From one answer to the first byte of the next request.
    pub idle_timeout: Duration,
    /// From the last answer to the end of the connection. Input in between is thrown away.
    pub linger_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 64,
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            linger_timeout: Duration::from_secs(2),
        }
    }
}

/// A connection to the metrics port.
pub(super) struct Scraper {
    stream: TcpStream,
    limits: Limits,
    requests: Requests,
    unsent: Vec<u8>,
    sent: usize,
    phase: Phase,
    deadline: Instant,
    waiting_since: Instant,
    drained: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests. The next byte starts the clock of one.
    Idle,
    /// A request is arriving, or its answer is leaving.
    Busy,
    /// The last answer is leaving.
    Closing,
    /// The last answer has left and our side is shut. Input is thrown away: if a socket is closed over unread input, it
    /// sends a reset, which may overtake the answer.
    Lingering,
}

/// The next need of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An event of its socket, or its deadline.
    Wait,
    /// Another turn at once: it has more to do than one turn allows.
    Turn,
    /// Nothing: it is over.
    Drop,
}

impl Scraper {
    /// A connection that was accepted `now`. The time for its first request runs.
    pub(super) fn new(stream: TcpStream, limits: Limits, now: Instant) -> Scraper {
        Scraper {
            stream,
            limits,
            requests: Requests::default(),
            unsent: Vec::new(),
            sent: 0,
            phase: Phase::Busy,
            deadline: now + limits.request_timeout,
            waiting_since: now,
            drained: 0,
        }
    }

    /// The time at which the connection is dropped.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time at which its last answer left. Before the first answer, the time at which it was accepted.
    pub(super) fn waiting_since(&self) -> Instant {
        self.waiting_since
    }

    /// The socket, for registration.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Goes on as far as the socket allows, with the answers that `answer` makes.
    ///
    /// # Errors
    /// The link died, and the connection is over.
    // Events are edge-triggered, so each step goes on until WouldBlock: no event follows for what is left behind.
    pub(super) fn drive(
        &mut self,
        now: Instant,
        answer: &impl Fn(Route) -> Answer,
    ) -> io::Result<Next> {
        for _ in 0..REQUESTS_PER_TURN {
            if !self.flush(now)? {
                return Ok(Next::Wait);
            }
            match self.phase {
                Phase::Idle | Phase::Busy => match self.poll_request(now)? {
                    Polled::Request(request) => {
                        self.send(&answer(request.route), request.body, request.connection);
                    }
                    Polled::Refused(Refused { status, body }) => {
                        self.send(&Answer::of(status), body, Connection::Close);
                    }
                    Polled::Blocked => return Ok(Next::Wait),
                    Polled::Ended => return Ok(Next::Drop),
                },
                Phase::Closing => self.shut(now)?,
                Phase::Lingering => return self.drain(),
            }
        }
        Ok(Next::Turn)
    }

    /// Writes the rest of the answer. Returns whether all of it has left.
    fn flush(&mut self, now: Instant) -> io::Result<bool> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        while self.sent < self.unsent.len() {
            match self.stream.write(&self.unsent[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.on_answered(now);
        Ok(true)
    }

    fn on_answered(&mut self, now: Instant) {
        self.unsent = Vec::new();
        self.sent = 0;
        self.waiting_since = now;
        if self.phase == Phase::Busy && self.requests.is_empty() {
            self.phase = Phase::Idle;
            self.deadline = now + self.limits.idle_timeout;
        } else {
            // The next request has begun to arrive.
            self.deadline = now + self.limits.request_timeout;
        }
    }

    fn poll_request(&mut self, now: Instant) -> io::Result<Polled> {
        loop {
            match self.requests.take() {
                Ok(Some(request)) => return Ok(Polled::Request(request)),
                Ok(None) => {}
                Err(refused) => return Ok(Polled::Refused(refused)),
            }
            let mut chunk = [0; READ_BYTES];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Polled::Ended),
                Ok(n) => self.on_input(&chunk[..n], now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Polled::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn on_input(&mut self, bytes: &[u8], now: Instant) {
        self.requests.push(bytes);
        if self.phase == Phase::Idle {
            self.phase = Phase::Busy;
            self.deadline = now + self.limits.request_timeout;
        }
    }

    fn send(&mut self, answer: &Answer, body: Body, connection: Connection) {
        let now = WallTime::from(SystemTime::now());
        self.unsent = answer.encode(connection, body, Some(now));
        self.phase = match connection {
            Connection::KeepAlive => Phase::Busy,
            Connection::Close => Phase::Closing,
        };
    }

    fn shut(&mut self, now: Instant) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.requests = Requests::default();
        self.phase = Phase::Lingering;
        self.deadline = now + self.limits.linger_timeout;
        Ok(())
    }

    fn drain(&mut self) -> io::Result<Next> {
        let mut chunk = [0; READ_BYTES];
        while self.drained < LINGER_BYTES {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Next::Drop),
                Ok(n) => self.drained += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Wait),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Drop)
    }
}

enum Polled {
    Request(Request),
    /// A request that is not served.
    Refused(Refused),
    /// No complete request yet.
    Blocked,
    /// The client sends no more.
    Ended,
}
