//! Clients that move to another worker. Workers fill up one after the other, starting with the owner of the topic. When
//! all are full, or if filling is off, clients move to the owner while it has room.

use fanwire::config::Config;
use fanwire::metrics::stats::Stat;

use crate::metrics::{case, scrape};
use crate::support::{World, config, eventually};
use crate::tls_support::TlsWorld;
use crate::wire::{Wire, frame, request};

/// The workers, and clients besides those under test. With so many, an eighth of the average is several clients.
const WORKERS: usize = 4;
const BYSTANDERS: usize = 64 * WORKERS;

/// Connections that stay on the worker that the acceptor chose, because their topic has members on every worker.
fn bystanders(world: &World) -> Vec<Wire> {
    (0..BYSTANDERS).map(|_| world.join("/crowd")).collect()
}

/// The values of a metric on each shard, in ascending order.
#[expect(clippy::cast_sign_loss, reason = "a number of clients")]
fn by_shard(world: &World, metric: &str) -> [usize; WORKERS] {
    let scrape = scrape(world);
    let value = |shard: usize| case(&scrape, metric, "shard", &shard.to_string()) as usize;
    let mut values = std::array::from_fn(value);
    values.sort_unstable();
    values
}

fn most_on_a_shard(world: &World) -> usize {
    by_shard(world, "fanwire_shard_clients")[WORKERS - 1]
}

/// The defaults but for the number of workers, and the number of clients to which workers are then filled.
fn gathering() -> (Config, usize) {
    let mut config = config(WORKERS);
    let default = Config::default().server.fill_workers_to;
    config.server.fill_workers_to = default;
    (config, default)
}

#[test]
fn a_small_topic_lives_on_one_worker_although_all_accept() {
    const CLIENTS: usize = 40;
    let world = World::with(&gathering().0);
    let mut room = world.connect_many("/room", CLIENTS);
    world.await_total(Stat::ConnectedClients, CLIENTS as u64);
    assert_eq!(
        by_shard(&world, "fanwire_shard_clients"),
        [0, 0, 0, CLIENTS]
    );
    world.await_total(Stat::Topics, 1);
    // The owner got at most the first one, because then it has more than its share.
    let least = (CLIENTS - 1) / (WORKERS - 1);
    eventually("the others have equally many clients", || {
        by_shard(&world, "fanwire_shard_transfers_total")[1] >= least
    });
    room[0].say("hello");
    for member in &mut room {
        assert_eq!(member.hear(), "hello");
    }
    world.await_rest();
    // No shard ever sent anything to another.
    assert_eq!(world.total(Stat::Envelopes), 0);
    drop(room);
    world.end();
}

#[test]
fn a_topic_that_fills_more_than_one_worker_lives_on_two() {
    const MORE: usize = 36;
    let (config, full) = gathering();
    let world = World::with(&config);
    let clients = full + MORE;
    let mut room = world.connect_many("/room", clients);
    world.await_total(Stat::ConnectedClients, clients as u64);
    let lives = by_shard(&world, "fanwire_shard_clients");
    assert_eq!(lives, [0, 0, MORE, full]);
    world.await_total(Stat::Topics, 2);
    // The first client is on the owner of the topic, the last on the other worker.
    for (publisher, text) in [(0, "from the owner"), (clients - 1, "from the other")] {
        room[publisher].say(text);
        for member in &mut room {
            assert_eq!(member.hear(), text);
        }
    }
    drop(room);
    world.end();
}

#[test]
fn a_topic_that_most_have_left_gathers_on_one_worker_again() {
    let (config, full) = gathering();
    let world = World::with(&config);
    let mut room = world.connect_many("/room", full * 2 + 8);
    world.await_total(Stat::Topics, 3);
    // Some clients stay on each of the three workers.
    room.retain({
        let mut place = 0;
        move |_| {
            place += 1;
            place % full == 1
        }
    });
    world.await_total(Stat::ConnectedClients, 3);
    assert_eq!(by_shard(&world, "fanwire_shard_clients"), [0, 1, 1, 1]);
    room.extend(world.connect_many("/room", WORKERS * 4));
    world.await_total(Stat::ConnectedClients, 3 + WORKERS as u64 * 4);
    let lives = by_shard(&world, "fanwire_shard_clients");
    assert_eq!(lives, [0, 1, 1, 1 + WORKERS * 4]);
    drop(room);
    world.end();
}

#[test]
fn a_few_small_topics_live_on_one_worker_each() {
    const TOPICS: usize = 16;
    let world = World::with(&gathering().0);
    let clients: Vec<Wire> = (0..3 * TOPICS)
        .map(|n| world.join(&format!("/room/{}", n % TOPICS)))
        .collect();
    world.await_total(Stat::ConnectedClients, 3 * TOPICS as u64);
    world.await_total(Stat::Topics, TOPICS as u64);
    assert_eq!(world.total(Stat::Envelopes), 0);
    drop(clients);
    world.end();
}

#[test]
fn without_filling_even_a_small_topic_is_spread_over_all_workers() {
    const CLIENTS: usize = 40;
    let world = World::with(&config(WORKERS));
    let room = world.connect_many("/room", CLIENTS);
    world.await_total(Stat::ConnectedClients, CLIENTS as u64);
    world.await_total(Stat::Topics, WORKERS as u64);
    let average = CLIENTS / WORKERS;
    let most = most_on_a_shard(&world);
    assert!(most <= average + 1, "{most} on a shard");
    drop(room);
    world.end();
}

