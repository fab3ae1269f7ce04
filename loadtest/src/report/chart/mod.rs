//! Charts as SVG: lines and steps over linear, logarithmic and "nines" axes ([`Chart`]), and values of several things side
//! by side (`Ranks`).
//!
//! A chart is an element of a page, which has its style and its script. Or it is a file of its own with title, legend and
//! style, light and dark. Nothing in here knows what is measured.

mod axis;
mod canvas;
mod lines;
mod ranks;

pub use axis::{Axis, Scale};
pub(crate) use canvas::STYLE;
pub use lines::{Chart, Series};
pub(crate) use ranks::{Rank, Ranks, median};

#[cfg(test)]
mod tests;
