//! Makes the bytes of a history file.

use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;

use super::{BATCH_HEAD, MAGIC, TAG_BATCH, TAG_END, TAG_TOPIC, VERSION};
use crate::ids::Seq;
use crate::port::position::Epoch;
use crate::port::terms::Form;
use crate::relay::batch::Batch;
use crate::relay::owner::keepsake::{Amount, Keepsake, KeptTopic};
use crate::time::{Timestamp, WallTime};

/// One moment on two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The clock of the shards.
    pub now: Timestamp,
    /// The time of day.
    pub wall: WallTime,
}

impl Clocks {
    /// The time of day, in microseconds since the Unix epoch.
    pub(super) fn wall_micros(self) -> u64 {
        // 2⁶⁴ µs are half a million years.
        self.wall.0.as_micros() as u64
    }

    /// The time of day of an earlier moment.
    fn wall_of(self, then: Timestamp) -> u64 {
        let age = self.now.since(then).as_micros() as u64;
        self.wall_micros().saturating_sub(age)
    }

    /// The moment on the clock of the shards that had this time of day. A later time than now is now: the system's clock was
    /// set back.
    pub(super) fn moment_of(self, wall_micros: u64) -> Timestamp {
        let age = self.wall_micros().saturating_sub(wall_micros);
        Timestamp(self.now.0.saturating_sub(age))
    }
}

/// The file that a relay leaves, piece by piece.
#[derive(Debug)]
pub struct Writer {
    keepsakes: Vec<Keepsake>,
    clocks: Clocks,
    checksum: Hasher,
    amount: Amount,
}

impl Writer {
    /// A file of what all owners of a relay leave.
    pub fn new(keepsakes: Vec<Keepsake>, clocks: Clocks) -> Writer {
        Writer {
            keepsakes,
            clocks,
            checksum: Hasher::new(),
            amount: Amount::default(),
        }
    }

    /// Hands all pieces to `put`, in order, until it fails. Returns how much is in them.
    ///
    /// # Errors
    /// The error of `put`.
    pub fn write<E>(
        mut self,
        epoch: Epoch,
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Amount, E> {
        let keepsakes = std::mem::take(&mut self.keepsakes);
        let high_water = keepsakes.iter().map(|keepsake| keepsake.high_water);
        let high_water = high_water.max().unwrap_or_default();
        let mut put = |writer: &mut Writer, piece: &[u8]| {
            writer.checksum.update(piece);
            put(piece)
        };
        let head = self.head(high_water, epoch);
        put(&mut self, &head)?;
        // Each topic is let go as soon as it is written.
        for topic in keepsakes.into_iter().flat_map(|keepsake| keepsake.topics) {
            let head = self.topic(&topic);
            put(&mut self, &head)?;
            for (batch, numbered_at) in topic.batches {
                let (head, frames) = self.batch(&batch, numbered_at);
                put(&mut self, &head)?;
                put(&mut self, &frames)?;
            }
        }
        let end = self.end();
        put(&mut self, &end)?;
        let checksum = self.checksum.clone().finalize();
        put(&mut self, &checksum.to_le_bytes())?;
        Ok(self.amount)
    }

    fn head(&self, high_water: Seq, epoch: Epoch) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend(self.clocks.wall_micros().to_le_bytes());
        head.extend(high_water.0.to_le_bytes());
        let epoch = epoch.as_str();
        // An epoch has at most 32 bytes.
        head.push(epoch.len() as u8);
        head.extend(epoch.as_bytes());
        head
    }

    fn topic(&mut self, topic: &KeptTopic) -> Vec<u8> {
        self.amount.topics += 1;
        let oldest = topic.batches.first();
        let oldest = oldest.map_or(topic.next, |(batch, _)| batch.first());
        let mut head = vec![TAG_TOPIC];
        // A name has at most 512 bytes.
        head.extend((topic.name.len() as u16).to_le_bytes());
        head.extend(topic.name.as_bytes());
        for number in [topic.born, oldest, topic.next] {
            head.extend(number.0.to_le_bytes());
        }
        // Each takes more than a hundred bytes of memory.
        head.extend((topic.batches.len() as u32).to_le_bytes());
        head
    }

    fn batch(&mut self, batch: &Arc<Batch>, numbered_at: Timestamp) -> ([u8; BATCH_HEAD], Bytes) {
        let frames = batch.encoding(Form::Frames).bytes().clone();
        self.amount.note(batch.len() as u64, frames.len() as u64);
        let mut head = [TAG_BATCH; BATCH_HEAD];
        let numbered_at = self.clocks.wall_of(numbered_at);
        head[1..9].copy_from_slice(&numbered_at.to_le_bytes());
        // An offset into a batch has 32 bits, and so has the number of its messages.
        head[9..13].copy_from_slice(&(batch.len() as u32).to_le_bytes());
        head[13..].copy_from_slice(&(frames.len() as u32).to_le_bytes());
        (head, frames)
    }

    fn end(&self) -> Vec<u8> {
        let mut end = vec![TAG_END];
        end.extend(self.amount.topics.to_le_bytes());
        end.extend(self.amount.messages.to_le_bytes());
        end
    }
}
