//! Faults at random, one after the other: a client that is not told of a loss misses nothing.

use std::time::Duration;

use super::engine::Engine;
use super::session::{Promise, Talker, compare};
use super::{Nodes, for_a_while};

/// The faults of a run.
const FAULTS: usize = 15;

/// The seed, unless `FANWIRE_SEED` names one. A failing run is not repeated exactly: the machine has its own time.
const SEED: u64 = 7;

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Does something to the engine, and says what.
fn torment(engine: &mut Engine, dice: &mut Dice) -> &'static str {
    match dice.below(9) {
        0 => {
            engine.ask("CLIENT KILL TYPE normal SKIPME yes");
            "commands are cut"
        }
        1 => {
            engine.ask("CLIENT KILL TYPE pubsub");
            "subscriptions are cut"
        }
        2 => {
            engine.ask("CLIENT KILL TYPE pubsub");
            engine.ask("CLIENT KILL TYPE normal SKIPME yes");
            "all is cut"
        }
        3 => {
            engine.freeze();
            for_a_while(Duration::from_millis(dice.below(1_500)));
            engine.thaw();
            "the engine stands still"
        }
        4 => {
            engine.ask("SCRIPT FLUSH");
            "scripts are gone"
        }
        5 => {
            engine.ask("DEL fanwire:{/room}");
            "the hash is gone"
        }
        6 => {
            engine.ask("FLUSHALL");
            "all keys are gone"
        }
        7 => {
            engine.kill();
            engine.restart();
            "the engine restarts with its data"
        }
        _ => {
            engine.ask("FLUSHALL");
            engine.kill();
            engine.restart();
            "the engine restarts without its data"
        }
    }
}

#[test]
fn clients_agree_after_faults_at_random() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut engine) = Engine::with(&options) else {
        return;
    };
    let seed = std::env::var("FANWIRE_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(SEED);
    let mut dice = Dice(seed);
    let nodes = Nodes::start(3, &engine);
    let listeners = nodes.listen("/room");
    let talkers: Vec<_> = nodes
        .worlds
        .iter()
        .zip(["a", "b", "c"])
        .map(|(world, name)| Talker::start(world, "/room", name))
        .collect();
    for fault in 0..FAULTS {
        for talker in &talkers {
            talker.await_more(1 + dice.below(20) as usize);
        }
        let what = torment(&mut engine, &mut dice);
        eprintln!("seed {seed}, fault {fault}: {what}");
    }
    for talker in &talkers {
        talker.await_more(10);
    }
    compare(listeners, talkers, Promise::ToldOrWhole);
    nodes.end();
}
