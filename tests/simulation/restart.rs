//! The relay is started again: from the bytes that the last process has left, from damaged ones, or from none. The next process
//! may have another number of shards. The model goes on, so numbers are compared over all processes of an epoch.

use std::collections::VecDeque;
use std::time::Duration;

use fanwire::internals::port::Epoch;
use fanwire::internals::relay::{
    Budgets, Clocks, Keepsake, Restored, Restoring, Router, Settings, Shard, Writer,
};
use fanwire::internals::{Timestamp, WallTime};

use crate::host::Host;
use crate::plan::Plan;
use crate::tally::Event;
use crate::world::World;

/// The time of day when the clock of the world is 0.
const WALL: Duration = Duration::from_secs(1_700_000_000);

/// The time on both clocks.
fn clocks(now: Timestamp) -> Clocks {
    Clocks {
        now,
        wall: WallTime(WALL + now.since(Timestamp(0))),
    }
}

/// The hosts of these shards.
fn hosts(plan: &Plan, shards: Vec<Shard>, now: Timestamp) -> Vec<Host> {
    let budgets = Budgets {
        // Enough for a world at rest to stay so.
        flush_clients: plan.flush_budget.max(16),
        step_frames: plan.step_frames,
        ..Budgets::default()
    };
    let shards = shards.into_iter();
    shards
        .map(|shard| Host::new(shard, budgets, plan.scratch_bytes, plan.shards, now))
        .collect()
}

/// The router of a relay, and the hosts of its first process.
pub(crate) fn first_hosts(plan: &Plan, now: Timestamp) -> (Router, Vec<Host>) {
    let shards = u16::try_from(plan.shards).expect("a few");
    let router = Router::new(shards, plan.router_seed);
    let settings = Settings::new(&plan.config, shards);
    let restored = Restored::empty(&settings, router, clocks(now));
    (router, hosts(plan, restored.shards, now))
}

/// A host takes another configuration once in so many turns.
const TURNS_PER_RELOAD: usize = 400;

impl World {
    /// Sometimes the configuration was read again. The model holds for each of them: intervals differ, and nothing else.
    pub(crate) fn perhaps_reconfigure(&mut self, shard: &mut Shard) {
        if self.rng.below(TURNS_PER_RELOAD) > 0 {
            return;
        }
        let mut config = self.plan.config.clone();
        if self.rng.percent(50) {
            config.relay.coalesce /= 2;
        }
        if self.rng.percent(50) {
            config.keepalive.ping_interval *= 2;
        }
        shard.reconfigure(Settings::new(&config, self.plan.shards as u16));
        self.tally.note(Event::Reload);
    }

    /// Keeps what the host leaves to the next process, once it is final.
    pub(crate) fn keep_if_final(&mut self, host: usize, shard: &Shard) {
        let host = &mut self.hosts[host];
        if shard.is_history_final() && host.keepsake.is_none() {
            host.keepsake = Some(shard.keepsake());
            let topics = self.plan.topics.iter();
            host.left_numbers = topics.map(|topic| shard.numbers(topic)).collect();
        }
    }

