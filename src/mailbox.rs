//! The inbox of a worker: many producers append, one owner drains, and a wake is sent at most once per drain.
//!
//! Workers hand each other envelopes through a [`Mailbox`]; `net` gives it a `mio::Waker`. It takes no lock, knows no
//! socket and never blocks a producer. It has no capacity of its own: it refuses nothing, because what is in it has
//! been numbered and must not be lost. Whoever publishes asks [`Mailbox::backlog_bytes`] and stops reading its clients
//! instead.
//!
//! The protocol, whose every interleaving `tests/mailbox_loom.rs` explores on this very code:
//!
//! ```text
//! producer   push … push, then notify:  if !pending.swap(true)  { wake }
//! owner      once awake, open:          pending.swap(false)
//!            then pop until empty, or stop early and notify itself
//! ```

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;

/// Makes the owner of a mailbox run. Calls may be merged; a wake before the owner sleeps must end that sleep at once.
pub trait Wake {
    /// Wakes the owner, from any thread.
    fn wake(&self);
}

/// An unbounded queue that keeps each producer's order. Taking an entry happens after putting it in.
pub trait Queue<E>: Default {
    /// Appends an entry.
    fn push(&self, entry: E);
    /// Takes the oldest entry; `None` promises nothing about a push that is under way.
    fn pop(&self) -> Option<E>;
    /// How many entries wait, approximately.
    fn len(&self) -> usize;
    /// Whether none waits, approximately.
    fn is_empty(&self) -> bool;
}

/// An atomic `bool`, at first false.
pub trait Flag: Default {
    /// Sets the flag and returns what it was, in one read-modify-write.
    fn swap(&self, value: bool, order: Ordering) -> bool;
}

/// An atomic `usize`, at first 0.
pub trait Counter: Default {
    /// Adds.
    fn add(&self, n: usize, order: Ordering);
    /// Subtracts.
    fn sub(&self, n: usize, order: Ordering);
    /// Reads.
    fn load(&self, order: Ordering) -> usize;
}

/// The building blocks of a mailbox, so that a model checker can put its own beneath the real protocol.
pub trait Parts {
    /// Holds the entries.
    type Queue<E>: Queue<E>;
    /// Says that a wake is on its way.
    type Flag: Flag;
    /// Sums the weights.
    type Counter: Counter;
}

/// The parts that run in production: a segmented lock-free queue and the processor's atomics.
#[derive(Debug)]
pub enum Native {}

impl Parts for Native {
    type Queue<E> = SegQueue<E>;
    type Flag = AtomicBool;
    type Counter = AtomicUsize;
}

/// A multi-producer inbox with one owner. Shared by `Arc`; every method takes `&self`.
///
/// `push` and `notify` are for producers, `open` and `pop` for the owner alone: two threads that drain one mailbox
/// lose nothing, but each may sleep on what the other was woken for.
///
/// The mailbox keeps its waker alive, which matters: dropping the last `mio::Waker` discards a wake under way.
#[derive(Debug)]
pub struct Mailbox<T, W, P: Parts = Native> {
    queue: P::Queue<(T, usize)>,
    /// Set from a wake until the owner opens the mailbox: whoever finds it set need not wake again.
    pending: P::Flag,
    /// The weights of all entries not yet popped.
    backlog_bytes: P::Counter,
    waker: W,
}

impl<T, W: Wake, P: Parts> Mailbox<T, W, P> {
    /// An empty mailbox whose owner is woken by `waker`.
    pub fn new(waker: W) -> Self {
        Mailbox {
            queue: P::Queue::default(),
            pending: P::Flag::default(),
            backlog_bytes: P::Counter::default(),
            waker,
        }
    }

    /// Appends `item` behind everything this producer has pushed before, and counts its `weight` in bytes.
    ///
    /// Does not wake the owner: push all that a turn has to say, then [`notify`](Self::notify) once.
    pub fn push(&self, item: T, weight: usize) {
        // Counted before it can be popped, so the sum never drops below zero. Relaxed: the matching subtraction comes
        // after the pop, which the queue orders after this push, so the counter sees them in that order, too; nobody
        // concludes anything about the queue from the sum.
        self.backlog_bytes.add(weight, Ordering::Relaxed);
        self.queue.push((item, weight));
    }

