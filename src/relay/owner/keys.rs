//! The keys of requests that may be repeated (`Idempotency-Key`), and the answers that repeats get.
//!
//! The owner of the topic keeps them, because a repeat may come to any shard, and all shards ask the owner. They outlive the
//! topic: a client that repeats a request does not know whether anybody else was there meanwhile.
//!
//! The table has a fixed bound. If it is full, the oldest answers are forgotten before their time, and counted. A part whose
//! messages are not numbered yet is never forgotten, because its repeat would be published as well.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::ShardId;
use crate::port::idempotency::Digest;
use crate::relay::posting::{Claim, Name, Ticket, Verdict};
use crate::time::Timestamp;

/// The time for which a repeat gets the first answer.
const MEMORY: Duration = Duration::from_mins(5);

/// The most memory of the table, in bytes: at least five thousand keys of the longest topics.
const MAX_BYTES: usize = 4 << 20;

/// Memory of an entry besides its texts, in bytes: the name, its places in the table and in the queue, its answer.
const ENTRY_BYTES: usize = 256;

/// Memory of a repeat that waits for the first part, in bytes. A list may have twice the room that it needs.
const WAITING_BYTES: usize = 2 * size_of::<(ShardId, Ticket)>();

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys {
    entries: HashMap<Arc<Name>, Entry>,
    /// The keys in the order in which they came, which is that in which they are forgotten.
    by_age: VecDeque<(Timestamp, Arc<Name>)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    digest: Digest,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first part is not numbered yet. These wait for it, itself first.
    UnderWay(Vec<(ShardId, Ticket)>),
    /// All get this.
    Done(Verdict),
}

/// The fate of a part with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// It is the first, and is published.
    First,
    /// It is a repeat of one that is not numbered yet, and is answered with it.
    Waits,
    /// It is answered at once.
    Answered(Verdict),
}

impl Keys {
    /// A part of `from` claims its name. Answers that had to be forgotten too early are added to `forgotten`.
    pub(super) fn claim(
        &mut self,
        claim: &Claim,
        from: (ShardId, Ticket),
        now: Timestamp,
        forgotten: &mut u64,
    ) -> Claimed {
        match self.recall(claim, from, now, forgotten) {
            None => return Claimed::Waits,
            Some(Verdict::New) => {}
            Some(verdict) => return Claimed::Answered(verdict),
        }
        let Claim { name, digest } = claim;
        if !self.make_room(cost(name), forgotten) {
            return Claimed::Answered(Verdict::NoRoom);
        }
        self.by_age.push_back((now + MEMORY, name.clone()));
        let entry = Entry {
            digest: *digest,
            state: State::UnderWay(vec![from]),
        };
        self.entries.insert(name.clone(), entry);
        Claimed::First
    }

    /// The answer to a part that may be a repeat, and claims nothing if it is none; `None` if it gets the answer to the first
    /// one, once that is numbered.
    pub(super) fn recall(
        &mut self,
        claim: &Claim,
        from: (ShardId, Ticket),
        now: Timestamp,
        forgotten: &mut u64,
    ) -> Option<Verdict> {
        self.forget_expired(now);
        let Claim { name, digest } = claim;
        let Some(entry) = self.entries.get(name) else {
            return Some(Verdict::New);
        };
        if entry.digest != *digest {
            return Some(Verdict::Reused);
        }
        if let State::Done(verdict) = entry.state {
            return Some(verdict);
        }
        if !self.make_room(WAITING_BYTES, forgotten) {
            return Some(Verdict::NoRoom);
        }
        if let Some(entry) = self.entries.get_mut(name)
            && let State::UnderWay(waiting) = &mut entry.state
        {
            waiting.push(from);
        }
        None
    }

    /// Takes this much of the bound, and forgets the oldest answers for it. Says whether there is room.
    fn make_room(&mut self, bytes: usize, forgotten: &mut u64) -> bool {
        while self.bytes + bytes > MAX_BYTES {
            if !self.forget_oldest() {
                return false;
            }
            *forgotten += 1;
        }
        self.bytes += bytes;
        true
    }

