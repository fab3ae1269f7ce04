//! Clients that move to the worker that owns their topic, as long as it has room, and else stay where the acceptor has placed
//! them.

use fanwire::config::Config;
use fanwire::server::Stat;

use crate::metrics::{case, scrape};
use crate::support::{World, config, eventually};
use crate::tls_support::TlsWorld;
use crate::wire::{Wire, frame, request};

/// The workers, and clients besides those under test. With so many, an eighth of the average is several clients.
const WORKERS: usize = 4;
const BYSTANDERS: usize = 64 * WORKERS;

/// Connections to a topic that has members everywhere, with an eighth more than the others where its owner is.
fn bystanders(world: &World) -> Vec<Wire> {
    (0..BYSTANDERS).map(|_| world.join("/crowd")).collect()
}

/// The values of a metric on each shard, in ascending order.
fn by_shard(world: &World, metric: &str) -> [usize; WORKERS] {
    let mut values = on_shards(world, metric);
    values.sort_unstable();
    values
}

/// The values of a metric on each shard, by its number.
#[expect(clippy::cast_sign_loss, reason = "a number of clients")]
fn on_shards(world: &World, metric: &str) -> [usize; WORKERS] {
    let scrape = scrape(world);
    let value = |shard: usize| case(&scrape, metric, "shard", &shard.to_string()) as usize;
    std::array::from_fn(value)
}

/// The clients on each shard, once exactly `expected` are published. Call it while clients only come, or only go: then
/// every shard has published its own.
fn clients_by_shard(world: &World, expected: usize) -> [usize; WORKERS] {
    world.await_total(Stat::ConnectedClients, expected as u64);
    on_shards(world, "fanwire_shard_clients")
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
    let each = CLIENTS / WORKERS;
    eventually("the others have taken in as many each", || {
        by_shard(&world, "fanwire_shard_transfers_total") == [0, each, each, each]
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
fn a_room_with_more_clients_than_fill_a_worker_lives_on_all_and_is_one_room() {
    const MORE: usize = 9 * WORKERS;
    let (config, full) = gathering();
    let world = World::with(&config);
    let clients = full + MORE;
    let mut room = world.connect_many("/room", clients);
    world.await_total(Stat::ConnectedClients, clients as u64);
    let lives = by_shard(&world, "fanwire_shard_clients");
    assert_eq!(lives, [9, 9, 9, full + 9]);
    world.await_total(Stat::Topics, WORKERS as u64);
    // The last live on one worker each.
    for publisher in clients - WORKERS..clients {
        let text = format!("from {publisher}");
        room[publisher].say(text.clone());
        for member in &mut room {
            assert_eq!(member.hear(), text);
        }
    }
    drop(room);
    world.end();
}

#[test]
fn a_room_of_which_most_have_left_gathers_again() {
    const MORE: usize = 4 * WORKERS;
    let (config, full) = gathering();
    let world = World::with(&config);
    let mut room = world.connect_many("/room", full + WORKERS);
    world.await_total(Stat::Topics, WORKERS as u64);
    // One on each worker stays.
    room.drain(..full);
    world.await_total(Stat::ConnectedClients, WORKERS as u64);
    assert_eq!(by_shard(&world, "fanwire_shard_clients"), [1; WORKERS]);
    room.extend(world.connect_many("/room", MORE));
    world.await_total(Stat::ConnectedClients, (WORKERS + MORE) as u64);
    let lives = by_shard(&world, "fanwire_shard_clients");
    assert_eq!(lives, [1, 1, 1, 1 + MORE]);
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
    assert!(most <= average + average / 8 + 1, "{most} on a shard");
    drop(room);
    world.end();
}

#[test]
fn pairs_move_to_the_owner_of_their_topic_and_need_no_other_thread() {
    let world = World::with(&config(WORKERS));
    let crowd = bystanders(&world);
    let mut lives = clients_by_shard(&world, BYSTANDERS);
    let moved_before = world.total(Stat::Transferred);
    let mut pairs: Vec<[Wire; 2]> = Vec::new();
    for n in 0..16 {
        let pair = [0, 1].map(|_| world.join(&format!("/pair/{n}")));
        let settled = BYSTANDERS + 2 * pairs.len();
        let with_pair = clients_by_shard(&world, settled + 2);
        let is_together = (0..WORKERS).any(|shard| with_pair[shard] == lives[shard] + 2);
        // The crowd's owner has no room. Those whom it would own may be on two shards, and leave again.
        if is_together {
            pairs.push(pair);
            lives = with_pair;
        } else {
            drop(pair);
            assert_eq!(clients_by_shard(&world, settled), lives);
        }
    }
    // Every shard has told the owners which topics are gone.
    let topics = pairs.len() as u64;
    world.await_total(Stat::Topics, WORKERS as u64 + topics);
    world.await_total(Stat::OwnedTopics, 1 + topics);
    assert!(pairs.len() >= 4, "{} are together", pairs.len());
    assert!(world.total(Stat::Transferred) > moved_before);
    world.await_rest();
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
    for (more, all) in [(16, 16), (200, 216)] {
        crowd.extend((0..more).map(|_| world.join("/room")));
        world.await_total(Stat::ConnectedClients, (BYSTANDERS + all) as u64);
        let most = most_on_a_shard(&world);
        let average = (BYSTANDERS + all) / WORKERS;
        assert!(most <= average + average / 8 + 1, "{most} on a shard");
    }
    assert!(world.total(Stat::Transferred) > 0);
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
fn an_encrypted_room_fills_a_worker_as_well() {
    let (config, full) = gathering();
    let tls = TlsWorld::with(config);
    let clients = full + WORKERS;
    let mut room: Vec<_> = (0..clients).map(|_| tls.connect("/room")).collect();
    tls.world.await_total(Stat::Topics, WORKERS as u64);
    for publisher in full - 1..clients {
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
