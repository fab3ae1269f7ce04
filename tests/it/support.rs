//! A relay under test, an independent client, and the audit of the relay's counters. All modules here use it.
//!
//! Nothing here sleeps until something has probably happened: it waits for a counter or for bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use fanwire::config::Config;
use fanwire::server::{Relay, RelayHandle, Stat, Stats};
use socket2::{Domain, Socket, Type};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Bytes, Error, Message, WebSocket};

use crate::wire::Wire;

/// The longest wait of a test for an event before it fails. A loaded machine needs far less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The receive buffer of a client that must soon look slow: the kernel then hides only a little from the relay.
const SMALL_RECEIVE_BUFFER: usize = 32 << 10;

/// The reasons for a disconnection. Their counters add up to `Disconnections`.
const REASONS: [Stat; 18] = [
    Stat::DisconnectedReservedText,
    Stat::DisconnectedByClient,
    Stat::DisconnectedLost,
    Stat::DisconnectedProtocol,
    Stat::DisconnectedTooBig,
    Stat::DisconnectedLag,
    Stat::DisconnectedStall,
    Stat::DisconnectedPong,
    Stat::DisconnectedRate,
    Stat::DisconnectedControlRate,
    Stat::DisconnectedPublishDenied,
    Stat::DisconnectedExpired,
    Stat::DisconnectedByHand,
    Stat::DisconnectedMemory,
    Stat::DisconnectedBreak,
    Stat::DisconnectedOutage,
    Stat::DisconnectedShutdown,
    Stat::DisconnectedInternal,
];

/// The gauges that are 0 when nobody is connected.
const GAUGES: [Stat; 11] = [
    Stat::ReplayBytes,
    Stat::CoalescingBytes,
    Stat::ConnectedClients,
    Stat::MembersLagging,
    Stat::LogBytes,
    Stat::Topics,
    Stat::TopicsHeld,
    Stat::PartialBytes,
    Stat::CarriedBytes,
    Stat::DeflateMembers,
    Stat::InflateWindowBytes,
];

/// The defaults on 127.0.0.1 and free ports, with this many workers. Even a few clients are spread over the workers; by
/// default all of them would be on one, and no test would cover several shards.
pub(crate) fn config(workers: usize) -> Config {
    let mut config = Config::default();
    config.server.host = "127.0.0.1".into();
    config.server.port = 0;
    config.server.workers = workers;
    config.server.fill_workers_to = 0;
    config.metrics.port = 0;
    config
}

/// Waits until `condition` holds. Fails with `what` after [`PATIENCE`].
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A running relay.
pub(crate) struct World {
    pub(crate) relay: RelayHandle,
}

impl World {
    /// A relay with the defaults and two workers. Even two clients are spread over them.
    pub(crate) fn start() -> World {
        World::with(&config(2))
    }

    pub(crate) fn with(config: &Config) -> World {
        config.validate().expect("a valid configuration");
        World {
            relay: Relay::start(config).expect("the relay starts"),
        }
    }

    /// A client that has joined the topic of `path`.
    pub(crate) fn connect(&self, path: &str) -> Client {
        Client::connect(self.relay.address(), path)
    }

    /// So many clients that have joined the topic of `path`, one after the other.
    pub(crate) fn connect_many(&self, path: &str, count: usize) -> Vec<Client> {
        (0..count).map(|_| self.connect(path)).collect()
    }

    /// A raw connection that has sent nothing yet.
    pub(crate) fn dial(&self) -> Wire {
        Wire::over(TcpStream::connect(self.relay.address()).unwrap())
    }

