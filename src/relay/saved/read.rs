//! Reads the bytes of a history file, in pieces of any length.
//!
//! It trusts nothing: no length makes it reserve more than the file has, or more than is wanted of a batch. It keeps one
//! batch at most.

use bytes::Bytes;
use crc32fast::Hasher;

use super::{BATCH_HEAD, Damage, MAGIC, TAG_BATCH, TAG_END, TAG_TOPIC, VERSION};
use crate::ids::Seq;
use crate::port::position::{Epoch, MAX_NUMBER};
use crate::port::topic_name::{MAX_TOPIC_BYTES, TopicName};
use crate::relay::batch::restored::Frames;
use crate::relay::owner::keepsake::Amount;

/// A part of the file.
#[derive(Debug)]
pub(super) enum Part {
    /// The head.
    Head {
        /// The time of day at which the file was written, in microseconds since the Unix epoch.
        saved_at: u64,
        /// New topics start here.
        high_water: Seq,
        /// The epoch of all numbers.
        epoch: Epoch,
    },
    /// The beginning of a topic.
    Topic {
        /// Its name.
        name: TopicName,
        /// The number of its first message since it is known.
        born: Seq,
        /// The number of its next message.
        next: Seq,
    },
    /// The next batch of that topic.
    Batch {
        /// The number of its first message.
        first: Seq,
        /// Its messages.
        frames: Frames,
        /// The time of day at which it was numbered.
        numbered_at: u64,
    },
    /// A batch of that topic that is larger than wanted.
    Oversized,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    input: Input,
    /// A longer batch is not wanted.
    max_batch_bytes: u64,
    state: State,
    high_water: Seq,
    saved_at: u64,
    found: Amount,
    /// The topic that is read.
    topic: Progress,
}

/// Bytes that are handed in and not read.
#[derive(Debug)]
struct Input {
    buffer: Vec<u8>,
    at: usize,
    /// Bytes of the file that are not handed in.
    rest: u64,
    checksum: Hasher,
}

#[derive(Debug)]
enum State {
    Head,
    /// Between two topics.
    Next,
    /// Before this many batches of a topic, one at least.
    Batches(u32),
    /// In the frames of a batch, with `left` batches behind it.
    Frames {
        bytes: Vec<u8>,
        missing: usize,
        batch: BatchHead,
        left: u32,
    },
    /// In the frames of a batch that is not wanted.
    Skipped {
        missing: u64,
        left: u32,
    },
    Checksum,
    End,
}

#[derive(Clone, Copy, Debug)]
struct BatchHead {
    first: Seq,
    messages: u32,
    numbered_at: u64,
}

/// The place in a topic.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The number of the next batch's first message.
    at: Seq,
    /// The number of the topic's next message.
    next: Seq,
    /// The time of the last batch.
    numbered_at: u64,
}

impl Input {
    fn waiting(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// The next `count` bytes, once they are here. They stay.
    fn peek(&self, count: usize) -> Option<&[u8]> {
        self.waiting().get(..count)
    }

    /// Takes `count` bytes that are here.
    fn take(&mut self, count: usize) -> &[u8] {
        let taken = &self.buffer[self.at..self.at + count];
        self.checksum.update(taken);
        self.at += count;
        taken
    }

    /// Bytes of the file that are not read.
    fn unread(&self) -> u64 {
        self.waiting().len() as u64 + self.rest
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
        self.rest = self.rest.saturating_sub(bytes.len() as u64);
    }
}

impl Reader {
    /// A reader of a file of `file_bytes`. Batches of more than `max_batch_bytes` are passed over.
    pub(super) fn new(file_bytes: u64, max_batch_bytes: u64) -> Reader {
        Reader {
            input: Input {
                buffer: Vec::new(),
                at: 0,
                rest: file_bytes,
                checksum: Hasher::new(),
            },
            max_batch_bytes,
            state: State::Head,
            high_water: Seq(0),
            saved_at: 0,
            found: Amount::default(),
            topic: Progress::default(),
        }
    }

    /// Hands in the next bytes of the file. Call [`Reader::next`] until it has nothing more, and then this again.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
    }

    /// How much was in the file.
    pub(super) fn found(&self) -> Amount {
        self.found
    }