    /// Starts the relay again, if the plan says so.
    pub(crate) fn restart(&mut self) -> bool {
        if self.plan.restarts == 0 {
            return false;
        }
        self.plan.restarts -= 1;
        let keepsakes = self.hosts.iter_mut().map(|host| host.keepsake.take());
        let keepsakes: Option<Vec<Keepsake>> = keepsakes.collect();
        let bytes = keepsakes.map(|keepsakes| self.file_of(keepsakes));
        let numbers: Vec<_> = (0..self.plan.topics.len())
            .map(|topic| {
                let mut left = self.hosts.iter().map(|host| host.left_numbers.get(topic));
                left.find_map(|numbers| *numbers?)
            })
            .collect();
        let away = self.rng.pick(&[0, 50, 2_000, 90_000, 7_200_000]);
        self.now = self.now + Duration::from_millis(away);
        let shards = self.rng.within(1..=4);
        let has_others = shards != self.plan.shards;
        self.plan.shards = shards;
        // A few shards.
        self.router = Router::new(shards as u16, self.rng.next());
        let fresh = Epoch::from_bits(self.rng.next());
        let settings = Settings::new(&self.plan.config, shards as u16).in_epoch(fresh);
        let (restored, event) = match bytes {
            None => {
                let restored = Restored::empty(&settings, self.router, clocks(self.now));
                (restored, Event::RestartWithout)
            }
            Some(bytes) if self.rng.percent(20) => {
                let bytes = self.damaged(bytes);
                let restored = self.restore(settings, &bytes);
                assert!(restored.outcome.is_err(), "damage is not found");
                (restored, Event::RestartDamaged)
            }
            Some(bytes) => {
                let restored = self.restore(settings, &bytes);
                let outcome = &restored.outcome;
                assert!(outcome.is_ok(), "a sound file is refused: {outcome:?}");
                let event = if has_others {
                    Event::RestartWithOthers
                } else {
                    Event::Restart
                };
                (restored, event)
            }
        };
        self.tell(|| format!("{event:?}, {away} ms later, with {shards} shards"));
        self.tally.note(event);
        let is_new = matches!(event, Event::RestartWithout | Event::RestartDamaged);
        let expected = if is_new { fresh } else { self.model.epoch() };
        assert_eq!(restored.epoch, expected, "the epoch after a restart");
        for shard in &restored.shards {
            shard.check();
        }
        self.hosts = hosts(&self.plan, restored.shards, self.now);
        self.model.restart(shards, is_new.then_some(fresh));
        self.check_numbers(&numbers, is_new);
        self.begin_anew();
        true
    }

    /// The bytes that a relay writes.
    fn file_of(&self, keepsakes: Vec<Keepsake>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let writer = Writer::new(keepsakes, clocks(self.now));
        let written = writer.write(self.model.epoch(), |piece| {
            bytes.extend_from_slice(piece);
            Ok::<_, ()>(())
        });
        written.expect("nothing fails here");
        bytes
    }

    fn restore(&mut self, settings: Settings, bytes: &[u8]) -> Restored {
        let (router, clocks) = (self.router, clocks(self.now));
        let mut restoring = Restoring::new(settings, router, clocks, bytes.len() as u64);
        let step = self.rng.within(1..=bytes.len());
        for piece in bytes.chunks(step) {
            if !restoring.push(piece) {
                break;
            }
        }
        restoring.finish()
    }

    fn damaged(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = self.rng.below(bytes.len());
        if self.rng.percent(30) {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << self.rng.below(8);
        }
        bytes
    }

    /// Of each topic, the numbers of its first message and of its next one.
    fn numbers(&self) -> Vec<Option<(u64, u64)>> {
        let numbers = |topic: &&str| {
            let owner = self.router.owner(topic);
            self.hosts[owner.index()].shard().numbers(topic)
        };
        self.plan.topics.iter().map(numbers).collect()
    }

    /// Topics have the numbers that they had before, or are forgotten with all that was too old.
    fn check_numbers(&self, before: &[Option<(u64, u64)>], is_new: bool) {
        for (topic, (before, after)) in before.iter().zip(self.numbers()).enumerate() {
            let is_right = match after {
                None => is_new || before.is_none() || !self.plan.keeps_everything(),
                Some(_) => !is_new && after == *before,
            };
            assert!(is_right, "topic {topic} had {before:?} and has {after:?}");
        }
    }

    /// Nobody is there. The clients of the last process are gone, and as many may come.
    fn begin_anew(&mut self) {
        for peer in &mut self.peers {
            (peer.host, peer.key) = (0, None);
            peer.has_vanished = true;
            peer.is_listed = false;
        }
        let hosts = self.hosts.len();
        self.links = (0..hosts)
            .map(|_| (0..hosts).map(|_| VecDeque::new()).collect())
            .collect();
        self.outside_bytes = vec![vec![0; self.plan.topics.len()]; hosts];
        self.plan.clients += self.peers.len();
        if let Some(end) = &mut self.plan.end_at {
            end.step += self.step.get();
        }
        (self.is_draining, self.is_cut) = (false, false);
    }
}
