//! Loom explores the interleavings of the mailbox's wake protocol with the real `push`, `notify`, `open` and `pop`.
//!
//! Plain `cargo test` runs it. The model's queue is deliberately weaker than the real one: one release store makes an
//! entry visible, and an empty queue orders nothing. A queue with a lock would create the order that the wake flag must
//! create, and so hide faults of the flag.
//!
//! A lost wake shows as a deadlock: the owner sleeps, the producers have ended, and the queue is not empty.

#![allow(clippy::unwrap_used, reason = "a test may panic where it stands")]

use std::sync::atomic::{AtomicUsize as UnmodelledUsize, Ordering};
use std::sync::{Mutex as UnmodelledMutex, MutexGuard};

use fanwire::internals::mailbox::{Counter, Flag, Mailbox, Parts, Queue, Wake};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// The slots of the model's queue: the most that any model here pushes.
const SLOTS: usize = 3;

/// The limit on preemptions. Two are enough to find the planted fault, and the loss of either ordering of the flag.
/// Three find no more and take ten times as long.
const PREEMPTIONS: usize = 2;

/// The producer's number, and a number that counts up.
type Item = (usize, usize);

/// Producers claim slots with one counter and fill them in any order.
struct SlotQueue<E> {
    claimed: AtomicUsize,
    /// Only the owner uses it, so loom has nothing to explore.
    taken: UnmodelledUsize,
    slots: [Slot<E>; SLOTS],
}

/// One entry. Its lock is from the standard library, so loom does not see it. It is never contended; it moves the value
/// without `unsafe` and orders nothing in the model.
struct Slot<E> {
    filled: AtomicBool,
    entry: UnmodelledMutex<Option<E>>,
}

impl<E> Slot<E> {
    fn entry(&self) -> MutexGuard<'_, Option<E>> {
        self.entry.lock().unwrap()
    }
}

impl<E> Default for SlotQueue<E> {
    fn default() -> Self {
        let slot = |_| Slot {
            filled: AtomicBool::new(false),
            entry: UnmodelledMutex::new(None),
        };
        SlotQueue {
            claimed: AtomicUsize::new(0),
            taken: UnmodelledUsize::new(0),
            slots: std::array::from_fn(slot),
        }
    }
}

impl<E> Queue<E> for SlotQueue<E> {
    fn push(&self, entry: E) {
        let slot = &self.slots[self.claimed.fetch_add(1, Ordering::Relaxed)];
        *slot.entry() = Some(entry);
        slot.filled.store(true, Ordering::Release);
    }

    fn pop(&self) -> Option<E> {
        let taken = self.taken.load(Ordering::Relaxed);
        let slot = self.slots.get(taken)?;
        if !slot.filled.load(Ordering::Acquire) {
            return None;
        }
        self.taken.store(taken + 1, Ordering::Relaxed);
        slot.entry().take()
    }

    fn len(&self) -> usize {
        self.claimed.load(Ordering::Relaxed) - self.taken.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A flag as the protocol needs it, with a read-modify-write.
#[derive(Default)]
struct ModelFlag(AtomicBool);

impl Flag for ModelFlag {
    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(value, order)
    }
}

/// The planted fault: the reset is a plain store.
#[derive(Default)]
struct StoringFlag(AtomicBool);

impl Flag for StoringFlag {
    fn swap(&self, value: bool, order: Ordering) -> bool {
        if value {
            return self.0.swap(true, order);
        }
        self.0.store(false, Ordering::SeqCst);
        true
    }
}

/// A sum that must never drop below zero.
#[derive(Default)]
struct ModelCounter(AtomicUsize);

impl Counter for ModelCounter {
    fn add(&self, n: usize, order: Ordering) {
        self.0.fetch_add(n, order);
    }

    fn sub(&self, n: usize, order: Ordering) {
        assert!(
            self.0.fetch_sub(n, order) >= n,
            "the backlog dropped below zero"
        );
    }

    fn load(&self, order: Ordering) -> usize {
        self.0.load(order)
    }
}

/// The parts of the correct protocol.
enum Sound {}

impl Parts for Sound {
    type Queue<E> = SlotQueue<E>;
    type Flag = ModelFlag;
    type Counter = ModelCounter;
}

/// The parts with the planted fault.
enum Faulty {}

impl Parts for Faulty {
    type Queue<E> = SlotQueue<E>;
    type Flag = StoringFlag;
    type Counter = ModelCounter;
}

/// Like an eventfd: it keeps a wake until the owner waits, and several wakes become one.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.ring.wait(rung).unwrap();
        }
        *rung = false;
    }
}

struct Ringer(Arc<Bell>);

impl Wake for Ringer {
    fn wake(&self) {
        *self.0.rung.lock().unwrap() = true;
        self.0.ring.notify_one();
    }
}

/// Two producers, one of which pushes twice, and an owner that pops at most `budget` items per wake. The owner ends
/// when it has all of them. If it never does, loom reports a deadlock.
fn explore<P>(budget: usize)
where
    P: Parts + 'static,
    Mailbox<Item, Ringer, P>: Send + Sync,
{
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let bell = Arc::new(Bell::default());
        let mailbox: Arc<Mailbox<Item, Ringer, P>> =
            Arc::new(Mailbox::new(Ringer(Arc::clone(&bell))));
        let pushes = [2, 1];
        let producers = [0, 1].map(|producer| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                for number in 0..pushes[producer] {
                    mailbox.push((producer, number), 8);
                    mailbox.notify();
                }
            })
        });

        let mut next_by_producer = [0, 0];
        while next_by_producer != pushes {
            bell.wait();
            mailbox.open();
            take_turn(&mailbox, budget, &mut next_by_producer);
        }

        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(mailbox.pop(), None, "something arrived twice");
        assert_eq!(mailbox.backlog_bytes(), 0);
    });
}

/// Pops until the mailbox is empty or the budget is used up. In the second case, it notifies itself.
fn take_turn<P: Parts>(
    mailbox: &Mailbox<Item, Ringer, P>,
    budget: usize,
    next_by_producer: &mut [usize; 2],
) {
    for _ in 0..budget {
        let Some((producer, number)) = mailbox.pop() else {
            return;
        };
        assert_eq!(number, next_by_producer[producer], "out of order");
        next_by_producer[producer] += 1;
    }
    mailbox.notify();
}

#[test]
fn no_item_or_wake_is_lost_and_each_producer_keeps_its_order() {
    explore::<Sound>(usize::MAX);
}

#[test]
fn an_owner_that_stops_early_and_re_arms_loses_nothing() {
    explore::<Sound>(1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_flag_reset_by_a_plain_store_loses_a_wake() {
    explore::<Faulty>(usize::MAX);
}
