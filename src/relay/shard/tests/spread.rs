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

/// Shards in the middle of a relay's life, and the clients that have joined.
struct World<const N: usize> {
    shards: [Driven; N],
    path: String,
    clients: Vec<(usize, ClientKey)>,
}

impl<const N: usize> World<N> {
    fn new(config: &Config) -> Self {
        let (shards, path) = shards(config);
        World {
            shards,
            path,
            clients: Vec::new(),
        }
    }

    fn join(&mut self, shard: usize) -> ClientKey {
        let client = self.ask(shard);
        more_turns(&mut self.shards);
        client
    }

    /// A client asks for the topic. No turn has read it yet.
    fn ask(&mut self, shard: usize) -> ClientKey {
        let client = join(&mut self.shards[shard], &self.path, b"");
        self.clients.push((shard, client));
        client
    }

    fn forget_writes(&mut self) {
        for shard in &mut self.shards {
            shard.forget_writes();
        }
    }

    fn begin_drain(&mut self) {
        for shard in &mut self.shards {
            shard.gets(Mail::Drain);
        }
        more_turns(&mut self.shards);
    }

    fn pass(&mut self, span: Duration) {
        for shard in &mut self.shards {
            shard.sleep(span, &mut taking_all);
        }
        more_turns(&mut self.shards);
    }

    /// All that was written to a client.
    fn heard(&self, shard: usize, client: ClientKey) -> Vec<u8> {
        self.shards[shard].writes_to(client).concat()
    }

    /// The number of clients that were closed so far.
    fn closed(&self) -> usize {
        let heard = self
            .clients
            .iter()
            .map(|&(shard, key)| self.heard(shard, key));
        heard.filter(|bytes| is_close(bytes)).count()
    }
}

fn is_close(bytes: &[u8]) -> bool {
    let mut parts = bytes.windows(RETRY.len());
    parts.any(|part| part == RETRY.as_bytes())
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
    for n in 0..20 {
        world.join(n % 2);
    }
    world.begin_drain();
    for closed in 1..=10 {
        assert_eq!(
            world.closed(),
            2 * closed,
            "one of ten on each shard, a second"
        );
        let is_over = closed == 10;
        for shard in &world.shards {
            assert_eq!(shard.is_draining(), is_over);
        }
        world.pass(Duration::from_millis(999));
        assert_eq!(world.closed(), 2 * closed);
        world.pass(Duration::from_millis(1));
    }
    for &(shard, client) in &world.clients {
        world.shards[shard].sends(client, &[0x88, 0x80, 0, 0, 0, 0]);
    }
    more_turns(&mut world.shards);
    assert!(world.shards.iter().all(|shard| shard.is_drained()));
}

#[test]
fn the_order_is_random_and_the_same_for_the_same_seed() {
    let order = |seed| {
        let settings = Settings::new(&config(true), 1);
        let router = Router::new(1, seed);
        let mut shard = Driven::new(Shard::new(ShardId(0), settings, router, Timestamp(0)));
        let clients: Vec<ClientKey> = (0..50).map(|_| join(&mut shard, "/", b"")).collect();
        turn(&mut shard, usize::MAX, None);
        shard.forget_writes();
        shard.gets(Mail::Drain);
        shard.sleep(SECOND * 10, &mut taking_all);
        // Nothing else is written to them.
        let order = shard.written_to();
        assert_eq!(order.len(), 50);
        let is_closed = |&key| is_close(&shard.writes_to(key).concat());
        assert!(order.iter().all(is_closed));
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
        for n in 0..20 {
            world.join(n % 2);
        }
        let clients = world.clients.clone();
        world.begin_drain();
        world.forget_writes();
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
            world.shards[shard].sends(key, &[0x81, 0x81, 0, 0, 0, 0, round]);
            more_turns(&mut world.shards);
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
    shard.sends(client, &text(3));
    turn(shard, usize::MAX, None);
    shard.gets(Mail::Drain);
    shard.run(usize::MAX, &mut taking_all);
    // Its message is still on its way to the owner.
    assert!(shard.is_draining(), "it was the last one");
    assert_eq!(shard.writes_to(client), [b""; 0]);
    let said = shard.take_said();
    deliver(&mut world.shards, said);
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
    shard.gets(Mail::Drain);
    shard.run(usize::MAX, &mut taking_all);
    let late = shard.accept();
    for client in [half, late] {
        shard.sends(client, request("/").as_bytes());
    }
    rest(&mut shard, None);
    for client in [half, late] {
        let answer = shard.writes_to(client).concat();
        assert!(answer.starts_with(b"HTTP/1.1 503 "));
    }
    assert!(!shard.is_draining());
    let messages = shard.stats.value(Stat::Messages);
    for client in [member, other] {
        shard.sends(client, &text(1));
    }
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::Messages), messages + 1);
}

