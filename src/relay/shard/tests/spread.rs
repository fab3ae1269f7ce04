//! A shutdown that closes clients one after the other, while the others go on.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The reason in a Close of a shutdown, without its number.
const RETRY: &str = "going away; retry ";

fn config(echo: bool) -> Config {
    let mut config = Config::default();
    config.relay.echo = echo;
    config.shutdown.spread = SECOND * 10;
    config
}

/// Shards in the middle of a relay's life, and all that was written to their clients since.
struct World<const N: usize> {
    shards: [Shard; N],
    path: String,
    written: Vec<(ShardId, ClientKey, Vec<u8>)>,
}

impl<const N: usize> World<N> {
    fn new(config: &Config) -> Self {
        let (shards, path) = shards(config);
        World {
            shards,
            path,
            written: Vec::new(),
        }
    }

    fn join(&mut self, shard: usize) -> ClientKey {
        let path = self.path.clone();
        let client = join(&mut self.shards[shard], &path, b"");
        self.turns();
        client
    }

    /// Takes turns until nobody has anything to do.
    fn turns(&mut self) {
        loop {
            let mut said = Vec::new();
            for shard in &mut self.shards {
                shard.close_due();
                shard.decide();
                said.extend(shard.take_outbox());
                while let Some(key) = shard.poll_flush() {
                    for bytes in writes(shard, key) {
                        self.written.push((shard.id, key, bytes));
                    }
                }
                shard.end_turn(shard.now);
                shard.begin_turn(shard.now);
                said.extend(shard.take_outbox());
                shard.check();
            }
            if said.is_empty() {
                return;
            }
            for (to, envelope) in said {
                self.shards[to.index()].handle(envelope);
            }
        }
    }

    fn begin_drain(&mut self) {
        for shard in &mut self.shards {
            shard.begin_drain();
        }
        self.turns();
    }

    fn pass(&mut self, span: Duration) {
        for shard in &mut self.shards {
            shard.begin_turn(shard.now + span);
        }
        self.turns();
    }

    /// All that was written to a client since the last call.
    fn heard(&mut self, shard: usize, client: ClientKey) -> Vec<u8> {
        let is_it =
            |(of, key, _): &(ShardId, ClientKey, Vec<u8>)| (of.index(), *key) == (shard, client);
        let bytes: Vec<Vec<u8>> = self
            .written
            .extract_if(.., |written| is_it(written))
            .map(|(.., bytes)| bytes)
            .collect();
        bytes.concat()
    }

    /// The clients that were closed so far, in order.
    fn closed(&self) -> Vec<(ShardId, ClientKey)> {
        let is_close = |bytes: &[u8]| {
            bytes
                .windows(RETRY.len())
                .any(|part| part == RETRY.as_bytes())
        };
        let closed = self.written.iter().filter(|(.., bytes)| is_close(bytes));
        closed.map(|&(shard, key, _)| (shard, key)).collect()
    }
}

/// The pause that a Close asks for.
fn pause(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let (_, pause) = text.rsplit_once(RETRY).expect("a Close of a shutdown");
    pause.parse().expect("a number of milliseconds")
}

#[test]
fn clients_are_closed_one_after_the_other_and_the_relay_ends_behind_the_last() {
    let mut world = World::<2>::new(&config(true));
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push((n % 2, world.join(n % 2)));
    }
    world.begin_drain();
    for closed in 1..=10 {
        assert_eq!(
            world.closed().len(),
            2 * closed,
            "one of ten on each shard, a second"
        );
        let is_over = closed == 10;
        for shard in &world.shards {
            assert_eq!(shard.is_draining(), is_over);
        }
        world.pass(Duration::from_millis(999));
        assert_eq!(world.closed().len(), 2 * closed);
        world.pass(Duration::from_millis(1));
    }
    for (shard, client) in clients {
        world.shards[shard].on_bytes(client, &mut [0x88, 0x80, 0, 0, 0, 0]);
    }
    world.turns();
    assert!(world.shards.iter().all(Shard::is_drained));
}

#[test]
fn the_order_is_random_and_the_same_for_the_same_seed() {
    let order = |seed| {
        let settings = Settings::new(&config(true), 1);
        let mut shard = Shard::new(ShardId(0), settings, Router::new(1, seed), Timestamp(0));
        let clients: Vec<ClientKey> = (0..50).map(|_| join(&mut shard, "/", b"")).collect();
        turn(&mut shard, usize::MAX, None);
        shard.begin_drain();
        let mut order = Vec::new();
        for _ in 0..50 {
            shard.close_due();
            let left = clients
                .iter()
                .filter(|&&key| shard.clients[key].member.is_some());
            let before: Vec<ClientKey> = left.copied().collect();
            turn(&mut shard, usize::MAX, None);
            order.extend(
                before
                    .into_iter()
                    .filter(|&key| shard.clients[key].member.is_none()),
            );
            shard.begin_turn(shard.now + SECOND / 5);
        }
        assert_eq!(order.len(), 50);
        (order, clients)
    };
    let (first, clients) = order(1);
    assert_eq!(order(1).0, first);
    assert_ne!(order(2).0, first);
    assert_ne!(clients, first);
}

