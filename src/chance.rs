//! Chance without a clock and without the system: numbers from a seed. The same seed gives the same numbers, so a simulation can
//! repeat a run.
//!
//! They spread load. They are no secret and must not be taken for one.

/// A row of numbers that look random (`SplitMix64`: Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    /// The row of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Chance { state: seed }
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `count`, which is not 0. For counts far below 2⁶⁴, all are equally likely.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// Puts `list` into a random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last as u64 + 1);
            // It is at most `last`.
            list.swap(last, other as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut chance = Chance::new(1_234_567);
        let first = [(); 3].map(|()| chance.next());
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(first, published);
    }

    #[test]
    fn a_shuffled_list_has_the_same_items_in_an_order_of_the_seed() {
        let shuffled = |seed| {
            let mut list: Vec<u32> = (0..100).collect();
            Chance::new(seed).shuffle(&mut list);
            list
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn every_place_gets_every_item_about_equally_often() {
        let mut chance = Chance::new(7);
        let mut counts = [[0; 4]; 4];
        for _ in 0..4_000 {
            let mut list = [0, 1, 2, 3];
            chance.shuffle(&mut list);
            for (place, item) in list.into_iter().enumerate() {
                counts[place][item] += 1;
            }
        }
        let is_fair = |&count: &i32| (850..1_150).contains(&count);
        assert!(counts.iter().flatten().all(is_fair), "{counts:?}");
    }
}
