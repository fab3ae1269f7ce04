//! An honest pair of clients that exchange messages during an attack. It notices every message that is lost, repeated,
//! out of order or late.
//!
//! A test summons the pair before the attack and dismisses it at the end. The two share a topic but, with two workers,
//! no shard, so each message crosses from one worker to the other.

use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanwire::server::Stat;

use crate::program::Program;
use crate::support::{Client, PATIENCE, World, eventually};
use crate::wire::{CLOSE, FIN, Frame, TEXT, Wire};

/// The topic of the pair. Attackers may join it, but must not send text that starts like the pair's.
pub(crate) const PATH: &str = "/witness";

/// The number of messages that each of the two sends before it reads.
const SENT_AT_ONCE: u64 = 8;

/// The pause between two rounds, which leaves the machine to the attack.
const PAUSE: Duration = Duration::from_millis(2);

/// The running pair.
pub(crate) struct Witness {
    thread: Option<JoinHandle<Testimony>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    dismissed: AtomicBool,
    /// The pair has been asked to be silent.
    hushed: AtomicBool,
    /// The pair is silent.
    silent: AtomicBool,
    rounds: AtomicU64,
}

/// The result of the exchange. It does not mention losses, because a loss fails the test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Testimony {
    /// Messages that both received, each once and in one order.
    pub(crate) messages: u64,
    /// The longest time from a round's first message until both had received all of them.
    pub(crate) slowest_round: Duration,
}

impl Witness {
    /// Connects a pair that exchanges messages.
    pub(crate) fn summon(address: SocketAddr) -> Witness {
        let pair = [(); 2].map(|()| Client::connect(address, PATH));
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || exchange(pair, &of_thread));
        let witness = Witness {
            thread: Some(thread),
            shared,
        };
        witness.await_rounds(1);
        witness
    }

    pub(crate) fn of(world: &World) -> Witness {
        Witness::summon(world.relay.address())
    }

    pub(crate) fn of_program(program: &Program) -> Witness {
        Witness::summon(program.address)
    }

    /// Waits for `count` more rounds. Both shards of the pair have then handled everything that the relay had read
    /// before.
    pub(crate) fn await_rounds(&self, count: u64) {
        // Relaxed: no other data depends on this number.
        let rounds = || self.shared.rounds.load(Ordering::Relaxed);
        let enough = rounds() + count;
        eventually("the honest pair goes on", || {
            let has_failed = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            rounds() >= enough || has_failed
        });
    }

    /// Does `something` while the pair is connected but silent.
    pub(crate) fn while_silent(&self, something: impl FnOnce()) {
        self.shared.hushed.store(true, Ordering::Relaxed);
        eventually("the pair falls silent", || {
            self.shared.silent.load(Ordering::Relaxed)
        });
        something();
        self.shared.hushed.store(false, Ordering::Relaxed);
        self.await_rounds(1);
    }

    /// Ends the exchange. Fails if a message was lost, repeated or out of order.
    pub(crate) fn dismiss(mut self) -> Testimony {
        self.shared.dismissed.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only here and on drop");
        thread
            .join()
            .unwrap_or_else(|failure| panic::resume_unwind(failure))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.dismissed.store(true, Ordering::Relaxed);
    }
}

fn exchange(mut pair: [Client; 2], shared: &Shared) -> Testimony {
    let mut testimony = Testimony {
        messages: 0,
        slowest_round: Duration::ZERO,
    };
    let mut round = 0;
    while !shared.dismissed.load(Ordering::Relaxed) {
        let is_hushed = shared.hushed.load(Ordering::Relaxed);
        shared.silent.store(is_hushed, Ordering::Relaxed);
        if is_hushed {
            thread::sleep(PAUSE);
            continue;
        }
        let began = Instant::now();
        hold_round(&mut pair, round);
        testimony.slowest_round = testimony.slowest_round.max(began.elapsed());
        testimony.messages += 2 * SENT_AT_ONCE;
        round += 1;
        shared.rounds.store(round, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
    for client in pair {
        assert_eq!(client.leave(), [], "behind the last round");
    }
    testimony
}

/// Both send the messages of a round, and both receive all of them in one order that keeps each sender's order.
fn hold_round(pair: &mut [Client; 2], round: u64) {
    for n in numbers(round) {
        for (name, client) in pair.iter_mut().enumerate() {
            client.say(format!("{name} {n}"));
        }
    }
    let [first, second] = pair
        .each_mut()
        .map(|client| -> Vec<String> { (0..2 * SENT_AT_ONCE).map(|_| client.hear()).collect() });
    assert_eq!(first, second, "both hear the same, in one order");
    for name in ["0", "1"] {
        let prefix = format!("{name} ");
        let heard = first.iter().filter_map(|text| text.strip_prefix(&prefix));
        let said = numbers(round).map(|n| n.to_string());
        assert!(
            heard.eq(said),
            "{name} said the numbers from {} on, and {first:?} was heard",
            round * SENT_AT_ONCE
        );
    }
}

fn numbers(round: u64) -> std::ops::Range<u64> {
    round * SENT_AT_ONCE..(round + 1) * SENT_AT_ONCE
}

/// The next frame on the pair's topic that is not from the pair.
pub(crate) fn next_own(wire: &mut Wire) -> Frame {
    loop {
        let frame = wire.next();
        if !is_of_the_pair(&frame) {
            return frame;
        }
    }
}

/// Whether a frame is a text of the pair: a digit, a space, a number.
fn is_of_the_pair(frame: &Frame) -> bool {
    frame.first == FIN | TEXT && matches!(frame.payload[..], [b'0' | b'1', b' ', b'0'..=b'9', ..])
}

/// Expects a Close with `code` next, besides messages of the pair, and then the orderly end.
pub(crate) fn expect_failure(wire: &mut Wire, code: u16, what: &str) {
    let close = next_own(wire);
    assert_eq!(close.first, FIN | CLOSE, "{what}: {close:?}");
    assert_eq!(close.payload[..2], code.to_be_bytes(), "{what}");
    assert!(close.payload.len() > 2, "{what}: the reason is said");
    wire.expect_end();
}

#[test]
fn the_pair_exchanges_messages_and_hears_each_once() {
    let world = World::start();
    let witness = Witness::of(&world);
    witness.await_rounds(10);
    let testimony = witness.dismiss();
    assert!(testimony.messages >= 160 && !testimony.slowest_round.is_zero());
    let stats = world.end();
    assert_eq!(stats.value(Stat::Messages), testimony.messages);
    assert_eq!(stats.value(Stat::Delivered), 2 * testimony.messages);
}

#[test]
#[should_panic(expected = "said the numbers from")]
fn the_pair_notices_a_message_too_many() {
    let world = World::start();
    let witness = Witness::of(&world);
    world.connect(PATH).say("0 0");
    witness.await_rounds(PATIENCE.as_millis() as u64);
    witness.dismiss();
}
