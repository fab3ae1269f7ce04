//! The parts of all charts: the SVG element, its style, and the labels below an axis.

use maud::{Markup, PreEscaped, html};

use super::axis::{Axis, Fitted};

/// The style of charts: a part of a page's style, and of each standalone file.
pub(crate) const STYLE: &str = include_str!("style.css");

/// The width of a chart.
pub(super) const WIDTH: f64 = 520.0;
/// Room at the bottom for labels and the axis' name.
pub(super) const BOTTOM: f64 = 48.0;

/// The height of a row of labels.
const ROW: f64 = 17.0;

/// Room at the right for half of the last label.
pub(super) const RIGHT: f64 = 22.0;
/// The most room that a character takes: small screens have larger letters.
pub(super) const CHARACTER: f64 = 8.6;

/// The place of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// In a page, which has its title, legend and style.
    Page,
    /// In a file.
    File,
}

/// Rounds to a tenth of a pixel, finer than any screen.
pub(super) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The beginning of every SVG element.
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

/// The labels of an axis at the bottom, in two rows if they need them, and under them its name.
pub(super) fn labels_below(
    axis: &Axis,
    fitted: &Fitted,
    bottom: f64,
    x: impl Fn(f64) -> f64,
) -> Markup {
    let width = x(1.0) - x(0.0);
    let name = bottom + 40.0 + second_row(fitted, width);
    html! {
        @for (row, marks) in fitted.rows(|label| room(label, width)).iter().enumerate() {
            @for mark in marks {
                // The last label may be wider than the room beside the axis. It begins further left then, by a
                // character more than it should need, because some fonts are wide.
                @let overhang = x(mark.at) + (mark.label.chars().count() as f64 + 2.0) * CHARACTER / 2.0 - WIDTH;
                @let y = bottom + 19.0 + row as f64 * ROW;
                text.x x=(tenths(x(mark.at) - overhang.max(0.0))) y=(tenths(y)) { (mark.label) }
            }
        }
        text.name.x-name x=(WIDTH - RIGHT) y=(tenths(name)) { (axis.label) }
    }
}

/// The height of the second row of labels; 0 without one.
pub(super) fn second_row(fitted: &Fitted, width: f64) -> f64 {
    let [_, second] = fitted.rows(|label| room(label, width));
    if second.is_empty() { 0.0 } else { ROW }
}

/// The room of a label, as a share of an axis that is so wide: with a gap of a character between two of them.
fn room(label: &str, width: f64) -> f64 {
    (label.chars().count() as f64 + 1.0) * CHARACTER / width
}

/// A file of its own with an element in it.
pub(super) fn document(svg: &Markup) -> String {
    html! { (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")) (svg) "\n" }.into_string()
}
