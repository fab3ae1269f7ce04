//! Several servers under the same load, in turns: `loadtest compare`.

pub mod summary;
pub mod table;