    /// The first part with this name is numbered. Returns all that wait for it.
    pub(super) fn complete(
        &mut self,
        name: &Arc<Name>,
        verdict: Verdict,
    ) -> Vec<(ShardId, Ticket)> {
        let entry = self.entries.get_mut(name);
        let entry = entry.expect("what is under way is not forgotten");
        match std::mem::replace(&mut entry.state, State::Done(verdict)) {
            State::UnderWay(waiting) => {
                self.bytes -= (waiting.len() - 1) * WAITING_BYTES;
                waiting
            }
            State::Done(_) => unreachable!("a part is numbered once"),
        }
    }

    /// Returns all that wait for the first part with this name, which is under way for too long. It stays so.
    pub(super) fn dismiss(&mut self, name: &Arc<Name>) -> Vec<(ShardId, Ticket)> {
        let entry = self.entries.get_mut(name);
        let entry = entry.expect("what is under way is not forgotten");
        let State::UnderWay(waiting) = &mut entry.state else {
            return Vec::new();
        };
        let dismissed = waiting.clone();
        // The first stays in the account, whose answer means nothing any more.
        waiting.truncate(1);
        self.bytes -= (dismissed.len() - 1) * WAITING_BYTES;
        dismissed
    }

    fn forget_expired(&mut self, now: Timestamp) {
        while self.by_age.front().is_some_and(|&(end, _)| end <= now) && self.forget_oldest() {}
    }

    /// Forgets the oldest answer. Says whether there was one; a part that is under way stays.
    fn forget_oldest(&mut self) -> bool {
        let Some((_, name)) = self.by_age.front() else {
            return false;
        };
        if matches!(self.entries[name].state, State::UnderWay(_)) {
            return false;
        }
        if let Some((_, name)) = self.by_age.pop_front() {
            self.bytes -= cost(&name);
            self.entries.remove(&name);
        }
        if self.entries.is_empty() {
            // Give back the tables that a crowd of keys needed.
            *self = Keys::default();
        }
        true
    }

    /// Checks the account of memory. For tests.
    pub(super) fn check(&self) {
        let costs = self.by_age.iter().map(|(_, name)| {
            let waiting = match &self.entries[name].state {
                State::UnderWay(waiting) => (waiting.len() - 1) * WAITING_BYTES,
                State::Done(_) => 0,
            };
            cost(name) + waiting
        });
        assert_eq!(costs.sum::<usize>(), self.bytes);
        assert_eq!(self.by_age.len(), self.entries.len());
        assert!(self.bytes <= MAX_BYTES);
    }
}