    /// Wakes the owner, unless somebody has since it last opened the mailbox.
    ///
    /// The owner calls it, too, when it stops draining early: the next wait then returns at once.
    pub fn notify(&self) {
        // The release half publishes what this thread has pushed to the owner's next `open`. A thread that finds the
        // flag set leaves without a wake, and still the owner sees its push: the `open` that ends this pending wake
        // reads this swap or a later one in the same chain of read-modify-writes, and so synchronises with it. The
        // acquire half asks nothing more of the processor; it lets the owner, which re-arms itself here, see what the
        // others who were notifying had pushed. Sequential consistency would add an order among different mailboxes,
        // which nobody looks at.
        //
        // A plain load first, to spare the exclusive access, would lose wakes: it may return a `true` that the owner
        // has reset already.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Tells producers that whatever they push from now on needs a new wake. The owner calls it on waking, *before*
    /// its first [`pop`](Self::pop).
    pub fn open(&self) {
        // A read-modify-write, because the acquire half is what makes the pushes visible whose `notify` found the
        // flag set. A plain store reads nothing and so synchronises with nobody: the owner could find the queue empty
        // and sleep, while the producer that pushed before the store counts on the wake just consumed. After the
        // pops it would be as wrong: what was pushed in between would find the flag set and wait for ever.
        self.pending.swap(false, Ordering::AcqRel);
    }

    /// Takes the oldest item and gives back its weight. For the owner alone.
    pub fn pop(&self) -> Option<T> {
        let (item, weight) = self.queue.pop()?;
        // Relaxed: see `push`.
        self.backlog_bytes.sub(weight, Ordering::Relaxed);
        Some(item)
    }

    /// The weights, in bytes, of all items pushed and not yet popped. Approximate: other threads are at work.
    pub fn backlog_bytes(&self) -> usize {
        // Relaxed: a threshold for back-pressure; a value some nanoseconds old is as good as the newest.
        self.backlog_bytes.load(Ordering::Relaxed)
    }

    /// How many items wait. Approximate: other threads are at work.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no item waits. Approximate: other threads are at work, and only the wake protocol says when to sleep.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<E> Queue<E> for SegQueue<E> {
    fn push(&self, entry: E) {
        SegQueue::push(self, entry);
    }

    fn pop(&self) -> Option<E> {
        SegQueue::pop(self)
    }

    fn len(&self) -> usize {
        SegQueue::len(self)
    }

    fn is_empty(&self) -> bool {
        SegQueue::is_empty(self)
    }
}

impl Flag for AtomicBool {
    fn swap(&self, value: bool, order: Ordering) -> bool {
        AtomicBool::swap(self, value, order)
    }
}

impl Counter for AtomicUsize {
    fn add(&self, n: usize, order: Ordering) {
        self.fetch_add(n, order);
    }

    fn sub(&self, n: usize, order: Ordering) {
        self.fetch_sub(n, order);
    }

    fn load(&self, order: Ordering) -> usize {
        AtomicUsize::load(self, order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Condvar, Mutex};
    use std::thread;

    /// Counts wakes, and lets the owner wait for them.
    #[derive(Default)]
    struct Bell {
        wakes: Mutex<usize>,
        rung: Condvar,
    }

    impl Wake for Arc<Bell> {
        fn wake(&self) {
            *self.wakes.lock().unwrap() += 1;
            self.rung.notify_all();
        }
    }

    impl Bell {
        fn wakes(&self) -> usize {
            *self.wakes.lock().unwrap()
        }

        /// Waits for more wakes than `seen`; returns how many there have been.
        fn wait_beyond(&self, seen: usize) -> usize {
            let wakes = self.wakes.lock().unwrap();
            *self.rung.wait_while(wakes, |wakes| *wakes == seen).unwrap()
        }
    }

    fn mailbox<T>() -> (Mailbox<T, Arc<Bell>>, Arc<Bell>) {
        let bell = Arc::new(Bell::default());
        (Mailbox::new(Arc::clone(&bell)), bell)
    }

    #[test]
    fn items_come_out_in_the_order_they_went_in() {
        let (mailbox, _bell) = mailbox();
        for item in 0..100 {
            mailbox.push(item, 0);
        }
        let popped: Vec<i32> = std::iter::from_fn(|| mailbox.pop()).collect();
        assert_eq!(popped, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_push_alone_wakes_nobody() {
        let (mailbox, bell) = mailbox();
        mailbox.push('a', 1);
        assert_eq!(bell.wakes(), 0);
    }

    #[test]
    fn the_owner_is_woken_once_until_it_opens_the_mailbox() {
        let (mailbox, bell) = mailbox();
        for item in 0..3 {
            mailbox.push(item, 1);
            mailbox.notify();
        }
        assert_eq!(bell.wakes(), 1);
        mailbox.open();
        mailbox.notify();
        assert_eq!(bell.wakes(), 2);
    }

    #[test]
    fn an_owner_that_stops_early_wakes_itself() {
        let (mailbox, bell) = mailbox();
        mailbox.push('a', 1);
        mailbox.push('b', 1);
        mailbox.notify();
        mailbox.open();
        assert_eq!(mailbox.pop(), Some('a'));
        mailbox.notify();
        assert_eq!(bell.wakes(), 2);
        mailbox.open();
        assert_eq!(mailbox.pop(), Some('b'));
    }

    #[test]
    fn the_backlog_is_the_weight_of_what_was_not_popped() {
        let (mailbox, _bell) = mailbox();
        mailbox.push('a', 100);
        mailbox.push('b', 20);
        assert_eq!((mailbox.backlog_bytes(), mailbox.len()), (120, 2));
        mailbox.pop();
        assert_eq!((mailbox.backlog_bytes(), mailbox.len()), (20, 1));
        mailbox.pop();
        assert_eq!(mailbox.pop(), None);
        assert_eq!((mailbox.backlog_bytes(), mailbox.is_empty()), (0, true));
    }

    #[test]
    fn threads_lose_nothing_and_keep_their_order() {
        const PRODUCERS: usize = 4;
        const ITEMS: usize = 2_000;
        let (mailbox, bell) = mailbox();
        let mut next_by_producer = [0; PRODUCERS];
        thread::scope(|scope| {
            let mailbox = &mailbox;
            for producer in 0..PRODUCERS {
                scope.spawn(move || {
                    for item in 0..ITEMS {
                        mailbox.push((producer, item), 8);
                        mailbox.notify();
                    }
                });
            }
            let mut wakes = 0;
            while next_by_producer != [ITEMS; PRODUCERS] {
                wakes = bell.wait_beyond(wakes);
                mailbox.open();
                while let Some((producer, item)) = mailbox.pop() {
                    assert_eq!(item, next_by_producer[producer]);
                    next_by_producer[producer] += 1;
                }
            }
        });
        assert_eq!((mailbox.backlog_bytes(), mailbox.is_empty()), (0, true));
    }
}
