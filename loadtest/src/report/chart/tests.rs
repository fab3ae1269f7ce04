//! Tests of charts, by the SVG that they make.

use super::axis::Fitted;
use super::lines::Shape;
use super::*;
use crate::report::unit::Unit;

fn labels(fitted: &Fitted) -> Vec<&str> {
    fitted
        .marks
        .iter()
        .map(|mark| mark.label.as_str())
        .collect()
}

fn fit(unit: Unit, scale: Scale, values: &[f64]) -> Fitted {
    Axis::new("", unit, scale).fit(values.iter().copied(), false)
}

fn chart(points: Vec<(f64, f64)>) -> Chart {
    Chart {
        title: "Time <over> time".to_owned(),
        description: "How it \"goes\" & comes".to_owned(),
        x: Axis::new("Seconds", Unit::Seconds, Scale::Linear),
        y: Axis::new("Latency", Unit::Nanoseconds, Scale::Log),
        series: vec![Series::line("</svg>", points)],
    }
}

fn path_of(chart: &Chart) -> String {
    let svg = chart.svg("it").into_string();
    let path = svg.split("<path class=\"line c0\" d=\"").nth(1).unwrap();
    path.split('"').next().unwrap().to_owned()
}

#[test]
fn linear_axes_have_round_marks() {
    let axis = fit(Unit::Number, Scale::FromZero, &[3.0, 87.0]);
    assert_eq!(labels(&axis), ["0", "20", "40", "60", "80", "100"]);
    let axis = fit(Unit::Bytes, Scale::FromZero, &[0.0, 40.0 * 1024.0 * 1024.0]);
    assert_eq!(
        labels(&axis),
        ["0 B", "10 MiB", "20 MiB", "30 MiB", "40 MiB"]
    );
    let axis = fit(Unit::Bytes, Scale::FromZero, &[0.0, 4_100_000.0]);
    assert_eq!(labels(&axis), ["0 B", "1 MiB", "2 MiB", "3 MiB", "4 MiB"]);
    let axis = fit(Unit::Seconds, Scale::Linear, &[0.0, 300.0]);
    assert_eq!(
        labels(&axis),
        ["0 s", "60 s", "120 s", "3 min", "4 min", "5 min"]
    );
}

#[test]
fn counts_have_no_marks_between_whole_numbers() {
    let axis = fit(Unit::Count, Scale::FromZero, &[0.0, 1.0]);
    assert_eq!(labels(&axis), ["0", "1"]);
    let axis = fit(Unit::Count, Scale::FromZero, &[0.0, 0.0]);
    assert_eq!(labels(&axis), ["0", "1"]);
}

#[test]
fn logarithmic_axes_end_on_marks_and_hold_all_values() {
    let axis = fit(Unit::Nanoseconds, Scale::Log, &[30_000.0, 900_000.0]);
    assert_eq!(
        labels(&axis),
        ["20 µs", "50 µs", "100 µs", "200 µs", "500 µs", "1 ms"]
    );
    assert_eq!(axis.place(20_000.0), Some(0.0));
    assert_eq!(axis.place(0.0), None);
    let same = fit(Unit::Nanoseconds, Scale::Log, &[1000.0, 1000.0]);
    assert_eq!(labels(&same), ["1 µs", "2 µs"]);
}

#[test]
fn nines_are_equally_far_apart() {
    let axis = fit(Unit::Share, Scale::Nines, &[0.0, 0.99999]);
    assert_eq!(
        labels(&axis),
        ["0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%"]
    );
    let at = |share: f64| axis.place(share).unwrap();
    assert!((at(0.99) - at(0.9) - (at(0.999) - at(0.99))).abs() < 1e-9);
    assert_eq!(axis.place(1.0), None);
}

#[test]
fn labels_that_would_overlap_are_left_out_the_lesser_first() {
    let axis = fit(Unit::Share, Scale::Nines, &[0.0, 0.99999]);
    let labelled = axis.labelled(|_| 0.19);
    let labelled: Vec<&str> = labelled.iter().map(|mark| mark.label.as_str()).collect();
    assert!(
        labelled.contains(&"0%") && !labelled.contains(&"50%"),
        "{labelled:?}"
    );
    assert_eq!(axis.labelled(|_| 0.0).len(), axis.marks.len());
}

