//! Any bytes, in any pieces, as the history that an earlier process has left.
//!
//! It checks:
//!
//! - The outcome does not depend on how the bytes are cut.
//! - Damage makes empty shards in the new epoch. Otherwise the epoch is that of the file.
//! - Shards are sound and hold no more than they may, also if the file is damaged.
//! - A history that was read is written again and read again without a loss, and the second time the bytes are the same.
//!
//! The input is a byte of settings, the seconds since the file was written, four sizes of reads, and the file. With bit 0 of the
//! settings, the last four bytes are made the right checksum, because a fuzzer would not find it. Bits 1 and 2 are the number
//! of shards, and bit 3 asks for tight limits.

use std::time::Duration;

use fanwire::config::Config;
use fanwire::internals::port::Epoch;
use fanwire::internals::relay::{
    Clocks, Damage, Restored, Restoring, Router, Settings, Shard, Taken, Writer,
};
use fanwire::internals::{Timestamp, WallTime};
use fanwire::server::Stat;

use super::input::{self, Input};

/// The time at which the files of the corpus were written.
const SAVED_AT: Duration = Duration::from_secs(1_700_000_000);

/// See the module.
pub fn run(bytes: &[u8]) {
    let _outcome = play(bytes);
}

/// The same, and says what was read.
pub fn play(bytes: &[u8]) -> Result<Taken, Damage> {
    let mut input = Input::new(bytes);
    let settings = input.byte();
    let away = Duration::from_secs(input.byte().into());
    let reads = input.reads();
    let mut file = input.rest().to_vec();
    if settings & 1 != 0 {
        sign(&mut file);
    }
    let world = World {
        config: config(settings & 8 != 0),
        shards: u16::from(settings >> 1 & 3) + 1,
        clocks: Clocks {
            now: Timestamp(90_000_000_000),
            wall: WallTime(SAVED_AT + away),
        },
    };
    let whole = world.restore(std::iter::once(&file[..]), file.len());
    let cut = world.restore(input::pieces(&file, reads), file.len());
    assert_eq!(
        whole.outcome, cut.outcome,
        "how a file is cut changes nothing"
    );
    assert_eq!(whole.epoch, cut.epoch);
    world.check(&whole);
    world.check(&cut);
    if whole.outcome.is_err() {
        assert_eq!(whole.epoch, fresh(), "damage begins a new epoch");
        return whole.outcome;
    }
    let outcome = whole.outcome;
    let written = world.write(&whole);
    let again = world.restore(std::iter::once(&written[..]), written.len());
    let taken = again.outcome.expect("what was written can be read");
    assert_eq!(taken.found, taken.kept, "nothing is lost");
    world.check(&again);
    assert!(world.write(&again) == written, "the same is written again");
    outcome
}

struct World {
    config: Config,
    shards: u16,
    clocks: Clocks,
}

impl World {
    fn restore<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>, len: usize) -> Restored {
        let settings = Settings::new(&self.config, self.shards).in_epoch(fresh());
        let router = Router::new(self.shards, 1);
        let mut restoring = Restoring::new(settings, router, self.clocks, len as u64);
        for piece in pieces {
            if !restoring.push(piece) {
                break;
            }
        }
        restoring.finish()
    }

    fn check(&self, restored: &Restored) {
        assert_eq!(restored.shards.len(), usize::from(self.shards));
        let share = self.config.limits.max_buffered_bytes as u64 / u64::from(self.shards);
        for shard in &restored.shards {
            shard.check();
            let held = shard.stats().value(Stat::HistoryBytes);
            assert!(held <= share, "{held} bytes of {share}");
            let is_empty = shard.stats().value(Stat::OwnedTopics) == 0;
            assert!(
                is_empty || restored.outcome.is_ok(),
                "damage leaves nothing"
            );
        }
    }

    fn write(&self, restored: &Restored) -> Vec<u8> {
        let keepsakes = restored.shards.iter().map(Shard::keepsake);
        let mut bytes = Vec::new();
        let writer = Writer::new(keepsakes.collect(), self.clocks);
        let written = writer.write(restored.epoch, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<_, ()>(())
        });
        written.expect("nothing fails here");
        bytes
    }
}

fn config(is_tight: bool) -> Config {
    let mut config = Config::default();
    config.history.max_age = Duration::from_mins(1);
    config.limits.max_buffered_bytes = 16 << 20;
    if is_tight {
        config.history.max_bytes = 2 << 10;
        config.history.max_messages = 3;
        config.slow_consumer.max_lag_bytes = 1 << 10;
        config.limits.max_buffered_bytes = 16 << 10;
    }
    config
}

fn fresh() -> Epoch {
    Epoch::from_bits(1)
}

/// Makes the last four bytes the checksum of the rest: CRC-32, bit by bit, as an independent second reader has it.
fn sign(file: &mut [u8]) {
    let Some(end) = file.len().checked_sub(4) else {
        return;
    };
    let mut checksum = u32::MAX;
    for &byte in &file[..end] {
        checksum ^= u32::from(byte);
        for _ in 0..8 {
            let is_odd = checksum & 1 != 0;
            checksum >>= 1;
            if is_odd {
                checksum ^= 0xedb8_8320;
            }
        }
    }
    file[end..].copy_from_slice(&(!checksum).to_le_bytes());
}
