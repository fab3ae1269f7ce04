//! Charts as SVG: lines and steps over linear, logarithmic and "nines" axes ([`Chart`]), and values of several things
//! side by side ([`Ranks`]).
//!
//! Each is drawn twice from the same description: as an element of a page ([`Chart::svg`]), which the page's style colours
//! and its script reads values from, or as a file of its own ([`Chart::standalone`]) with title, legend and style, light
//! and dark. Nothing in here knows what is measured.

mod axis;
mod draw;
mod ranks;
mod unit;

use maud::{Markup, PreEscaped, html};

pub use axis::{Axis, Scale};
pub(crate) use ranks::median;
pub use ranks::{Rank, Ranks};
pub(crate) use unit::grouped;
pub use unit::{NOTHING, Unit};

/// How charts look: part of a page's style, and inside each standalone file.
pub const STYLE: &str = include_str!("chart/style.css");

/// Series that have a colour of their own; further ones begin again, with dashes.
pub const COLOURS: usize = 8;

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it is of, in a few words: its heading.
    pub title: String,
    /// What it shows, for those who cannot see it.
    pub description: String,
    /// The axis at the bottom.
    pub x: Axis,
    /// The axis at the left.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

/// One line of a [`Chart`].
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How its points are joined.
    pub shape: Shape,
    /// Its points, x ascending. One that has no place on its axis, such as 0 on a logarithmic one, leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// How the points of a [`Series`] are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// From point to point.
    Line,
    /// Each value holds from the point before until its own: for what was measured over a span of time.
    Steps,
}

impl Chart {
    /// Whether any series has a point that can be drawn.
    pub fn is_empty(&self) -> bool {
        let drawable = |&(x, y): &(f64, f64)| self.x.can_place(x) && self.y.can_place(y);
        !self
            .series
            .iter()
            .any(|series| series.points.iter().any(drawable))
    }

    /// The chart as an element of a page, without title and legend, which the page has. `id` is unique in the page.
    pub fn svg(&self, id: &str) -> Markup {
        draw::chart(self, id, draw::Frame::Page)
    }

    /// The legend as an element of a page: each series' name beside a stroke in its colour.
    pub fn legend(&self) -> Markup {
        html! {
            ul.legend {
                @for (index, series) in self.series.iter().enumerate() {
                    li {
                        svg.key viewBox="0 0 20 8" aria-hidden="true" {
                            path class=(draw::stroke_class(index)) d="M1 4H19" {}
                        }
                        (series.name)
                    }
                }
            }
        }
    }

    /// The chart as an SVG file, whole and well formed as XML.
    pub fn standalone(&self) -> String {
        document(&draw::chart(self, "chart", draw::Frame::File))
    }
}

impl Series {
    /// A series that is joined by lines.
    pub fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series {
            name: name.into(),
            shape: Shape::Line,
            points,
        }
    }

    /// A series that is joined by steps.
    pub fn steps(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series {
            name: name.into(),
            shape: Shape::Steps,
            points,
        }
    }
}

fn document(svg: &Markup) -> String {
    html! { (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")) (svg) "\n" }.into_string()
}

#[cfg(test)]
mod tests;