#[test]
fn messages_are_relayed_during_the_spread_and_nobody_loses_one() {
    for echo in [true, false] {
        let mut world = World::<2>::new(&config(echo));
        let clients: Vec<(usize, ClientKey)> =
            (0..20).map(|n| (n % 2, world.join(n % 2))).collect();
        world.begin_drain();
        world.written.clear();
        let mut expected = vec![Vec::new(); clients.len()];
        for round in 0..20_u8 {
            let is_there = |world: &World<2>, (shard, key): (usize, ClientKey)| {
                let client = world.shards[shard].clients.get(key);
                client.is_some_and(|client| client.member.is_some() && !client.leaves_at_head)
            };
            let there: Vec<usize> = (0..clients.len())
                .filter(|&n| is_there(&world, clients[n]))
                .collect();
            let Some(&publisher) = there.first() else {
                break;
            };
            let (shard, key) = clients[publisher];
            world.shards[shard].on_bytes(key, &mut [0x81, 0x81, 0, 0, 0, 0, round].to_vec());
            world.turns();
            world.pass(SECOND / 2);
            for n in there.into_iter().filter(|&n| echo || n != publisher) {
                expected[n].extend([0x81, 1, round]);
            }
        }
        for (n, &(shard, client)) in clients.iter().enumerate() {
            let heard = world.heard(shard, client);
            let at = heard
                .iter()
                .position(|&byte| byte == 0x88)
                .unwrap_or(heard.len());
            assert_eq!(heard[..at], expected[n], "client {n}");
        }
    }
}

#[test]
fn a_client_gets_back_what_it_published_just_before_its_moment() {
    let mut world = World::<2>::new(&config(true));
    let client = world.join(1);
    let shard = &mut world.shards[1];
    shard.on_bytes(client, &mut text(3));
    shard.begin_drain();
    // Its message is still on its way to the owner.
    assert!(shard.is_draining(), "it was the last one");
    world.begin_drain();
    let heard = world.heard(1, client);
    let (_, heard) = heard.split_at(heard.len() - 5 - 2 - 2 - RETRY.len() - 4);
    assert!(heard.starts_with(b"\x81\x03xxx\x88"), "{heard:?}");
}

#[test]
fn nobody_is_taken_in_during_a_spread() {
    let mut shard = shard_with(&config(true));
    let member = join(&mut shard, "/", b"");
    let other = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let half = shard.accept();
    shard.begin_drain();
    let late = shard.accept();
    for client in [half, late] {
        let answer = writes(&mut shard, client).concat();
        assert!(answer.starts_with(b"HTTP/1.1 503 "));
    }
    assert!(!shard.is_draining());
    let messages = shard.stats.value(Stat::Messages);
    for client in [member, other] {
        if shard.permit(client) == Permit::Read {
            shard.on_bytes(client, &mut text(1));
        }
    }
    assert_eq!(shard.stats.value(Stat::Messages), messages + 1);
}

#[test]
fn a_client_that_joins_during_a_spread_is_told_as_well() {
    let mut world = World::<2>::new(&config(true));
    let path = world.path.clone();
    let shard = &mut world.shards[1];
    for _ in 0..2 {
        let client = join(shard, &path, b"");
        shard.stay(client);
    }
    // The owner has not answered, and the moment of both has come.
    shard.begin_drain();
    shard.begin_turn(shard.now + SECOND * 10);
    shard.close_due();
    world.turns();
    assert_eq!(world.shards[1].stats.value(Stat::Connections), 2);
    assert_eq!(world.closed().len(), 2);
}

#[test]
fn each_close_asks_for_a_pause_of_its_own() {
    let mut config = config(true);
    config.shutdown.spread = Duration::ZERO;
    let mut world = World::<1>::new(&config);
    let clients: Vec<ClientKey> = (0..100).map(|_| world.join(0)).collect();
    world.written.clear();
    world.begin_drain();
    let mut pauses: Vec<u64> = clients
        .iter()
        .map(|&client| pause(&world.heard(0, client)))
        .collect();
    pauses.sort_unstable();
    assert!(pauses.iter().all(|pause| (1_000..5_000).contains(pause)));
    pauses.dedup();
    assert!(pauses.len() > 90, "{pauses:?}");
    assert!(pauses[10] < 2_000 && pauses[pauses.len() - 10] > 4_000);
}