#[test]
fn pairs_move_to_the_owner_of_their_topic_and_need_no_other_thread() {
    let world = World::with(&config(WORKERS));
    let crowd = bystanders(&world);
    world.await_rest();
    let moved_before = world.total(Stat::Transferred);
    let mut pairs: Vec<[Wire; 2]> = (0..4)
        .map(|n| [0, 1].map(|_| world.join(&format!("/pair/{n}"))))
        .collect();
    world.await_rest();
    assert!(world.total(Stat::Transferred) > moved_before);
    // One envelope for each pair; with more, a pair would be on two shards.
    let crowds = WORKERS as u64;
    world.await_total(Stat::Topics, crowds + 4);
    let before = world.total(Stat::Envelopes);
    for [one, other] in &mut pairs {
        one.send(frame(0x81, b"hello"));
        assert_eq!((one.hear(), other.hear()), ("hello".into(), "hello".into()));
    }
    world.await_rest();
    assert_eq!(world.total(Stat::Envelopes), before);
    drop((crowd, pairs));
    world.end();
}

#[test]
fn bytes_after_the_request_move_with_the_client() {
    let world = World::with(&config(WORKERS));
    let crowd = bystanders(&world);
    // By chance, all pairs would be on the right worker once in four billion runs.
    for n in 0..16 {
        let path = format!("/early/{n}");
        let mut wire = world.dial();
        let early = [frame(0x81, b"early"), frame(0x89, b"ping")].concat();
        wire.send([request(&path).as_bytes(), &early].concat());
        assert_eq!(wire.answer().status, 101);
        let mut words = [wire.next(), wire.next()].map(|frame| frame.payload);
        words.sort_unstable();
        assert_eq!(words, [b"early".to_vec(), b"ping".to_vec()]);
    }
    assert!(world.total(Stat::Transferred) > 0);
    drop(crowd);
    world.end();
}

#[test]
fn no_worker_gets_far_more_than_its_share() {
    let world = World::with(&config(WORKERS));
    let mut crowd = bystanders(&world);
    // More clients than the topic's own shard has room for. Those that the acceptor puts there move to the others
    // first.
    crowd.extend((0..16).map(|_| world.join("/room")));
    world.await_total(Stat::ConnectedClients, BYSTANDERS as u64 + 16);
    assert!(world.total(Stat::Transferred) > 0);
    let most = most_on_a_shard(&world);
    let average = (BYSTANDERS + 16) / WORKERS;
    assert!(most <= average + average / 8, "{most} on a shard");
    crowd.extend((0..200).map(|_| world.join("/room")));
    world.await_total(Stat::ConnectedClients, BYSTANDERS as u64 + 216);
    // No client moves any more. Each worker gets a quarter, and the owner keeps its surplus.
    let more = most_on_a_shard(&world) - most;
    assert!(more <= 200 / WORKERS + 1, "{more} more on a shard");
    drop(crowd);
    world.end();
}

#[test]
fn a_client_that_moves_counts_once_for_the_limit_on_connections() {
    let mut config = config(WORKERS);
    config.server.max_connections = BYSTANDERS + 8;
    let world = World::with(&config);
    let crowd = bystanders(&world);
    for round in 0..5 {
        // No client waits for its answer before the next one connects, so some are moving between workers while others
        // are accepted or refused.
        let asking: Vec<Wire> = (0..24)
            .map(|n| {
                let wire = world.dial();
                wire.send(request(&format!("/{round}/{n}")));
                wire
            })
            .collect();
        let answered = asking
            .into_iter()
            .map(|mut wire| (wire.answer().status, wire));
        let (served, refused): (Vec<_>, Vec<_>) = answered.partition(|(status, _)| *status == 101);
        assert_eq!(served.len(), 8);
        for (status, mut wire) in refused {
            assert_eq!(status, 503);
            wire.expect_end();
        }
        world.await_total(Stat::ConnectedClients, BYSTANDERS as u64 + 8);
        drop(served);
        world.await_total(Stat::ConnectedClients, BYSTANDERS as u64);
    }
    assert!(world.total(Stat::Transferred) > 0);
    drop(crowd);
    world.end();
}

#[test]
fn an_encrypted_topic_also_fills_one_worker_after_the_other() {
    let (config, full) = gathering();
    let tls = TlsWorld::with(config);
    let mut room: Vec<_> = (0..full + 2).map(|_| tls.connect("/room")).collect();
    tls.world.await_total(Stat::Topics, 2);
    for publisher in [0, full + 1] {
        room[publisher].say(format!("from {publisher}"));
        for member in &mut room {
            assert_eq!(member.hear(), format!("from {publisher}"));
        }
    }
    drop(room);
    tls.world.end();
}

#[test]
fn clients_move_with_their_encryption() {
    let tls = TlsWorld::with(config(WORKERS));
    let mut clients: Vec<_> = (0..BYSTANDERS)
        .map(|n| tls.connect(&format!("/pair/{}", n / 2)))
        .collect();
    for n in 0..BYSTANDERS / 2 {
        clients[2 * n].say(format!("hello {n}"));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.hear(), format!("hello {}", n / 2));
    }
    assert!(tls.world.total(Stat::Transferred) > 0);
    drop(clients);
    tls.world.end();
}
