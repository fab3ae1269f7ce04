//! Values of several things side by side: a row for each, with a dot at its median and a line from its least to its
//! most.

use maud::{Markup, html};

use super::axis::Axis;
use super::canvas::{self, BOTTOM, CHARACTER, Frame, Head, WIDTH, tenths};

/// The height of a row.
const ROW: f64 = 26.0;

/// The most characters of a name. The widest column has room for them.
const NAME: usize = 22;

/// Several things by one figure.
#[derive(Clone, Debug)]
pub(crate) struct Ranks {
    /// Its heading.
    pub(crate) title: String,
    /// A description for people who cannot see it.
    pub(crate) description: String,
    /// The figure.
    pub(crate) axis: Axis,
    /// The rows from the top down.
    pub(crate) rows: Vec<Rank>,
}

/// A row of [`Ranks`].
#[derive(Clone, Debug)]
pub(crate) struct Rank {
    /// Its name.
    pub(crate) name: String,
    /// The figure, once for each measurement. The dot is at their median.
    pub(crate) values: Vec<f64>,
    /// Whether the others are compared with this row, which stands out then.
    pub(crate) is_marked: bool,
}

impl Ranks {
    /// Whether no row has a value that can be drawn.
    pub(crate) fn is_empty(&self) -> bool {
        !self
            .rows
            .iter()
            .any(|row| row.values.iter().any(|value| self.axis.can_place(*value)))
    }

    /// The chart as an element of a page, without its title. `id` is unique in the page.
    pub(crate) fn svg(&self, id: &str) -> Markup {
        let top = 8.0;
        let bottom = top + ROW * self.rows.len() as f64;
        let longest = self
            .rows
            .iter()
            .map(|row| row.name.chars().count().min(NAME))
            .max()
            .unwrap_or(0);
        // Names are at the left, values at the right. The plot has at least two fifths of the width.
        let left = longest as f64 * CHARACTER + 14.0;
        let right = WIDTH - 86.0;
        let axis = self.axis.fit(
            self.rows.iter().flat_map(|row| row.values.iter().copied()),
            false,
        );
        let x = |share: f64| tenths(left + share * (right - left));
        let body = html! {
            g.grid {
                @for mark in &axis.marks {
                    line.minor[!mark.is_major] x1=(x(mark.at)) x2=(x(mark.at)) y1=(top) y2=(bottom) {}
                }
                rect.frame x=(left) y=(top) width=(right - left) height=(bottom - top) {}
            }
            g.labels {
                (canvas::labels_below(&self.axis, &axis, bottom, x))
            }
            @for (index, row) in self.rows.iter().enumerate() {
                (self.row(row, top + ROW * (index as f64 + 0.5), left, |value| axis.place(value).map(x)))
            }
        };
        let (title, description) = (&self.title, &self.description);
        let height = bottom + BOTTOM;
        canvas::element(
            &Head {
                id,
                title,
                description,
                height,
                frame: Frame::Page,
                values: None,
            },
            &body,
        )
    }

    fn row(&self, row: &Rank, y: f64, left: f64, x: impl Fn(f64) -> Option<f64>) -> Markup {
        let mut values: Vec<f64> = row
            .values
            .iter()
            .copied()
            .filter(|value| self.axis.can_place(*value))
            .collect();
        values.sort_by(f64::total_cmp);
        let middle = median(&values);
        let ends = values.first().zip(values.last());
        let at = |value: f64| x(value).unwrap_or(left);
        html! {
            g.rank.marked[row.is_marked] {
                text.y x=(left - 8.0) y=(y) dy="0.35em" { (shortened(&row.name)) }
                @if let Some((least, most)) = ends {
                    line.span x1=(at(*least)) x2=(at(*most)) y1=(y) y2=(y) {}
                    @for value in &values { circle.each cx=(at(*value)) cy=(y) r="2.5" {} }
                }
                @if let Some(middle) = middle {
                    circle.middle cx=(at(middle)) cy=(y) r="5.5" {}
                }
                text.value x=(WIDTH - 4.0) y=(y) dy="0.35em" { (self.axis.unit.show_any(middle)) }
            }
        }
    }
}

/// Cuts a name that is too long.
fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

/// The median of values in ascending order; `None` if there are none.
pub(crate) fn median(ascending: &[f64]) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    Some(f64::midpoint(
        ascending[last / 2],
        ascending[last.div_ceil(2)],
    ))
}
