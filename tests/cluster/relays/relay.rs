//! One relay: real shards with invented sockets, and connections to the model of the engine.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::time::Duration;

use fanwire::config::Config;
use fanwire::internals::cluster::{Action, EngineSettings, Lane, Reply};
use fanwire::internals::port::Epoch;
use fanwire::internals::relay::{
    Budgets, Cluster, ClusterSettings, Effect, Envelope, Filled, Host, Readiness, Router, Settings,
    Shard, Transfer, Turn, Written,
};
use fanwire::internals::{ClientKey, ShardId, Timestamp, WallTime};

/// A client's socket, on the relay's side.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    /// Bytes that the relay has not read.
    pub(crate) unread: Vec<u8>,
    /// The client has ended its side.
    pub(crate) is_ended: bool,
    /// Bytes that the client has not read.
    pub(crate) sent: VecDeque<u8>,
    /// The client's side takes so many bytes.
    pub(crate) room: usize,
    /// A write was cut short.
    pub(crate) is_blocked: bool,
    /// The relay has closed it.
    pub(crate) is_closed: bool,
}

/// News of an engine's connection.
#[derive(Debug)]
pub(crate) enum News {
    Connected(Lane),
    Closed(Lane),
    Reply(Lane, Reply),
}

/// The world of one shard between its turns.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    now: Timestamp,
    pub(crate) sockets: BTreeMap<u32, Socket>,
    generations: BTreeMap<u32, u32>,
    pub(crate) events: VecDeque<(ClientKey, Readiness)>,
    pub(crate) mail: VecDeque<Envelope>,
    posted: Vec<(ShardId, Envelope)>,
    pub(crate) news: VecDeque<News>,
    pub(crate) actions: Vec<Action>,
}

impl Outside {
    pub(crate) fn socket(&mut self, key: ClientKey) -> Option<&mut Socket> {
        let is_it = self.generations.get(&key.slot) == Some(&key.generation);
        self.sockets.get_mut(&key.slot).filter(|_| is_it)
    }
}

impl Host for Outside {
    fn now(&mut self) -> Timestamp {
        self.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        while let Some((key, readiness)) = self.events.pop_front() {
            if self.socket(key).is_some() {
                return Some((key, readiness));
            }
        }
        None
    }

    fn take_mail(&mut self, shard: &mut Shard) {
        for envelope in std::mem::take(&mut self.mail) {
            shard.handle(envelope);
        }
    }

    fn is_congested(&mut self) -> bool {
        false
    }

    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        let Some(socket) = self.socket(key) else {
            return Filled::Failed;
        };
        let mut bytes = std::mem::take(&mut socket.unread);
        let is_ended = socket.is_ended;
        if bytes.is_empty() {
            return if is_ended { Filled::Eof } else { Filled::Empty };
        }
        let count = bytes.len();
        shard.on_bytes(key, &mut bytes);
        if is_ended {
            Filled::More(count)
        } else {
            Filled::Last(count)
        }
    }

    fn hand_over(&mut self, _: ClientKey, _: ShardId, _: Transfer) {
        unreachable!("clients stay");
    }

    fn write(&mut self, key: ClientKey, slices: &[IoSlice<'_>], offered: usize) -> Option<Written> {
        let socket = self.socket(key)?;
        let taken = offered.min(socket.room);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        socket.sent.extend(bytes.take(taken));
        socket.room -= taken;
        let written = Written::plain(taken, offered);
        socket.is_blocked |= written.is_blocked;
        Some(written)
    }

    fn post(&mut self, to: ShardId, envelope: Envelope) {
        self.posted.push((to, envelope));
    }

    fn apply(&mut self, effect: Effect) {
        if let Effect::Close(key) = effect
            && let Some(socket) = self.socket(key)
        {
            socket.is_closed = true;
        }
    }

    fn take_engine_news(&mut self, shard: &mut Shard) {
        let now = self.now;
        let may_read = shard.takes_arrivals();
        let cluster = shard.cluster_mut().expect("it has engines");
        let engine = &mut cluster.engines_mut()[0];
        engine.note_unread(Lane::Subscriber, !may_read, now);
        for news in self.news.drain(..) {
            match news {
                News::Connected(lane) => engine.on_connected(lane, now),
                News::Closed(lane) => engine.on_closed(lane, now),
                News::Reply(lane, reply) => engine.on_reply(lane, &reply, now),
            }
        }
    }

    fn act_on_engine(&mut self, engine: usize, action: Action) {
        assert_eq!(engine, 0, "there is one engine");
        self.actions.push(action);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) turns: Vec<Turn>,
    pub(crate) outsides: Vec<Outside>,
    pub(crate) is_draining: bool,
}

impl Relay {
    pub(crate) fn new(
        config: &Config,
        settings: &EngineSettings,
        times: ClusterSettings,
        (shards, seed): (u16, u64),
        now: Timestamp,
    ) -> Self {
        let router = Router::new(shards, seed);
        let of_shards = Settings::new(config, shards).in_epoch(Epoch::from_bits(seed | 1 << 60));
        let turns = (0..shards).map(|id| {
            let mut shard = Shard::new(ShardId(id), of_shards.clone(), router, now);
            let settings = EngineSettings {
                worker: id,
                ..settings.clone()
            };
            let seed = seed.wrapping_mul(7).wrapping_add(u64::from(id));
            shard.join_cluster(Cluster::new([("a".into(), settings)], times, seed, now));
            Turn::new(shard, Budgets::default(), now)
        });
        Relay {
            turns: turns.collect(),
            outsides: (0..shards).map(|_| Outside::default()).collect(),
            is_draining: false,
        }
    }

    /// Accepts a connection.
    pub(crate) fn accept(&mut self, shard: usize, room: usize) -> ClientKey {
        let key = self.turns[shard].shard.accept();
        self.turns[shard]
            .shard
            .set_wall_time(WallTime(Duration::ZERO));
        let outside = &mut self.outsides[shard];
        let socket = Socket {
            room,
            ..Socket::default()
        };
        outside.sockets.insert(key.slot, socket);
        outside.generations.insert(key.slot, key.generation);
        key
    }

    /// Takes turns until no shard has anything to do.
    pub(crate) fn rest(&mut self, now: Timestamp) {
        for rounds in 0.. {
            assert!(rounds < 2_000, "there is no end of turns");
            let mut has_run = false;
            for shard in 0..self.turns.len() {
                if self.is_awake(shard, now) {
                    self.run(shard, now);
                    has_run = true;
                }
            }
            if !has_run {
                return;
            }
        }
    }

    fn is_awake(&mut self, shard: usize, now: Timestamp) -> bool {
        let outside = &self.outsides[shard];
        let has_news =
            !outside.events.is_empty() || !outside.mail.is_empty() || !outside.news.is_empty();
        let sleep = self.turns[shard].sleep(now);
        has_news || sleep.ends_at().is_some_and(|end| end <= now)
    }

    pub(crate) fn run(&mut self, shard: usize, now: Timestamp) {
        let outside = &mut self.outsides[shard];
        outside.now = now;
        self.turns[shard].run(outside);
        self.turns[shard].shard.check();
        for (to, envelope) in std::mem::take(&mut self.outsides[shard].posted) {
            self.outsides[to.index()].mail.push_back(envelope);
        }
    }

    /// The next time at which a shard wants a turn, later than `now`.
    pub(crate) fn next_wake(&mut self, now: Timestamp) -> Option<Timestamp> {
        let turns = self.turns.iter_mut();
        turns.filter_map(|turn| turn.sleep(now).ends_at()).min()
    }
}
