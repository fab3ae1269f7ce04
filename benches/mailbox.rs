//! The cost of handing something to another worker: an item goes through the inbox, and may wake its owner.
//!
//! ```text
//! cargo bench --bench mailbox
//! ```

use std::thread;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use mio::{Events, Poll, Token, Waker};

use fanwire::internals::mailbox::{Mailbox, PollWaker};

/// As large as an envelope with a topic's name and a batch.
type Item = [usize; 4];

type Inbox = Mailbox<Item, PollWaker>;

/// Items in one iteration.
const ITEMS: usize = 1000;

fn main() {
    // `cargo test --benches` asks for a test. There is none here.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    divan::main();
}

fn inbox() -> (Poll, Inbox) {
    let poll = Poll::new().expect("an event loop");
    let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
    (poll, Mailbox::new(PollWaker(waker)))
}

/// The queue alone.
#[divan::bench]
fn push_and_pop(bencher: Bencher<'_, '_>) {
    let (_poll, inbox) = inbox();
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        inbox.push(black_box([0; 4]), 64);
        inbox.pop()
    });
}

/// The items of a turn behind one wake, all taken out together.
#[divan::bench(args = [1, 16, 256])]
fn turn_of(bencher: Bencher<'_, '_>, items: usize) {
    let (mut poll, inbox) = inbox();
    let mut events = Events::with_capacity(8);
    bencher.counter(ItemsCount::new(items)).bench_local(|| {
        for _ in 0..items {
            inbox.push(black_box([0; 4]), 64);
        }
        inbox.notify();
        poll.poll(&mut events, None).expect("a wake");
        inbox.open();
        while let Some(item) = inbox.pop() {
            black_box(item);
        }
    });
}

/// Producers that notify after every item. The owner sleeps when there is no item.
#[divan::bench(args = [1, 2, 4])]
fn producers(bencher: Bencher<'_, '_>, producers: usize) {
    let (mut poll, inbox) = inbox();
    bencher
        .counter(ItemsCount::new(producers * ITEMS))
        .bench_local(|| {
            thread::scope(|scope| {
                for _ in 0..producers {
                    scope.spawn(|| {
                        for _ in 0..ITEMS {
                            inbox.push(black_box([0; 4]), 64);
                            inbox.notify();
                        }
                    });
                }
                receive(&mut poll, &inbox, producers * ITEMS);
            });
        });
}

fn receive(poll: &mut Poll, inbox: &Inbox, mut missing: usize) {
    let mut events = Events::with_capacity(8);
    while missing > 0 {
        poll.poll(&mut events, None).expect("a wake");
        inbox.open();
        while inbox.pop().is_some() {
            missing -= 1;
        }
    }
}
