//! Replays the fuzzer's corpora, with some hundred mutations of each input, in every `cargo test`.
//!
//! The targets and corpora are in `tests/fuzz`; its README explains how to run the fuzzer. This test needs no tool and
//! is deterministic: the bytes of an input determine its mutations. `FANWIRE_MUTATIONS=1000` asks for more of them.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fanwire::internals::relay::Damage;
use fanwire::server::{Stat, Stats};

#[allow(unreachable_pub, reason = "the fuzzer's own crate reaches it")]
#[path = "fuzz/src/lib.rs"]
mod targets;

/// Mutations per input, unless `FANWIRE_MUTATIONS` says otherwise. In a debug build, all targets together take some seconds.
const MUTATIONS: u64 = 200;

/// The most changes in one mutation.
const MAX_CHANGES: u64 = 4;

/// Bytes with a meaning somewhere: line ends, separators, first bytes of frames, limits of lengths.
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
fn offers_of_extensions_keep_their_promises_on_the_corpus() {
    replay("extension", targets::extension::run);
}

#[test]
fn the_inflater_keeps_its_promises_on_the_corpus() {
    replay("inflate", targets::inflate::run);
}

#[test]
fn the_metrics_port_keeps_its_promises_on_the_corpus() {
    replay("metrics_http", targets::metrics_http::run);
}

#[test]
fn histories_keep_their_promises_on_the_corpus() {
    replay("history_file", targets::history_file::run);
}

#[test]
fn the_reader_of_requests_keeps_its_promises_on_the_corpus() {
    replay("requests", targets::requests::run);
}

#[test]
fn starts_of_streams_are_read_as_they_should_be_on_the_corpus() {
    replay("start", targets::start::run);
}

#[test]
fn tokens_and_patterns_keep_their_promises_on_the_corpus() {
    replay("token", targets::token::run);
}

#[test]
fn shards_keep_their_promises_on_the_corpus() {
    replay("shard", targets::shard::run);
}

#[test]
fn replies_of_an_engine_are_read_as_they_should_be_on_the_corpus() {
    replay("replies", targets::replies::run);
}

#[test]
fn batches_are_read_as_they_should_be_on_the_corpus() {
    replay("batch", targets::batch::run);
}

/// A seed that stops early tests nothing.
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
        Stat::ReadsDeferred,
        Stat::WritesFailed,
        Stat::Transferred,
    ] {
        assert!(totals.value(corner) > 0, "no seed gets to {corner:?}");
    }
}

#[test]
fn the_corpus_of_histories_has_sound_ones_and_every_kind_of_damage() {
    let outcomes: Vec<_> = corpus("history_file")
        .iter()
        .map(|path| targets::history_file::play(&fs::read(path).expect("a seed")))
        .collect();
    let sound = outcomes.iter().flatten();
    assert!(sound.clone().count() >= 8, "{outcomes:?}");
    assert!(sound.clone().any(|taken| taken.found == taken.kept));
    assert!(
        sound
            .clone()
            .any(|taken| taken.kept.messages < taken.found.messages)
    );
    for damage in [
        Damage::NotAHistory,
        Damage::OtherVersion(2),
        Damage::Truncated,
        Damage::TooLong,
        Damage::Checksum,
    ] {
        assert!(outcomes.contains(&Err(damage)), "no seed has {damage:?}");
    }
    let mut parts: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Err(Damage::Impossible(part)) => Some(*part),
            Ok(_) | Err(_) => None,
        })
        .collect();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), 12, "{parts:?}");
}

/// Runs the target on every input of its corpus and on its mutations. A failure names the input and keeps the bytes, so
/// that they can become a seed.
fn replay(target: &str, run: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 20, "{target}: {} seeds", corpus.len());
    let mutations = std::env::var("FANWIRE_MUTATIONS").map_or(MUTATIONS, |number| {
        number.parse().expect("FANWIRE_MUTATIONS is a number")
    });
    for path in corpus {
        let seed = fs::read(&path).expect("a seed");
        for number in 0..=mutations {
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

/// A small deterministic random generator (splitmix64).
struct Rng(u64);

impl Rng {
    /// A generator for one mutation of an input. FNV-1a over the bytes makes it independent of the other inputs.
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

    /// A number from 0 to `last`.
    fn place(&mut self, last: usize) -> usize {
        self.below(last as u64 + 1) as usize
    }
}