    /// The next part. `None` if it is not here yet, or at the end.
    ///
    /// # Errors
    /// The file is damaged. The parts before may be damaged, too: only the whole file has a checksum.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Damage> {
        loop {
            let part = match &mut self.state {
                State::Head => self.read_head()?,
                State::Next => self.read_tag()?,
                State::Batches(_) => self.read_batch_head()?,
                State::Frames { .. } => self.read_frames()?,
                State::Skipped { .. } => self.skip_frames(),
                State::Checksum => self.read_checksum()?,
                State::End => Step::Wait,
            };
            match part {
                Step::Part(part) => return Ok(Some(part)),
                Step::Nothing => {}
                Step::Wait => return Ok(None),
            }
        }
    }

    /// The file has ended.
    ///
    /// # Errors
    /// Something is missing, or follows.
    pub(super) fn finish(&self) -> Result<(), Damage> {
        match self.state {
            State::End if self.input.unread() == 0 => Ok(()),
            State::End => Err(Damage::TooLong),
            State::Head
            | State::Next
            | State::Batches(_)
            | State::Frames { .. }
            | State::Skipped { .. }
            | State::Checksum => Err(Damage::Truncated),
        }
    }

    fn read_head(&mut self) -> Result<Step, Damage> {
        const FIXED: usize = MAGIC.len() + 4 + 8 + 8 + 1;
        let waiting = self.input.waiting();
        let known = waiting.len().min(MAGIC.len());
        if waiting[..known] != MAGIC[..known] {
            return Err(Damage::NotAHistory);
        }
        let Some(version) = waiting.get(MAGIC.len()..MAGIC.len() + 4) else {
            return Ok(Step::Wait);
        };
        let version = u32_of(version);
        if version != VERSION {
            return Err(Damage::OtherVersion(version));
        }
        let Some(fixed) = self.input.peek(FIXED) else {
            return Ok(Step::Wait);
        };
        let saved_at = u64_of(&fixed[20..28]);
        let high_water = number_of(&fixed[28..36])?;
        let len = FIXED + usize::from(fixed[36]);
        if self.input.peek(len).is_none() {
            return Ok(Step::Wait);
        }
        let epoch = std::str::from_utf8(&self.input.take(len)[FIXED..]).ok();
        let epoch = epoch.and_then(|epoch| epoch.parse().ok());
        let epoch = epoch.ok_or(Damage::Impossible("its epoch"))?;
        (self.high_water, self.saved_at) = (high_water, saved_at);
        self.state = State::Next;
        Ok(Step::Part(Part::Head {
            saved_at,
            high_water,
            epoch,
        }))
    }

    fn read_tag(&mut self) -> Result<Step, Damage> {
        match self.input.peek(1) {
            None => Ok(Step::Wait),
            Some(&[TAG_TOPIC]) => self.read_topic(),
            Some(&[TAG_END]) => self.read_end(),
            Some(_) => Err(Damage::Impossible("no topic begins where one should")),
        }
    }

    fn read_topic(&mut self) -> Result<Step, Damage> {
        let Some(start) = self.input.peek(3) else {
            return Ok(Step::Wait);
        };
        let name_len = usize::from(u16::from_le_bytes([start[1], start[2]]));
        if name_len > MAX_TOPIC_BYTES {
            return Err(Damage::Impossible("the name of a topic is too long"));
        }
        let len = 3 + name_len + 3 * 8 + 4;
        if self.input.peek(len).is_none() {
            return Ok(Step::Wait);
        }
        let head = self.input.take(len);
        let (name, numbers) = head[3..].split_at(name_len);
        let name = std::str::from_utf8(name);
        let name = name.map_err(|_| Damage::Impossible("the name of a topic is not text"))?;
        let name = name.into();
        let [born, oldest, next] = [0, 8, 16].map(|at| number_of(&numbers[at..at + 8]));
        let (born, oldest, next) = (born?, oldest?, next?);
        let batches = u32_of(&numbers[24..]);
        let is_sound = born <= oldest && oldest <= next && next <= self.high_water;
        if !is_sound || (batches == 0) != (oldest == next) {
            return Err(Damage::Impossible("the numbers of a topic"));
        }
        self.found.topics += 1;
        self.topic = Progress {
            at: oldest,
            next,
            numbered_at: 0,
        };
        self.state = if batches == 0 {
            State::Next
        } else {
            State::Batches(batches)
        };
        Ok(Step::Part(Part::Topic { name, born, next }))
    }

    fn read_batch_head(&mut self) -> Result<Step, Damage> {
        let State::Batches(batches) = self.state else {
            unreachable!("called before a batch");
        };
        if self.input.peek(BATCH_HEAD).is_none() {
            return Ok(Step::Wait);
        }
        let head = self.input.take(BATCH_HEAD);
        if head[0] != TAG_BATCH {
            return Err(Damage::Impossible("no batch begins where one should"));
        }
        let batch = BatchHead {
            first: self.topic.at,
            messages: u32_of(&head[9..13]),
            numbered_at: u64_of(&head[1..9]),
        };
        let len = u32_of(&head[13..]);
        let is_in_order = (self.topic.numbered_at..=self.saved_at).contains(&batch.numbered_at);
        if !is_in_order {
            return Err(Damage::Impossible("the time of a batch"));
        }
        let end = Seq(batch.first.0 + u64::from(batch.messages));
        let left = batches - 1;
        let is_sound = batch.messages > 0 && end <= self.topic.next;
        if !is_sound || (left == 0) != (end == self.topic.next) {
            return Err(Damage::Impossible("the numbers of a batch"));
        }
        if u64::from(len) > self.input.unread() {
            return Err(Damage::Truncated);
        }
        self.topic.at = end;
        self.topic.numbered_at = batch.numbered_at;
        self.found.note(u64::from(batch.messages), u64::from(len));
        if u64::from(len) > self.max_batch_bytes {
            let missing = u64::from(len);
            self.state = State::Skipped { missing, left };
            return Ok(Step::Part(Part::Oversized));
        }
        // It is at most what is wanted, and the file has as much.
        let missing = len as usize;
        self.state = State::Frames {
            bytes: Vec::with_capacity(missing),
            missing,
            batch,
            left,
        };
        Ok(Step::Nothing)
    }

    fn read_frames(&mut self) -> Result<Step, Damage> {
        let State::Frames {
            bytes,
            missing,
            batch,
            left,
        } = &mut self.state
        else {
            unreachable!("called in a batch");
        };
        let count = self.input.waiting().len().min(*missing);
        bytes.extend_from_slice(self.input.take(count));
        *missing -= count;
        if *missing > 0 {
            return Ok(Step::Wait);
        }
        let (batch, left) = (*batch, *left);
        let frames = Frames::read(Bytes::from(std::mem::take(bytes)));
        let frames = frames.filter(|frames| frames.len() == batch.messages as usize);
        let frames = frames.ok_or(Damage::Impossible("the messages of a batch"))?;
        self.state = after_batch(left);
        Ok(Step::Part(Part::Batch {
            first: batch.first,
            frames,
            numbered_at: batch.numbered_at,
        }))
    }

    fn skip_frames(&mut self) -> Step {
        let State::Skipped { missing, left } = &mut self.state else {
            unreachable!("called in a batch");
        };
        let waiting = self.input.waiting().len() as u64;
        // No more than what is here.
        let count = waiting.min(*missing) as usize;
        self.input.take(count);
        *missing -= count as u64;
        if *missing > 0 {
            return Step::Wait;
        }
        self.state = after_batch(*left);
        Step::Nothing
    }

    fn read_end(&mut self) -> Result<Step, Damage> {
        const LEN: usize = 1 + 8 + 8;
        if self.input.peek(LEN).is_none() {
            return Ok(Step::Wait);
        }
        let end = self.input.take(LEN);
        let (topics, messages) = (u64_of(&end[1..9]), u64_of(&end[9..]));
        if (topics, messages) != (self.found.topics, self.found.messages) {
            return Err(Damage::Impossible("its totals"));
        }
        self.state = State::Checksum;
        Ok(Step::Nothing)
    }

    fn read_checksum(&mut self) -> Result<Step, Damage> {
        let Some(told) = self.input.peek(4) else {
            return Ok(Step::Wait);
        };
        let told = u32_of(told);
        if self.input.checksum.clone().finalize() != told {
            return Err(Damage::Checksum);
        }
        self.input.take(4);
        self.state = State::End;
        Ok(Step::Nothing)
    }
}

/// The outcome of a step of the reader.
enum Step {
    Part(Part),
    /// The next step may have something.
    Nothing,
    /// More bytes are needed.
    Wait,
}

fn after_batch(left: u32) -> State {
    if left == 0 {
        State::Next
    } else {
        State::Batches(left)
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// The number of a message.
fn number_of(bytes: &[u8]) -> Result<Seq, Damage> {
    let number = u64_of(bytes);
    if number >= MAX_NUMBER {
        return Err(Damage::Impossible("a number of a message is too high"));
    }
    Ok(Seq(number))
}