    /// A raw connection from another loopback address.
    pub(crate) fn dial_from(&self, address: [u8; 4]) -> Wire {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&self.relay.address().into()).unwrap();
        Wire::over(socket.into())
    }

    /// A raw connection that has joined the topic of `path`.
    pub(crate) fn join(&self, path: &str) -> Wire {
        let mut wire = self.dial();
        wire.upgrade(path);
        wire
    }

    /// The same, with a small receive buffer, so that it soon looks slow to the relay.
    pub(crate) fn join_narrowly(&self, path: &str) -> Wire {
        join_narrowly(self.relay.address(), path)
    }

    /// A counter. It may be one turn old, because shards publish at the end of a turn.
    pub(crate) fn total(&self, stat: Stat) -> u64 {
        self.relay.total(stat)
    }

    /// Waits until the number is `expected`.
    pub(crate) fn await_total(&self, stat: Stat, expected: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let total = self.total(stat);
            if total == expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{stat:?} should be {expected} and is {total}"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until every client has received everything, or has had it dropped or discarded. The caller waits for
    /// messages on their way to the relay or between its shards.
    pub(crate) fn await_rest(&self) {
        eventually("offered = delivered + dropped + discarded", || {
            let totals = self.relay.totals();
            is_balanced(&totals)
                && totals.value(Stat::LogBytes) == 0
                && totals.value(Stat::CoalescingBytes) == 0
                && totals.value(Stat::MembersLagging) == 0
        });
    }

    /// Ends the relay after its clients have gone, and audits its counters. Connected clients would delay the end.
    pub(crate) fn end(self) -> Stats {
        self.await_total(Stat::ConnectedClients, 0);
        self.relay.shutdown();
        self.join_ended()
    }

    /// Waits for the end of a relay that is shutting down, and audits its counters.
    pub(crate) fn join_ended(self) -> Stats {
        let stats = self.relay.join().expect("the relay ends well");
        audit(&stats);
        for gauge in GAUGES {
            assert_eq!(stats.value(gauge), 0, "{gauge:?} with nobody connected");
        }
        let (owned, kept) = (Stat::OwnedTopics, Stat::TopicsWithHistory);
        assert_eq!(
            stats.value(owned),
            stats.value(kept),
            "only kept messages keep a topic"
        );
        stats
    }
}

/// A raw connection with a small receive buffer that has joined the topic of `path`.
pub(crate) fn join_narrowly(address: SocketAddr, path: &str) -> Wire {
    let mut wire = Wire::over(connect_narrowly(address));
    wire.upgrade(path);
    wire
}

/// A connection with a small receive buffer.
pub(crate) fn connect_narrowly(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(SMALL_RECEIVE_BUFFER).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

fn is_balanced(stats: &Stats) -> bool {
    let settled = [Stat::Delivered, Stat::Dropped, Stat::Discarded];
    stats.value(Stat::Offered) == settled.iter().map(|&stat| stats.value(stat)).sum::<u64>()
}

/// Asserts what holds for the final counters of every relay, however it ended.
pub(crate) fn audit(stats: &Stats) {
    assert!(
        is_balanced(stats),
        "of {} deliveries offered, {} were delivered, {} dropped and {} discarded",
        stats.value(Stat::Offered),
        stats.value(Stat::Delivered),
        stats.value(Stat::Dropped),
        stats.value(Stat::Discarded)
    );
    assert_eq!(
        stats.value(Stat::Connections),
        stats.value(Stat::Disconnections),
        "whoever came has gone"
    );
    assert_eq!(
        REASONS.iter().map(|&stat| stats.value(stat)).sum::<u64>(),
        stats.value(Stat::Disconnections),
        "each departure has one reason"
    );
    assert_eq!(stats.value(Stat::ConnectedClients), 0);
}

/// The independent peer: tungstenite's client over TCP or TLS. It fails the test on anything unexpected.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: WebSocket<S>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) =
            tungstenite::client(format!("ws://{address}{path}"), stream).expect("an upgrade");
        Client { socket }
    }

    /// Leaves with a reset, without a Close.
    pub(crate) fn reset(self) {
        reset(self.socket.get_ref());
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, message: Message) {
        self.socket.send(message).unwrap();
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.send(Message::text(text.into()));
    }

    /// The next message, control frames included.
    pub(crate) fn next(&mut self) -> Message {
        self.socket.read().unwrap()
    }

    /// The next message, which must be text.
    pub(crate) fn hear(&mut self) -> String {
        match self.next() {
            Message::Text(text) => text.to_string(),
            other => panic!("text was expected, and {other:?} came"),
        }
    }

    /// The next message, which must be binary.
    pub(crate) fn binary(&mut self) -> Bytes {
        match self.next() {
            Message::Binary(bytes) => bytes,
            other => panic!("binary was expected, and {other:?} came"),
        }
    }

    /// Expects a Close next, and then the end of the connection.
    pub(crate) fn expect_close(&mut self) -> CloseFrame {
        let Message::Close(Some(frame)) = self.next() else {
            panic!("a Close with a code was expected");
        };
        self.expect_end();
        frame
    }

    pub(crate) fn expect_end(&mut self) {
        match self.socket.read() {
            Err(Error::ConnectionClosed) => {}
            other => panic!("the end was expected, and {other:?} came"),
        }
    }

    /// Leaves in order. Returns everything that comes before the answer to its Close.
    pub(crate) fn leave(mut self) -> Vec<Message> {
        self.socket.close(None).unwrap();
        let mut received = Vec::new();
        loop {
            match self.socket.read() {
                Ok(Message::Close(_)) => return received,
                Ok(message) => received.push(message),
                Err(error) => panic!("the Close was not answered: {error}"),
            }
        }
    }
}

/// Makes the socket reset its connection when it is closed.
pub(crate) fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}
