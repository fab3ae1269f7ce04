//! The inbox of a worker. Many producers append, one owner drains, and at most one wake is sent per drain.
//!
//! Workers send each other envelopes through a [`Mailbox`]; `net` gives it a `mio::Waker`. It takes no lock, knows no
//! socket and never blocks a producer. It has no capacity limit, because its messages are already numbered and must not
//! be lost. Instead, publishers check [`Mailbox::backlog_bytes`] and stop reading their clients.
//!
//! `tests/mailbox_loom.rs` explores every interleaving of the protocol with this code:
//!
//! ```text
//! producer   push … push, then notify:  if !pending.swap(true)  { wake }
//! owner      once awake, open:          pending.swap(false)
//!            then pop until empty, or stop early and notify itself
//! ```

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_queue::SegQueue;

/// Wakes the owner of a mailbox. Several calls may become one wake; a wake before the owner sleeps ends that sleep at
/// once.
pub trait Wake {
    /// Wakes the owner. Any thread may call it.
    fn wake(&self);
}

/// An unbounded queue that keeps the order of each producer. A pop of an entry happens after its push.
pub trait Queue<E>: Default {
    /// Appends an entry.
    fn push(&self, entry: E);
    /// Takes the oldest entry. `None` says nothing about a push in progress.
    fn pop(&self) -> Option<E>;
    /// The approximate number of entries.
    fn len(&self) -> usize;
    /// Whether there are no entries, approximately.
    fn is_empty(&self) -> bool;
}

/// An atomic `bool`, initially false.
pub trait Flag: Default {
    /// Sets the flag and returns its old value, in one read-modify-write.
    fn swap(&self, value: bool, order: Ordering) -> bool;
}

/// An atomic `usize`, initially 0.
pub trait Counter: Default {
    /// Adds.
    fn add(&self, n: usize, order: Ordering);
    /// Subtracts.
    fn sub(&self, n: usize, order: Ordering);
    /// Reads.
    fn load(&self, order: Ordering) -> usize;
}

/// The building blocks of a mailbox. A model checker replaces them beneath the real protocol.
pub trait Parts {
    /// Holds the entries.
    type Queue<E>: Queue<E>;
    /// Set while a wake is on its way.
    type Flag: Flag;
    /// The sum of the weights.
    type Counter: Counter;
}

/// The parts in production: a lock-free queue and the processor's atomics.
#[derive(Debug)]
pub enum Native {}

impl Parts for Native {
    type Queue<E> = SegQueue<E>;
    type Flag = AtomicBool;
    type Counter = AtomicUsize;
}

/// An inbox with many producers and one owner. Share it with `Arc`; every method takes `&self`.
///
/// Producers call `push` and `notify`; only the owner calls `open` and `pop`. With two owners no message would be lost,
/// but each could sleep through the other's wake.
///
/// The mailbox keeps its waker alive, because dropping the last `mio::Waker` discards a wake in progress.
#[derive(Debug)]
pub struct Mailbox<T, W, P: Parts = Native> {
    queue: P::Queue<(T, usize)>,
    /// Set from a wake until the owner opens the mailbox. While it is set, no other wake is necessary.
    pending: P::Flag,
    /// The weights of all entries in the queue.
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

    /// Appends `item` after everything that this producer pushed before, and counts its `weight` in bytes.
    ///
    /// It does not wake the owner. Push everything of a turn, and then [`notify`](Self::notify) once.
    pub fn push(&self, item: T, weight: usize) {
        // Counted before the item can be popped, so that the sum never drops below zero. Relaxed is enough: the
        // subtraction follows the pop, and the queue orders the pop after this push. Nothing else depends on the sum.
        self.backlog_bytes.add(weight, Ordering::Relaxed);
        self.queue.push((item, weight));
    }

    /// Appends an item that holds no message, and wakes the owner.
    pub fn send(&self, item: T) {
        self.push(item, 0);
        self.notify();
    }

    /// Wakes the owner, unless a wake is already on its way.
    ///
    /// The owner also calls it when it stops draining early, so that its next wait returns at once.
    pub fn notify(&self) {
        // Release: the owner's next `open` sees what this thread has pushed. This holds even if the flag is set already
        // and this thread sends no wake. The `open` that ends the pending wake reads this swap, or a later one in the
        // same chain of read-modify-writes, so it synchronises with it.
        //
        // Acquire costs nothing more. It lets an owner that notifies itself see the pushes of the other notifiers.
        // Sequential consistency would only add an order between different mailboxes, which nothing uses.
        //
        // A plain load first, to save the exclusive access, would lose wakes: it may return a `true` that the owner has
        // already reset.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// From now on, a push needs a new wake. The owner calls this after waking, *before* its first [`pop`](Self::pop).
    pub fn open(&self) {
        // This must be a read-modify-write. Its acquire half makes the pushes visible whose `notify` found the flag
        // set. A plain store would synchronise with nobody: the owner could see an empty queue and sleep, while a
        // producer relies on the wake that the owner has just consumed.
        //
        // It must also come before the pops. Otherwise a push between the last pop and the reset would find the flag
        // set, and wait for ever.
        self.pending.swap(false, Ordering::AcqRel);
    }

    /// Takes the oldest item and subtracts its weight. Only the owner may call it.
    pub fn pop(&self) -> Option<T> {
        let (item, weight) = self.queue.pop()?;
        // Relaxed: see `push`.
        self.backlog_bytes.sub(weight, Ordering::Relaxed);
        Some(item)
    }

    /// The weight in bytes of all items in the queue. Approximate, because other threads change it.
    pub fn backlog_bytes(&self) -> usize {
        // Relaxed: it is compared with a threshold, and a slightly old value is good enough.
        self.backlog_bytes.load(Ordering::Relaxed)
    }

    /// The number of items. Approximate, because other threads change it.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are no items. Approximate: only the wake protocol decides when the owner may sleep.
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

    /// Counts wakes, and lets the owner wait for one.
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

        /// Waits until there are more wakes than `seen`. Returns their number.
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
    fn the_backlog_is_the_weight_of_all_items_in_the_queue() {
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
