//! The metrics thread: it serves the metrics and the health of the relay over HTTP.
//!
//! `Relay::start` starts it, and the control thread holds its [`ExporterHandle`]. It reads what the workers publish and
//! never waits for one, so a relay that is stuck can still be scraped. Connections and their time are bounded. Scrapers
//! need neither TLS nor a password: bind it where only they reach it.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use tracing::{debug, error};

use super::collector::Exposition;
pub use super::scraper::Limits;
use super::scraper::{Next, Scraper};
use crate::http::health::Health;
use crate::http::routes::{Answer, Route};
use crate::panics;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// More than the default limit on connections, so that one wait usually sees them all.
const EVENTS_PER_TURN: usize = 128;
/// Connections accepted before the others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long to wait after `accept` has failed, usually for want of descriptors. No event announces those that wait.
const ACCEPT_RETRY: Duration = Duration::from_millis(250);

/// The metrics server, which its thread owns.
pub struct Exporter {
    poll: Poll,
    listener: TcpListener,
    scrapers: Slab<Scraper>,
    /// Connections that have more to do than one turn allows: each once, and none that is gone.
    unfinished: Vec<usize>,
    /// When to call `accept` next; `None` until the next event of the listener.
    accept_at: Option<Instant>,
    limits: Limits,
    exposition: Exposition,
    health: Box<dyn Fn() -> Health + Send>,
    stop: Arc<AtomicBool>,
    /// Held because dropping the last owner of a waker discards a wake that is under way.
    waker: Arc<Waker>,
}

impl Exporter {
    /// Starts the thread. It serves `exposition` and what `health` says to clients of `listener`. If it ends before it is
    /// asked to, it calls `on_failure` with the reason.
    ///
    /// # Errors
    /// The system refuses a descriptor for the poll, or a thread.
    pub fn start(
        listener: StdTcpListener,
        exposition: Exposition,
        health: impl Fn() -> Health + Send + 'static,
        limits: Limits,
        on_failure: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<ExporterHandle> {
        let address = listener.local_addr()?;
        let exporter = Exporter::new(listener, exposition, Box::new(health), limits)?;
        let stop = Arc::clone(&exporter.stop);
        let waker = Arc::clone(&exporter.waker);
        let thread =
            thread::Builder::new().name("metrics".into()).spawn(
                move || match panic::catch_unwind(AssertUnwindSafe(|| exporter.run())) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => on_failure(error.to_string()),
                    Err(panic) => on_failure(panics::message(panic.as_ref())),
                },
            )?;
        Ok(ExporterHandle {
            address,
            stop,
            waker,
            thread: Some(thread),
        })
    }

    fn new(
        listener: StdTcpListener,
        exposition: Exposition,
        health: Box<dyn Fn() -> Health + Send>,
        limits: Limits,
    ) -> io::Result<Exporter> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Exporter {
            poll,
            listener,
            scrapers: Slab::new(),
            unfinished: Vec::new(),
            accept_at: None,
            limits,
            exposition,
            health,
            stop: Arc::default(),
            waker,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while !self.stop.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, self.patience(Instant::now())) {
                Ok(()) => self.turn(&events, Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How long to wait for an event; `None` is for ever.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines = self.scrapers.iter().map(|(_, scraper)| scraper.deadline());
        let next = deadlines.chain(self.accept_at).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// One turn. Connections that are here come first: a request that has arrived is answered before its connection can
    /// be dropped in favour of a new one.
    fn turn(&mut self, events: &Events, now: Instant) {
        let mut due = std::mem::take(&mut self.unfinished);
        for event in events {
            match event.token() {
                LISTENER => self.accept_at = Some(now),
                WAKER => {}
                // A connection that is unfinished has its turn already. A second would double its budget, and put it
                // on the list twice.
                Token(key) if due.contains(&key) => {}
                Token(key) => due.push(key),
            }
        }
        for key in due {
            self.drive(key, now);
        }
        self.drop_late(now);
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(now);
        }
    }

    /// Drives a connection. If its key has passed to another connection since the event, that one finds nothing to do.
    fn drive(&mut self, key: usize, now: Instant) {
        let Some(scraper) = self.scrapers.get_mut(key) else {
            return;
        };
        let answer = |route| answer(route, &self.exposition, (self.health)());
        match scraper.drive(now, &answer) {
            Ok(Next::Wait) => {}
            Ok(Next::Turn) => self.unfinished.push(key),
            Ok(Next::Drop) => self.drop_scraper(key),
            Err(error) => {
                debug!(%error, "the connection of a scraper failed");
                self.drop_scraper(key);
            }
        }
    }

    fn drop_late(&mut self, now: Instant) {
        let late = self
            .scrapers
            .iter()
            .filter(|(_, scraper)| scraper.deadline() <= now);
        let late: Vec<usize> = late.map(|(key, _)| key).collect();
        for key in late {
            debug!("a scraper took too long and is cut");
            self.drop_scraper(key);
        }
    }

    fn drop_scraper(&mut self, key: usize) {
        // The next connection may get the same key.
        self.unfinished.retain(|unfinished| *unfinished != key);
        // Closing the descriptor takes it out of the poll.
        drop(self.scrapers.remove(key));
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.accept_at = None;
                        return;
                    }
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        debug!(%error, "a scraper cannot be accepted for now");
                        self.accept_at = Some(now + ACCEPT_RETRY);
                        return;
                    }
                },
            }
        }
        self.accept_at = Some(now);
    }

    fn admit(&mut self, stream: TcpStream, now: Instant) {
        if self.scrapers.len() >= self.limits.max_connections {
            self.drop_longest_waiting();
        }
        // Otherwise answers to pipelined requests wait for acknowledgements. If it fails, they wait.
        let _ = stream.set_nodelay(true);
        let slot = self.scrapers.vacant_entry();
        let key = slot.key();
        let mut scraper = Scraper::new(stream, self.limits, now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self
            .poll
            .registry()
            .register(scraper.stream(), Token(key), interest)
        {
            debug!(%error, "a scraper cannot be served");
            return;
        }
        slot.insert(scraper);
        self.drive(key, now);
    }

    fn drop_longest_waiting(&mut self) {
        let longest = self
            .scrapers
            .iter()
            .min_by_key(|(_, scraper)| scraper.waiting_since());
        if let Some((key, _)) = longest {
            debug!("too many scrapers; the one idle for longest is cut");
            self.drop_scraper(key);
        }
    }
}

