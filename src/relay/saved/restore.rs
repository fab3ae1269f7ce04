//! Makes the shards of a relay that begins with the history of another process.
//!
//! The host hands in the bytes of the file and gets shards in any case: those that know the history, or, if the file is
//! damaged, empty ones in an epoch of their own. A shard never holds more than its share: as in any turn, the oldest messages
//! give way.

use std::sync::Arc;
use std::time::Duration;

use super::Damage;
use super::read::{Part, Reader};
use super::write::Clocks;
use crate::ids::ShardId;
use crate::port::position::Epoch;
use crate::port::topic_name::TopicName;
use crate::relay::batch::Batch;
use crate::relay::owner::keepsake::Amount;
use crate::relay::router::Router;
use crate::relay::shard::{Settings, Shard};

/// See the module.
#[derive(Debug)]
pub struct Restoring {
    /// In the epoch of a relay that has no history to go on with.
    settings: Settings,
    router: Router,
    clocks: Clocks,
    shards: Vec<Shard>,
    epoch: Epoch,
    reader: Reader,
    damage: Option<Damage>,
    /// The time since the file was written.
    away: Duration,
    /// The topic that is read.
    topic: Option<TopicName>,
}

/// The shards of a relay, and how it begins.
#[derive(Debug)]
pub struct Restored {
    /// The shards, in order.
    pub shards: Vec<Shard>,
    /// Their epoch.
    pub epoch: Epoch,
    /// The history that they begin with.
    pub outcome: Result<Taken, Damage>,
}

/// A history that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How much was in the file.
    pub found: Amount,
    /// How much of it is kept. The rest was too old, or over a limit.
    pub kept: Amount,
    /// The time since the file was written.
    pub away: Duration,
}

impl Restored {
    /// Empty shards, in the epoch of `settings`.
    pub fn empty(settings: &Settings, router: Router, clocks: Clocks) -> Restored {
        Restored {
            shards: shards(settings, router, clocks),
            epoch: settings.epoch(),
            outcome: Ok(Taken::default()),
        }
    }
}

fn shards(settings: &Settings, router: Router, clocks: Clocks) -> Vec<Shard> {
    let shard = |id: ShardId| Shard::new(id, settings.clone(), router, clocks.now);
    router.shards().map(shard).collect()
}

impl Restoring {
    /// Shards for the history in a file of `file_bytes`. If that cannot be used, they have the epoch of `settings`.
    pub fn new(settings: Settings, router: Router, clocks: Clocks, file_bytes: u64) -> Restoring {
        let max_batch_bytes = settings.conducts().most_kept_bytes();
        Restoring {
            epoch: settings.epoch(),
            settings,
            router,
            clocks,
            shards: Vec::new(),
            reader: Reader::new(file_bytes, max_batch_bytes),
            damage: None,
            away: Duration::ZERO,
            topic: None,
        }
    }

    /// Hands in the next bytes. Says whether more of the file are of use.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        if self.damage.is_none() {
            self.reader.push(bytes);
            if let Err(damage) = self.read() {
                self.damage = Some(damage);
                // They are of no use, and may be large.
                self.shards = Vec::new();
            }
        }
        self.damage.is_none()
    }

    fn read(&mut self) -> Result<(), Damage> {
        while let Some(part) = self.reader.next()? {
            match part {
                Part::Head {
                    saved_at,
                    high_water,
                    epoch,
                } => {
                    self.away = self.clocks.now.since(self.clocks.moment_of(saved_at));
                    self.epoch = epoch;
                    let settings = self.settings.clone().in_epoch(epoch);
                    self.shards = shards(&settings, self.router, self.clocks);
                    for shard in &mut self.shards {
                        shard.start_at(high_water);
                    }
                }
                Part::Topic { name, born, next } => {
                    let retention = self.settings.conducts().of(&name).retention;
                    let max_age = retention.map(|keep| keep.max_age());
                    let left = max_age.unwrap_or_default().saturating_sub(self.away);
                    let until = self.clocks.now + left;
                    let shard = self.owner(&name);
                    if !shard.restore_topic(&name, born, next, until) {
                        return Err(Damage::Impossible("a topic is there twice"));
                    }
                    self.topic = Some(name);
                }
                Part::Batch {
                    first,
                    frames,
                    numbered_at,
                } => {
                    let numbered_at = self.clocks.moment_of(numbered_at);
                    let batch = Arc::new(Batch::restored(first, frames, numbered_at));
                    let name = self.topic();
                    self.owner(&name).restore_batch(&name, batch, numbered_at);
                }
                Part::Oversized => {
                    let name = self.topic();
                    self.owner(&name).restore_gap(&name);
                }
            }
        }
        Ok(())
    }

    /// The topic of the batch that was just read.
    fn topic(&self) -> TopicName {
        self.topic.clone().expect("a batch comes behind its topic")
    }

    fn owner(&mut self, name: &TopicName) -> &mut Shard {
        let owner = self.router.owner(name);
        &mut self.shards[owner.index()]
    }

    /// The file has ended, or its host has stopped reading it.
    pub fn finish(mut self) -> Restored {
        let end = self.damage.map_or_else(|| self.reader.finish(), Err);
        let outcome = end.map(|()| {
            let shards = self.shards.iter_mut();
            let kept = shards.fold(Amount::default(), |sum, shard| {
                sum.plus(shard.end_restoring())
            });
            Taken {
                found: self.reader.found(),
                kept,
                away: self.away,
            }
        });
        if outcome.is_err() {
            self.epoch = self.settings.epoch();
            self.shards = shards(&self.settings, self.router, self.clocks);
        }
        Restored {
            shards: self.shards,
            epoch: self.epoch,
            outcome,
        }
    }
}
