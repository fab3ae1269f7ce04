//! Clients whose end comes in the packet of their request, while the host owes them an answer.

use super::*;
use crate::config::ProxySource;
use crate::ws::handshake::Refusal;

/// A host whose clients send one packet, and end with it.
struct Ending {
    idle: Idle,
    packet: Vec<u8>,
    /// The end of a client that is read once more.
    end: Filled,
    has_seats: bool,
    written: Vec<u8>,
}

impl Host for Ending {
    fn now(&mut self) -> Timestamp {
        self.idle.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        self.idle.next_event()
    }

    fn take_mail(&mut self, _shard: &mut Shard) {}

    fn is_congested(&mut self) -> bool {
        false
    }

    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        let mut packet = std::mem::take(&mut self.packet);
        if packet.is_empty() {
            return self.end;
        }
        shard.on_bytes(key, &mut packet);
        Filled::More(packet.len())
    }

    fn seat_named(&mut self, shard: &mut Shard, named: &Named) -> bool {
        if !self.has_seats {
            shard.refuse(named.key, Refusal::PER_IP);
        }
        self.has_seats
    }

    fn health(&mut self) -> Health {
        Health::Frozen
    }

    fn hand_over(&mut self, _key: ClientKey, _home: ShardId, _transfer: Transfer) {}

    fn write(
        &mut self,
        _key: ClientKey,
        slices: &[IoSlice<'_>],
        offered: usize,
    ) -> Option<Written> {
        self.written
            .extend(slices.iter().flat_map(|slice| slice.to_vec()));
        Some(Written::plain(offered, offered))
    }

    fn post(&mut self, _to: ShardId, _envelope: Envelope) {}

    fn apply(&mut self, _effect: Effect) {}
}

/// An upgrade and a message.
fn upgrade() -> Vec<u8> {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
        X-Forwarded-For: 192.0.2.1\r\n\r\n";
    let frame = b"\x81\x82\0\0\0\0hi";
    [request.as_bytes(), frame].concat()
}

/// The answer to a client of a trusted proxy that ends like this, and the shard that it leaves behind.
fn end_of(packet: &[u8], end: Filled, has_seats: bool) -> (String, Shard) {
    let mut config = Config::default();
    config.server.health_path = Some("/check".into());
    config.server.trusted_proxies = vec![ProxySource::Unix];
    let now = Timestamp(1_000_000);
    let settings = Settings::new(&config, 1);
    let shard = Shard::new(ShardId(0), settings, Router::new(1, 0), now);
    let mut turn = Turn::new(shard, Budgets::default(), now);
    let key = turn.shard.accept();
    turn.shard.trust(key);
    let is_readable = Readiness {
        is_readable: true,
        is_read_closed: true,
        ..Readiness::default()
    };
    let mut host = Ending {
        idle: Idle {
            now,
            is_congested: false,
            news: vec![(key, is_readable)],
        },
        packet: packet.to_vec(),
        end,
        has_seats,
        written: Vec::new(),
    };
    turn.run(&mut host);
    while turn.sleep(now).ends_at() == Some(now) {
        turn.run(&mut host);
        turn.shard.check();
    }
    assert!(turn.shard.is_empty());
    (
        String::from_utf8_lossy(&host.written).into_owned(),
        turn.shard,
    )
}

#[test]
fn a_health_check_is_answered_although_the_client_ends_with_it() {
    let (answer, shard) = end_of(b"HEAD /check HTTP/1.0\r\n\r\n", Filled::Eof, true);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nContent-Length: 7\r\n") && answer.ends_with("\r\n\r\n"));
    assert_eq!(shard.stats().value(Stat::HandshakeLost), 0);
}

#[test]
fn a_health_check_that_is_reset_behind_its_request_is_not_counted() {
    let (_, shard) = end_of(b"GET /check HTTP/1.0\r\n\r\n", Filled::Failed, true);
    assert_eq!(shard.stats().value(Stat::HandshakeLost), 0);
}

#[test]
fn a_client_of_a_proxy_that_ends_with_its_request_is_served() {
    let (answer, shard) = end_of(&upgrade(), Filled::Eof, true);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\n\r\n\u{fffd}\u{2}hi"), "{answer}");
    assert_eq!(shard.stats().value(Stat::Delivered), 1);
    assert_eq!(shard.stats().value(Stat::HandshakeLost), 0);
}

#[test]
fn a_client_of_a_proxy_that_ends_with_its_request_is_refused_in_order() {
    let (answer, shard) = end_of(&upgrade(), Filled::Eof, false);
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert_eq!(shard.stats().value(Stat::HandshakePerIp), 1);
    assert_eq!(shard.stats().value(Stat::HandshakeLost), 0);
}