fn cost(name: &Name) -> usize {
    ENTRY_BYTES + name.topic.len() + name.key.len_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientKey, Seq};
    use crate::port::idempotency::Key;
    use crate::port::subject::{Origin, Subject};

    const START: Timestamp = Timestamp(1_000_000);
    const DONE: Verdict = Verdict::Numbered {
        next: Seq(7),
        members: 3,
        epoch: None,
    };

    fn claim(topic: &str, key: &str, body: &[u8]) -> Claim {
        let subject = Subject::Address(Origin::V4(1));
        Claim {
            name: Arc::new(Name {
                topic: topic.into(),
                subject,
                key: Key::new(key),
            }),
            digest: Digest::of(body),
        }
    }

    fn from(slot: u32) -> (ShardId, Ticket) {
        let client = ClientKey::first_in(slot);
        (ShardId(0), Ticket { client, part: 0 })
    }

    fn ask(keys: &mut Keys, claim: &Claim, slot: u32, now: Timestamp) -> Claimed {
        let claimed = keys.claim(claim, from(slot), now, &mut 0);
        keys.check();
        claimed
    }

    #[test]
    fn a_repeat_waits_for_the_first_and_gets_its_answer() {
        let mut keys = Keys::default();
        let claim = claim("/a", "k", b"x");
        assert_eq!(ask(&mut keys, &claim, 1, START), Claimed::First);
        assert_eq!(ask(&mut keys, &claim, 2, START), Claimed::Waits);
        assert_eq!(keys.complete(&claim.name, DONE), [from(1), from(2)]);
        let answered = Claimed::Answered(DONE);
        assert_eq!(ask(&mut keys, &claim, 3, START), answered);
    }

    #[test]
    fn a_part_that_waits_for_its_topic_claims_nothing_and_is_told_of_the_first() {
        let mut keys = Keys::default();
        let claim = claim("/a", "k", b"x");
        let recall = |keys: &mut Keys, claim: &Claim, slot| {
            let verdict = keys.recall(claim, from(slot), START, &mut 0);
            keys.check();
            verdict
        };
        assert_eq!(recall(&mut keys, &claim, 1), Some(Verdict::New));
        assert_eq!(ask(&mut keys, &claim, 2, START), Claimed::First);
        assert_eq!(recall(&mut keys, &claim, 3), None);
        assert_eq!(keys.complete(&claim.name, DONE), [from(2), from(3)]);
        keys.check();
        assert_eq!(recall(&mut keys, &claim, 4), Some(DONE));
        let other = self::claim("/a", "k", b"y");
        assert_eq!(recall(&mut keys, &other, 5), Some(Verdict::Reused));
    }

    #[test]
    fn repeats_that_wait_count_towards_the_bound() {
        let mut keys = Keys::default();
        let claim = claim("/a", "k", b"x");
        assert_eq!(ask(&mut keys, &claim, 0, START), Claimed::First);
        let mut waiting = 0;
        while keys.claim(&claim, from(waiting), START, &mut 0) == Claimed::Waits {
            waiting += 1;
            assert!(waiting < 1_000_000, "the list has a bound");
        }
        let no_room = Claimed::Answered(Verdict::NoRoom);
        assert_eq!(ask(&mut keys, &claim, 1, START), no_room);
        assert_eq!(keys.complete(&claim.name, DONE).len(), waiting as usize + 1);
        keys.check();
    }

    #[test]
    fn another_body_is_refused_and_another_topic_or_key_is_another_request() {
        let mut keys = Keys::default();
        assert_eq!(
            ask(&mut keys, &claim("/a", "k", b"x"), 1, START),
            Claimed::First
        );
        let reused = Claimed::Answered(Verdict::Reused);
        assert_eq!(ask(&mut keys, &claim("/a", "k", b"y"), 2, START), reused);
        assert_eq!(
            ask(&mut keys, &claim("/b", "k", b"y"), 3, START),
            Claimed::First
        );
        assert_eq!(
            ask(&mut keys, &claim("/a", "l", b"y"), 4, START),
            Claimed::First
        );
    }

    #[test]
    fn an_answer_is_forgotten_after_five_minutes_and_not_before() {
        let mut keys = Keys::default();
        let claim = claim("/a", "k", b"x");
        ask(&mut keys, &claim, 1, START);
        keys.complete(&claim.name, DONE);
        let last = Timestamp((START + MEMORY).0 - 1);
        assert_eq!(ask(&mut keys, &claim, 2, last), Claimed::Answered(DONE));
        assert_eq!(ask(&mut keys, &claim, 3, START + MEMORY), Claimed::First);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_answers_and_never_a_part_under_way() {
        let mut keys = Keys::default();
        let nth = |n: u32| claim("/a", &format!("{n:0128}"), b"x");
        let mut forgotten = 0;
        let mut claims = 0;
        while forgotten == 0 {
            let claim = nth(claims);
            assert_eq!(
                keys.claim(&claim, from(claims), START, &mut forgotten),
                Claimed::First
            );
            keys.complete(&claim.name, DONE);
            claims += 1;
            assert!(claims < 100_000, "the table has a bound");
        }
        keys.check();
        assert_eq!(ask(&mut keys, &nth(0), 0, START), Claimed::First);
        assert_eq!(
            ask(&mut keys, &nth(claims - 1), 0, START),
            Claimed::Answered(DONE)
        );
        // Now the oldest one is under way.
        let mut keys = Keys::default();
        let mut n = 0;
        while ask(&mut keys, &nth(n), n, START) == Claimed::First {
            n += 1;
        }
        let no_room = Claimed::Answered(Verdict::NoRoom);
        assert_eq!(ask(&mut keys, &nth(n), n, START + 2 * MEMORY), no_room);
    }
}
