//! A [`Chart`] as SVG: frame, grid, lines, and the values that a page's script shows under the pointer.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use super::axis::{Axis, Fitted};
use super::{COLOURS, Chart, STYLE, Series, Shape};

const WIDTH: f64 = 520.0;
const PLOT_HEIGHT: f64 = 220.0;

/// Room at the left for labels, at the right for half of the last one, at the bottom for labels and the axis' name.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 22.0;
const BOTTOM: f64 = 48.0;

/// Room at the top for the name of the axis at the left.
const TOP: f64 = 26.0;

/// A line of text in a file of its own.
const LINE: f64 = 22.0;

/// What a character takes at most: small screens have larger letters.
pub(super) const CHARACTER: f64 = 8.6;

/// What a stroke in the legend of a file takes, with the gaps around it.
const KEY: f64 = 44.0;

/// Where a chart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// In a page, which has its title, legend and style.
    Page,
    /// In a file.
    File,
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

    /// Where a point is, if it is anywhere.
    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        Some((Plot::x(self.x.place(x)?), self.y(self.y.place(y)?)))
    }
}

/// Finer than any screen.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The classes of a series' stroke: its colour, and dashes when the colours begin again.
pub(super) fn stroke_class(index: usize) -> String {
    let dashes = if index >= COLOURS { " dashed" } else { "" };
    format!("line c{}{dashes}", index % COLOURS)
}

pub(super) fn chart(chart: &Chart, id: &str, frame: Frame) -> Markup {
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
    let height = plot.top + PLOT_HEIGHT + BOTTOM;
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
            // An empty title: the chart's own would be shown under the pointer.
            rect.hover x="0" y="0" width=(WIDTH) height=(height) { title {} }
        }
    };
    let values = (frame == Frame::Page).then(|| values(chart, &plot));
    element(
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

/// What every SVG element of ours begins with.
pub(super) struct Head<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    pub(super) height: f64,
    pub(super) frame: Frame,
    /// JSON for the page's script.
    pub(super) values: Option<String>,
}

pub(super) fn element(head: &Head<'_>, body: &Markup) -> Markup {
    let (title, description) = (format!("{}-title", head.id), format!("{}-desc", head.id));
    let is_file = head.frame == Frame::File;
    let names = format!("{title} {description}");
    let size = format!("0 0 {WIDTH} {}", head.height);
    html! {
        svg.chart id=(head.id) xmlns="http://www.w3.org/2000/svg" viewBox=(size)
            width=[is_file.then_some(WIDTH)] height=[is_file.then_some(head.height)]
            role="img" aria-labelledby=(names) data-values=[head.values.as_deref()]
            tabindex=[head.values.as_ref().map(|_| "0")] {
            title id=(title) { (head.title) }
            desc id=(description) { (head.description) }
            @if is_file {
                style { (PreEscaped(STYLE)) }
                rect.paper width="100%" height="100%" {}
            }
            (body)
        }
    }
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
            (labels_below(&plot.x, bottom, Plot::x))
            text.name x=(left) y=(top - 10.0) { (chart.y.label) }
            (name_below(&chart.x, bottom))
        }
    }
}

/// The labels of an axis at the bottom.
pub(super) fn labels_below(axis: &Fitted, bottom: f64, x: impl Fn(f64) -> f64) -> Markup {
    let width = x(1.0) - x(0.0);
    // A gap of a character between two of them.
    let room = |label: &str| (label.chars().count() as f64 + 1.0) * CHARACTER / width;
    html! {
        @for mark in axis.labelled(room) {
            // The last may be as wide as the room beside the axis, and begins further left then.
            @let overhang = x(mark.at) + mark.label.chars().count() as f64 * CHARACTER / 2.0 - WIDTH;
            text.x x=(tenths(x(mark.at) - overhang.max(0.0))) y=(tenths(bottom + 19.0)) { (mark.label) }
        }
    }
}

/// The name of an axis at the bottom, at its end.
pub(super) fn name_below(axis: &Axis, bottom: f64) -> Markup {
    html! { text.name.x-name x=(WIDTH - RIGHT) y=(tenths(bottom + 40.0)) { (axis.label) } }
}

fn path(series: &Series, plot: &Plot) -> String {
    let mut out = String::new();
    let mut before: Option<f64> = None;
    for point in &series.points {
        let Some((x, y)) = plot.place(*point) else {
            before = None;
            continue;
        };
        let written = match (before, series.shape) {
            (None, _) => write!(out, "M{x} {y}"),
            (Some(_), Shape::Line) => write!(out, "L{x} {y}"),
            (Some(last), Shape::Steps) if (last - y).abs() < 0.05 => write!(out, "H{x}"),
            (Some(_), Shape::Steps) => write!(out, "V{y}H{x}"),
        };
        written.expect("a String takes all");
        before = Some(y);
    }
    // A single point is drawn as a dot, by its round ends.
    if out.rfind('M') == Some(0) && !out.contains(['L', 'H', 'V']) && !out.is_empty() {
        out.push_str("h0.1");
    }
    out
}

/// Names of series by rows of the legend, each with its index and where it begins.
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

/// What the page's script shows: for each place on the x axis its label, for each series its places and labels there.
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
        .map(|point| point.0)
        .collect();
    xs.retain(|x| plot.x.place(*x).is_some());
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
