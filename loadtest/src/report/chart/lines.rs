//! A chart of lines: what it shows, and how it is drawn.

use std::fmt::Write as _;

use maud::{Markup, html};
use serde::Serialize;

use super::axis::{Axis, Fitted};
use super::canvas::{self, BOTTOM, CHARACTER, Frame, Head, RIGHT, WIDTH, tenths};

/// The number of colours. Further series use them again, with dashes.
const COLOURS: usize = 8;

const PLOT_HEIGHT: f64 = 220.0;

/// Room at the left for labels.
const LEFT: f64 = 72.0;

/// Room at the top for the name of the axis at the left.
const TOP: f64 = 26.0;

/// A line of text in a file of its own.
const LINE: f64 = 22.0;

/// Room for a stroke in the legend of a file, with the gaps around it.
const KEY: f64 = 44.0;

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Its heading.
    pub title: String,
    /// A description for people who cannot see it.
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
    pub(crate) name: String,
    /// The shape that joins its points.
    pub(crate) shape: Shape,
    /// Its points, x ascending. One that has no place on its axis, such as 0 on a logarithmic one, leaves a gap.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The shape that joins the points of a [`Series`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// From point to point.
    Line,
    /// Each value holds from the point before until its own, as for a span of time.
    Steps,
}

impl Chart {
    /// Whether any series has a point that can be drawn.
    pub(crate) fn is_empty(&self) -> bool {
        let drawable = |&(x, y): &(f64, f64)| self.x.can_place(x) && self.y.can_place(y);
        !self
            .series
            .iter()
            .any(|series| series.points.iter().any(drawable))
    }

    /// The chart as an element of a page, which has its title and legend. `id` is unique in the page.
    pub(crate) fn svg(&self, id: &str) -> Markup {
        draw(self, id, Frame::Page)
    }

    /// The legend as an element of a page: each series' name beside a stroke in its colour.
    pub(crate) fn legend(&self) -> Markup {
        html! {
            ul.legend {
                @for (index, series) in self.series.iter().enumerate() {
                    li {
                        svg.key viewBox="0 0 20 8" aria-hidden="true" {
                            path class=(stroke_class(index)) d="M1 4H19" {}
                        }
                        (series.name)
                    }
                }
            }
        }
    }

    /// The chart as an SVG file, whole and well formed as XML.
    pub fn standalone(&self) -> String {
        canvas::document(&draw(self, "chart", Frame::File))
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
    pub(crate) fn steps(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series {
            name: name.into(),
            shape: Shape::Steps,
            points,
        }
    }
}

/// The rectangle that lines are drawn in.
struct Plot {
    top: f64,
    x: Fitted,
    y: Fitted,
}

impl Plot {
    fn x(share: f64) -> f64 {
        tenths(LEFT + share * (WIDTH - LEFT - RIGHT))
    }

    fn y(&self, share: f64) -> f64 {
        tenths(self.top + (1.0 - share) * PLOT_HEIGHT)
    }

    /// The place of a point, if it has one.
    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        Some((Plot::x(self.x.place(x)?), self.y(self.y.place(y)?)))
    }
}

/// The classes of a series' stroke: its colour, and dashes when the colours begin again.
fn stroke_class(index: usize) -> String {
    let dashes = if index >= COLOURS { " dashed" } else { "" };
    format!("line c{}{dashes}", index % COLOURS)
}

fn draw(chart: &Chart, id: &str, frame: Frame) -> Markup {
    let legend = legend_rows(chart);
    let head = match frame {
        Frame::Page => 0.0,
        Frame::File => LINE * (1 + legend.len()) as f64 + 8.0,
    };
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let plot = Plot {
        top: head + TOP,
        x: chart.x.fit(points().map(|point| point.0), true),
        y: chart.y.fit(points().map(|point| point.1), false),
    };
    let width = Plot::x(1.0) - Plot::x(0.0);
    let height = plot.top + PLOT_HEIGHT + BOTTOM + canvas::second_row(&plot.x, width);
    let body = html! {
        @if frame == Frame::File {
            text.title x="14" y="24" { (chart.title) }
            (legend_text(&legend))
        }
        (grid(chart, &plot))
        g.lines {
            @for (index, series) in chart.series.iter().enumerate() {
                path class=(stroke_class(index)) d=(path(series, &plot)) {}
            }
        }
        @if frame == Frame::Page {
            line.cursor x1="0" x2="0" y1=(plot.top) y2=(plot.top + PLOT_HEIGHT) {}
            g.dots {}
            // The empty title keeps the chart's own from being shown under the pointer.
            rect.hover x="0" y="0" width=(WIDTH) height=(height) { title {} }
        }
    };
    let values = (frame == Frame::Page).then(|| values(chart, &plot));
    canvas::element(
        &Head {
            id,
            title: &chart.title,
            description: &chart.description,
            height,
            frame,
            values,
        },
        &body,
    )
}

