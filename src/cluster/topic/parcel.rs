//! Finished frames that a topic's owner hands in, with whatever it wants back when they are numbered or given up.

/// See the module. The relay's offers are parcels; the simulation has its own.
pub trait Parcel {
    /// Messages in it, at least one.
    fn messages(&self) -> u32;

    /// Bytes of its frames.
    fn len_bytes(&self) -> usize;

    /// Its frames, in pieces.
    fn pieces(&self) -> impl Iterator<Item = &[u8]>;
}
