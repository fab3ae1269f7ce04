//! A fuzzer's bytes as the targets read them: settings in front, then what the peer sends.

/// A cursor that gives zeros once the bytes are used up, so that every input means something.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Begins in front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Input(bytes)
    }

    /// Whether all bytes are used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// The next byte, as a number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    /// The next two bytes, the high one first.
    pub fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// The next size: a byte up to 199 is itself, and above it a number of KiB from 1 to 56.
    pub fn size(&mut self) -> usize {
        match usize::from(self.byte()) {
            size @ 0..200 => size,
            kib => (kib - 199) << 10,
        }
    }

    /// The next four sizes, of reads: over and over, and at least 1.
    pub fn reads(&mut self) -> impl Iterator<Item = usize> + Clone + use<> {
        let sizes = [(); 4].map(|()| self.size().max(1));
        sizes.into_iter().cycle()
    }

    /// The next `count` bytes, or as many as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }
}

/// `bytes` in pieces as reads of these sizes bring them.
pub fn pieces(
    mut bytes: &[u8],
    mut reads: impl Iterator<Item = usize>,
) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let size = reads.next()?.min(bytes.len());
        let (piece, rest) = bytes.split_at(size);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