fn answer(route: Route, exposition: &Exposition, health: Health) -> Answer {
    route.answer(health, || match exposition.text() {
        Ok(text) => Some(text),
        Err(error) => {
            error!(%error, "the metrics cannot be encoded");
            None
        }
    })
}

/// Holds the metrics thread. Dropping it stops the thread, cuts its connections and waits for its end.
#[derive(Debug)]
pub struct ExporterHandle {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl ExporterHandle {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells the thread to stop, and hands it out without waiting for its end.
    pub(crate) fn stop(mut self) -> Option<JoinHandle<()>> {
        self.tell_to_stop();
        self.thread.take()
    }

    fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            error!(%error, "the metrics thread cannot be woken; it ends at its next event");
        }
    }
}

impl Drop for ExporterHandle {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.tell_to_stop();
        if thread.join().is_err() {
            debug!("the metrics thread could not be joined");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::metrics::collector::InboxDepth;

    fn exporter(limits: Limits) -> Exporter {
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let exposition = Exposition::new(Vec::new(), |_| InboxDepth::default(), 0, None);
        Exporter::new(listener, exposition, Box::new(|| Health::Ready), limits).unwrap()
    }

    impl Exporter {
        /// Waits for an event, then does one turn.
        fn turn_at_the_next_event(&mut self) {
            let mut events = Events::with_capacity(EVENTS_PER_TURN);
            self.poll.poll(&mut events, None).unwrap();
            self.turn(&events, Instant::now());
        }

        fn connect(&mut self) -> std::net::TcpStream {
            let client = std::net::TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let before = self.scrapers.len();
            while self.scrapers.len() == before {
                self.turn_at_the_next_event();
            }
            client
        }
    }

    /// More requests than a connection may have answered in some turns. The buffers of the socket hold their answers.
    fn pipeline() -> Vec<u8> {
        b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n".repeat(100)
    }

    #[test]
    fn a_connection_with_unfinished_requests_and_a_new_event_has_one_turn_not_two() {
        let mut exporter = exporter(Limits::default());
        let mut client = exporter.connect();
        for _ in 0..3 {
            client.write_all(&pipeline()).unwrap();
            exporter.turn_at_the_next_event();
            assert_eq!(exporter.unfinished, [0]);
        }
    }

    #[test]
    fn a_connection_that_has_to_go_leaves_no_turn_to_the_next_of_its_key() {
        let mut exporter = exporter(Limits {
            max_connections: 1,
            ..Limits::default()
        });
        let mut first = exporter.connect();
        let mut second = std::net::TcpStream::connect(first.peer_addr().unwrap()).unwrap();
        first.write_all(&pipeline()).unwrap();
        second.write_all(&pipeline()).unwrap();
        exporter.turn_at_the_next_event();
        assert_eq!(exporter.unfinished, [0]);
    }
}