#[test]
fn a_client_that_joins_during_a_spread_is_told_as_well() {
    let mut config = config(true);
    // The owner's answer takes no longer than a client may wait for it.
    config.shutdown.spread = SECOND;
    let mut world = World::<2>::new(&config);
    for _ in 0..2 {
        world.ask(1);
    }
    // The owner has not answered, and the moment of both has come.
    let shard = &mut world.shards[1];
    shard.run(usize::MAX, &mut taking_all);
    shard.gets(Mail::Drain);
    shard.sleep(SECOND, &mut taking_all);
    assert!(shard.next_close().is_none());
    assert_eq!(shard.stats.value(Stat::Connections), 0);
    let said = shard.take_said();
    deliver(&mut world.shards, said);
    more_turns(&mut world.shards);
    assert_eq!(world.shards[1].stats.value(Stat::Connections), 2);
    assert_eq!(world.closed(), 2);
}

#[test]
fn each_close_asks_for_a_pause_of_its_own() {
    let mut config = config(true);
    config.shutdown.spread = Duration::ZERO;
    let mut world = World::<1>::new(&config);
    let clients: Vec<ClientKey> = (0..100).map(|_| world.join(0)).collect();
    world.forget_writes();
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

#[test]
fn a_client_that_waits_for_its_own_message_after_its_moment_is_not_pinged() {
    let mut config = config(true);
    config.keepalive.ping_interval = SECOND;
    config.keepalive.pong_timeout = SECOND;
    let mut world = World::<2>::new(&config);
    let client = world.join(1);
    let shard = &mut world.shards[1];
    shard.sends(client, &text(3));
    turn(shard, usize::MAX, None);
    shard.forget_writes();
    shard.gets(Mail::Drain);
    for _ in 0..20 {
        shard.sleep(SECOND / 2, &mut taking_all);
    }
    assert_eq!(shard.writes_to(client), [b""; 0]);
    let said = shard.take_said();
    deliver(&mut world.shards, said);
    more_turns(&mut world.shards);
    let heard = world.heard(1, client);
    assert!(heard.starts_with(b"\x81\x03xxx\x88") && is_close(&heard));
    assert_eq!(world.shards[1].stats.value(Stat::DisconnectedPong), 0);
}

#[test]
fn messages_behind_a_request_count_although_the_moment_comes_before_the_owner_answers() {
    let mut config = config(true);
    config.shutdown.spread = SECOND;
    let mut world = World::<2>::new(&config);
    let early = join(&mut world.shards[1], &world.path, &text(3));
    // The moments of some of the others come later.
    for _ in 0..9 {
        world.ask(1);
    }
    let shard = &mut world.shards[1];
    shard.run(usize::MAX, &mut taking_all);
    shard.gets(Mail::Drain);
    while !shard.clients[early].leaves_at_head {
        shard.sleep(SECOND / 10, &mut taking_all);
    }
    assert!(!shard.is_draining(), "the seed made it the last one");
    let said = shard.take_said();
    deliver(&mut world.shards, said);
    more_turns(&mut world.shards);
    assert_eq!(world.shards[1].stats.value(Stat::Messages), 1);
    let heard = world.heard(1, early);
    assert!(
        heard.windows(6).any(|part| part == b"\x81\x03xxx\x88"),
        "{heard:?}"
    );
}

#[test]
fn a_close_in_a_spread_is_not_awaited_until_the_end_of_the_shutdown() {
    let mut config = config(true);
    config.shutdown.spread = SECOND * 100;
    let close_timeout = config.slow_consumer.close_timeout;
    let mut world = World::<1>::new(&config);
    for _ in 0..2 {
        world.join(0);
    }
    world.begin_drain();
    assert_eq!((world.closed(), world.shards[0].len()), (1, 2));
    world.pass(close_timeout + SECOND);
    assert_eq!((world.closed(), world.shards[0].len()), (1, 1));
}

#[test]
fn clients_whose_moments_pass_in_a_pause_are_not_closed_all_at_once() {
    let mut config = config(true);
    config.shutdown.timeout = SECOND * 60;
    let mut world = World::<1>::new(&config);
    for _ in 0..20 {
        world.join(0);
    }
    world.begin_drain();
    assert_eq!(world.closed(), 1);
    // It meant to sleep for half a second at most.
    world.shards[0].pass(SECOND * 8);
    world.shards[0].run(usize::MAX, &mut taking_all);
    more_turns(&mut world.shards);
    assert!(world.closed() <= 2, "{} of 20", world.closed());
    world.pass(SECOND * 10);
    assert_eq!(world.closed(), 20);
}
