//! Which engine has a topic: rendezvous hashing over the engines' names.
//!
//! Every node computes the same from the same list, in any order. The hash is part of the protocol and must not change: it is
//! FNV-1a with the finish of `SplitMix64`. A host may be replaced behind a name. A fourth engine takes a quarter of the topics
//! and moves none between the other three.

/// The index of the engine that has `topic`; 0 if there is no engine.
pub fn engine_of<'a>(topic: &str, engines: impl IntoIterator<Item = &'a str>) -> usize {
    let weighed = engines.into_iter().enumerate();
    // Two engines have the same weight as good as never. Then the greater name wins on every node.
    let heaviest = weighed.max_by_key(|&(_, name)| (weight(name, topic), name));
    heaviest.map_or(0, |(index, _)| index)
}

fn weight(engine: &str, topic: &str) -> u64 {
    // A byte that is in neither text stands between them.
    let bytes = engine.bytes().chain([0xff]).chain(topic.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    finish(hash)
}

/// Spreads the differences of similar texts over all bits.
fn finish(mut mixed: u64) -> u64 {
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> impl Iterator<Item = String> {
        (0..10_000).map(|number| format!("/room/{number}"))
    }

    #[test]
    fn a_fourth_engine_takes_a_quarter_and_moves_nothing_else() {
        let mut moved = 0;
        for topic in topics() {
            let (three, four) = (["a", "b", "c"], ["a", "b", "c", "d"]);
            let before = three[engine_of(&topic, three)];
            let after = four[engine_of(&topic, four)];
            assert!(after == before || after == "d");
            moved += usize::from(after == "d");
        }
        assert!((2_300..2_700).contains(&moved), "{moved}");
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        for topic in topics() {
            let (one, other) = (["a", "b", "c"], ["c", "a", "b"]);
            assert_eq!(one[engine_of(&topic, one)], other[engine_of(&topic, other)]);
        }
    }

    #[test]
    fn every_version_of_the_relay_computes_the_same() {
        assert_eq!(weight("main", "/"), 10_433_330_122_981_918_170);
    }
}
