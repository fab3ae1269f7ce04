//! The name of a connection, in events and duties.

use mio::Token;

/// Generations wrap here, at 31 bits.
const GENERATIONS: usize = 0x7fff_ffff;

/// A connection, by its place in the slab and its generation there: places are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) key: usize,
    pub(super) generation: u32,
}

impl Id {
    /// Generations wrap at 31 bits, so that no token is the waker's or the timer's.
    pub(super) fn token(self) -> Token {
        Token((self.generation as usize & GENERATIONS) << 32 | self.key)
    }

    /// The connection of an event.
    pub(super) fn of(Token(token): Token) -> Id {
        Id {
            key: token & 0xffff_ffff,
            generation: (token >> 32) as u32,
        }
    }
}
