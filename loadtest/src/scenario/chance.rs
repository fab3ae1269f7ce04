//! Chance that can be repeated: the same seed gives the same draws, whatever else happens in a run.
//!
//! The worker asks it when a client is cut, and how. Each draw is named by its client and its number, so the order in
//! which threads draw does not matter.

use crate::clock::whole;

/// Draws beyond this multiple of the mean are cut off there: one in 500 million.
const LONGEST: f64 = 20.0;

/// The purposes of draws. Draws for different purposes do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The time until a client is cut.
    Life,
    /// The way in which it is cut.
    Style,
    /// The time at which it comes back after an avalanche.
    Avalanche,
    /// The time until it tries again.
    Retry,
}

/// The draws of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chance {
    pub(crate) seed: u64,
}

impl Chance {
    /// 64 random bits: the draw with this number of a client, for one purpose.
    pub(crate) fn bits(self, purpose: Purpose, client: usize, number: u64) -> u64 {
        let mut mixed = self.seed;
        for word in [purpose as u64, client as u64, number] {
            mixed = mix(mixed ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        mixed
    }

    /// A draw below `range`; 0 if that is 0.
    pub(crate) fn below(self, range: u64, purpose: Purpose, client: usize, number: u64) -> u64 {
        let product = u128::from(self.bits(purpose, client, number)) * u128::from(range);
        // It is below the range, as the other factor is below one.
        (product >> 64) as u64
    }

    /// A draw from the exponential distribution with this mean: the time until an event that is equally likely at any
    /// moment.
    pub(crate) fn exponential(
        self,
        mean: u64,
        purpose: Purpose,
        client: usize,
        number: u64,
    ) -> u64 {
        // Above 0 and at most 1, with all 53 bits that a float has.
        let uniform =
            ((self.bits(purpose, client, number) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        whole(mean as f64 * (-uniform.ln()).min(LONGEST))
    }
}

/// The finaliser of `SplitMix64`: every bit of the input changes half of the output's.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_repeated_by_their_seed_and_differ_between_clients_and_purposes() {
        let chance = Chance { seed: 7 };
        let draw = chance.bits(Purpose::Life, 3, 1);
        assert_eq!(draw, Chance { seed: 7 }.bits(Purpose::Life, 3, 1));
        for other in [
            Chance { seed: 8 }.bits(Purpose::Life, 3, 1),
            chance.bits(Purpose::Style, 3, 1),
            chance.bits(Purpose::Life, 4, 1),
            chance.bits(Purpose::Life, 3, 2),
        ] {
            assert_ne!(draw, other);
        }
    }

    #[test]
    fn lives_have_the_mean_that_was_asked_for() {
        const MEAN: u64 = 15_000_000_000;
        let chance = Chance { seed: 1 };
        let lives = (0..20_000).map(|client| chance.exponential(MEAN, Purpose::Life, client, 0));
        let lives: Vec<u64> = lives.collect();
        let mean = lives.iter().sum::<u64>() as f64 / lives.len() as f64;
        assert!((mean / MEAN as f64 - 1.0).abs() < 0.03, "{mean}");
        // A third lives longer than the mean: e to the power of -1.
        let longer = lives.iter().filter(|life| **life > MEAN).count() as f64;
        assert!((longer / 20_000.0 - 0.368).abs() < 0.02, "{longer}");
        assert!((0..1_000).all(|client| chance.below(10, Purpose::Style, client, 0) < 10));
    }
}