#[test]
fn every_nine_has_its_label_however_long_the_axis_is() {
    for nines in 2..=9 {
        let most = 1.0 - 10_f64.powi(-nines) / 2.0;
        let chart = Chart {
            x: Axis::new("share", Unit::Share, Scale::Nines),
            ..chart(vec![(0.0, 1e3), (most, 1e6)])
        };
        let svg = chart.svg("it").into_string();
        let labels = ["90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"];
        for (label, nines_of_label) in labels.into_iter().zip(1..) {
            let is_there = svg.contains(&format!(">{label}<"));
            assert_eq!(
                is_there,
                nines_of_label <= nines,
                "{label} of {nines} nines"
            );
        }
    }
}

#[test]
fn a_part_of_one_point_between_two_gaps_can_be_seen() {
    let path = path_of(&chart(vec![
        (0.0, 1e3),
        (1.0, 0.0),
        (2.0, 1e4),
        (3.0, 0.0),
        (4.0, 1e5),
    ]));
    assert_eq!(
        (path.matches('M').count(), path.matches("h0.1").count()),
        (3, 3),
        "{path}"
    );
}

#[test]
fn a_step_behind_a_gap_has_its_own_length() {
    let mut chart = chart(vec![(0.0, 1e3), (1.0, 1e3), (2.0, 0.0), (3.0, 1e4)]);
    chart.series[0].shape = Shape::Steps;
    let path = path_of(&chart);
    let kinds: String = path.chars().filter(char::is_ascii_alphabetic).collect();
    assert_eq!(kinds, "MHMH", "{path}");
}

#[test]
fn a_value_that_has_no_place_leaves_a_gap() {
    let path = path_of(&chart(vec![
        (0.0, 1e3),
        (1.0, 1e4),
        (2.0, 0.0),
        (3.0, 1e5),
        (4.0, 1e6),
    ]));
    assert_eq!(path.matches('M').count(), 2, "{path}");
    assert_eq!(path.matches('L').count(), 2, "{path}");
}

#[test]
fn steps_go_up_and_then_along() {
    let mut chart = chart(vec![(0.0, 1e3), (1.0, 1e4), (2.0, 1e4)]);
    chart.series[0].shape = Shape::Steps;
    let path = path_of(&chart);
    let kinds: String = path.chars().filter(char::is_ascii_alphabetic).collect();
    assert_eq!(kinds, "MVHH");
}

#[test]
fn one_point_can_be_seen() {
    assert!(path_of(&chart(vec![(1.0, 1e3)])).ends_with("h0.1"));
}

#[test]
fn nothing_to_draw_is_known_and_still_a_chart() {
    let nothing = chart(vec![(1.0, 0.0)]);
    assert!(nothing.is_empty());
    assert!(nothing.svg("it").into_string().ends_with("</svg>"));
    assert!(!chart(vec![(1.0, 1.0)]).is_empty());
}

#[test]
fn a_file_of_its_own_has_style_title_and_legend_and_escapes_them() {
    let file = chart(vec![(0.0, 1e3), (1.0, 1e4)]).standalone();
    assert!(file.starts_with("<?xml"));
    assert!(file.contains("prefers-color-scheme: dark"));
    assert!(file.contains("Time &lt;over&gt; time"));
    assert_eq!(file.matches("</svg>").count(), 1);
    assert!(file.contains("&lt;/svg&gt;"));
}

#[test]
fn ranks_show_the_median_and_every_value() {
    let ranks = Ranks {
        title: "CPU".to_owned(),
        description: "CPU of each".to_owned(),
        axis: Axis::new("CPU", Unit::Nanoseconds, Scale::Log),
        rows: vec![
            Rank {
                name: "one".to_owned(),
                values: vec![300.0, 100.0, 200.0],
                is_marked: true,
            },
            Rank {
                name: "none".to_owned(),
                values: vec![],
                is_marked: false,
            },
        ],
    };
    let svg = ranks.svg("it").into_string();
    assert_eq!(svg.matches("class=\"each\"").count(), 3);
    assert!(svg.contains(">200 ns<") && svg.contains(">–<"));
}