fn grid(chart: &Chart, plot: &Plot) -> Markup {
    let (left, right) = (Plot::x(0.0), Plot::x(1.0));
    let (top, bottom) = (plot.y(1.0), plot.y(0.0));
    let rows = plot.y.labelled(|_| 24.0 / PLOT_HEIGHT);
    html! {
        g.grid {
            @for mark in &plot.y.marks {
                line.minor[!mark.is_major] x1=(left) x2=(right) y1=(plot.y(mark.at)) y2=(plot.y(mark.at)) {}
            }
            @for mark in &plot.x.marks {
                line.minor[!mark.is_major] x1=(Plot::x(mark.at)) x2=(Plot::x(mark.at)) y1=(top) y2=(bottom) {}
            }
            rect.frame x=(left) y=(top) width=(tenths(right - left)) height=(tenths(bottom - top)) {}
        }
        g.labels {
            @for mark in rows {
                text.y x=(left - 8.0) y=(plot.y(mark.at)) dy="0.35em" { (mark.label) }
            }
            (canvas::labels_below(&chart.x, &plot.x, bottom, Plot::x))
            text.name x=(left) y=(top - 10.0) { (chart.y.label) }
        }
    }
}

fn path(series: &Series, plot: &Plot) -> String {
    let mut out = String::new();
    // The place of the point before, if it was drawn, and where it was drawn or not.
    let mut before: Option<f64> = None;
    let mut last_x: Option<f64> = None;
    let mut is_dot = false;
    for point in &series.points {
        let place = plot.place(*point);
        let from_x = std::mem::replace(&mut last_x, plot.x.place(point.0).map(Plot::x));
        let Some((x, y)) = place else {
            end_part(&mut out, std::mem::take(&mut is_dot));
            before = None;
            continue;
        };
        let written = match (before, series.shape, from_x) {
            (None, Shape::Steps, Some(from)) => write!(out, "M{from} {y}H{x}"),
            (None, ..) => write!(out, "M{x} {y}"),
            (Some(_), Shape::Line, _) => write!(out, "L{x} {y}"),
            (Some(last), Shape::Steps, _) if (last - y).abs() < 0.05 => write!(out, "H{x}"),
            (Some(_), Shape::Steps, _) => write!(out, "V{y}H{x}"),
        };
        written.expect("a String takes everything");
        let is_step = series.shape == Shape::Steps && from_x.is_some();
        is_dot = before.is_none() && !is_step;
        before = Some(y);
    }
    end_part(&mut out, is_dot);
    out
}

/// Ends a part of a line. A part of one point is drawn as a dot, by its round ends.
fn end_part(out: &mut String, is_dot: bool) {
    if is_dot {
        out.push_str("h0.1");
    }
}

/// The rows of the legend: the names of series, each with its index and its place.
fn legend_rows(chart: &Chart) -> Vec<Vec<(usize, f64, &str)>> {
    let mut rows: Vec<Vec<(usize, f64, &str)>> = Vec::new();
    let mut at = WIDTH;
    for (index, series) in chart.series.iter().enumerate() {
        let width = KEY + series.name.chars().count() as f64 * CHARACTER * 0.8;
        if at + width > WIDTH {
            rows.push(Vec::new());
            at = 14.0;
        }
        rows.last_mut()
            .expect("just pushed")
            .push((index, at, &series.name));
        at += width;
    }
    rows
}

fn legend_text(rows: &[Vec<(usize, f64, &str)>]) -> Markup {
    html! {
        @for (row, names) in rows.iter().enumerate() {
            @let y = LINE * (row + 2) as f64 + 2.0;
            @for (index, x, name) in names {
                path class=(stroke_class(*index)) d={ "M" (tenths(*x)) " " (y - 4.0) "h20" } {}
                text x=(tenths(x + 26.0)) y=(y) { (name) }
            }
        }
    }
}

/// The values that the page's script shows: the labels on the x axis, and for each series its places and labels there.
#[derive(Serialize)]
struct Values<'a> {
    x: Vec<(f64, String)>,
    series: Vec<ValuesOf<'a>>,
}

#[derive(Serialize)]
struct ValuesOf<'a> {
    name: &'a str,
    y: Vec<Option<(f64, String)>>,
}

fn values(chart: &Chart, plot: &Plot) -> String {
    let mut xs: Vec<f64> = chart
        .series
        .iter()
        .flat_map(|series| &series.points)
        .filter(|point| plot.place(**point).is_some())
        .map(|point| point.0)
        .collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let of = |series: &Series| {
        let mut y = vec![None; xs.len()];
        for point in &series.points {
            let index = xs.binary_search_by(|x| x.total_cmp(&point.0));
            if let (Ok(index), Some(place)) = (index, plot.place(*point)) {
                y[index] = Some((place.1, chart.y.unit.show(point.1)));
            }
        }
        y
    };
    let series = chart.series.iter().map(|series| ValuesOf {
        name: &series.name,
        y: of(series),
    });
    let series = series.collect();
    let place = |x: &f64| {
        plot.x
            .place(*x)
            .map(|share| (Plot::x(share), chart.x.unit.show(*x)))
    };
    let x = xs.iter().filter_map(place).collect();
    serde_json::to_string(&Values { x, series }).expect("numbers and text")
}
