//! Replays the fuzzer's corpora, and some hundred mutations of each of their inputs, on every ordinary `cargo test`.
//!
//! The targets and the corpora are `tests/fuzz`'s, where its README says how to run the fuzzer itself. Here no tool is needed,
//! and nothing is left to chance: the mutations of an input follow from its bytes alone.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fanwire::metrics::stats::{Stat, Stats};

#[allow(unreachable_pub, reason = "the fuzzer's own crate reaches it")]
#[path = "fuzz/src/lib.rs"]
mod targets;

/// Mutations of each input, in a debug build some seconds of work over all targets.
const MUTATIONS: u64 = 200;

/// The most changes that make one mutation.
const MAX_CHANGES: u64 = 4;

/// Bytes that mean something to somebody: line ends, separators, first bytes of frames, borders of lengths.
const TELLING: &[u8] = b"\r\n :,/?#%\0\t\x01\x02\x7d\x7e\x7f\x80\x81\x82\x88\x89\x8a\xfd\xfe\xff";

#[test]
fn the_decoder_keeps_its_promises_on_the_corpus() {
    replay("decoder", targets::decoder::run);
}

#[test]
fn the_upgrade_keeps_its_promises_on_the_corpus() {
    replay("upgrade", targets::upgrade::run);
}

#[test]
fn the_metrics_port_keeps_its_promises_on_the_corpus() {
    replay("metrics_http", targets::metrics_http::run);
}

#[test]
fn shards_keep_their_promises_on_the_corpus() {
    replay("shard", targets::shard::run);
}

/// Seeds that reach nothing show nothing.
#[test]
fn the_corpus_of_shards_gets_everywhere() {
    let totals: Stats = corpus("shard")
        .iter()
        .map(|path| targets::shard::play(&fs::read(path).expect("a seed")))
        .sum();
    for corner in [
        Stat::Messages,
        Stat::Coalesced,
        Stat::Dropped,
        Stat::Discarded,
        Stat::DisconnectedByClient,
        Stat::DisconnectedLost,
        Stat::DisconnectedProtocol,
        Stat::DisconnectedTooBig,
        Stat::DisconnectedLag,
        Stat::DisconnectedStall,
        Stat::DisconnectedPong,
        Stat::DisconnectedRate,
        Stat::DisconnectedShutdown,
        Stat::HandshakeBadRequest,
        Stat::HandshakeTimeout,
        Stat::HandshakeLost,
        Stat::HandshakeCapacity,
        Stat::HandshakeShutdown,
        Stat::HandshakeTls,
        Stat::Envelopes,
        Stat::Transferred,
    ] {
        assert!(totals.value(corner) > 0, "no seed gets to {corner:?}");
    }
}

/// Runs the target on each input of its corpus and on the mutations of it. A failure names the input, and leaves what broke
/// the promise where it can be looked at and made a seed.
fn replay(target: &str, run: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 20, "{target}: {} seeds", corpus.len());
    for path in corpus {
        let seed = fs::read(&path).expect("a seed");
        for number in 0..=MUTATIONS {
            let input = mutation(&seed, number);
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
            if outcome.is_err() {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target);
                fs::write(&kept, &input).expect("a writable target directory");
                panic!(
                    "{}, mutation {number}; the input is in {}",
                    path.display(),
                    kept.display()
                );
            }
        }
    }
}

/// The inputs of a target, in order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).expect("a corpus");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a seed").path()).collect();
    paths.sort();
    paths
}

/// A mutation of a seed; number 0 is the seed itself.
fn mutation(seed: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    if number == 0 {
        return bytes;
    }
    let mut rng = Rng::new(seed, number);
    for _ in 0..=rng.below(MAX_CHANGES) {
        change(&mut bytes, &mut rng);
    }
    bytes
}

/// One change of the kinds that fuzzers make.
fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.place(bytes.len());
    let end = (at + 1 + rng.place(8)).min(bytes.len());
    match rng.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        1 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
        2 if at < bytes.len() => bytes[at] = TELLING[rng.place(TELLING.len() - 1)],
        3 => bytes.insert(at, TELLING[rng.place(TELLING.len() - 1)]),
        4 if at < end => drop(bytes.drain(at..end)),
        5 if at < end => {
            let piece = bytes[at..end].to_vec();
            let to = rng.place(bytes.len());
            bytes.splice(to..to, piece);
        }
        _ => bytes.truncate(at),
    }
}

/// A small generator (splitmix64) of numbers that follow from a seed.
struct Rng(u64);

impl Rng {
    /// The numbers of an input's mutation: FNV-1a over the bytes, so that they do not depend on the other inputs.
    fn new(seed: &[u8], number: u64) -> Self {
        let hash = seed.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng(hash ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) % count
    }

    /// From 0 to `last`.
    fn place(&mut self, last: usize) -> usize {
        self.below(last as u64 + 1) as usize
    }
}
