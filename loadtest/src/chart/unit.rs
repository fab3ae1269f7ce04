//! Numbers as people read them: three significant digits and a unit.

/// What a value is, and so how it is written and where round values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number: `0.25`, `1.5 k`, `20 M`.
    Number,
    /// Things that are counted: `3`, `1,234`, `20 M`.
    Count,
    /// A share from 0 to 1: `99.9%`.
    Share,
    /// Nanoseconds: `850 ns`, `1.2 ms`, `3 s`.
    Nanoseconds,
    /// Seconds on a clock: `12 s`, `3 min`, `1.5 h`.
    Seconds,
    /// Bytes: `512 B`, `1.5 MiB`.
    Bytes,
}

const METRIC: [(f64, &str); 4] = [(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")];
const TIMES: [(f64, &str); 5] = [
    (60e9, " min"),
    (1e9, " s"),
    (1e6, " ms"),
    (1e3, " µs"),
    (1.0, " ns"),
];
const CLOCK: [(f64, &str); 3] = [(3600.0, " h"), (60.0, " min"), (1.0, " s")];
const BYTES: [(f64, &str); 5] = [
    ((1_u64 << 40) as f64, " TiB"),
    ((1_u64 << 30) as f64, " GiB"),
    ((1_u64 << 20) as f64, " MiB"),
    (1024.0, " KiB"),
    (1.0, " B"),
];

/// Counts below are written out.
const LONG_COUNT: f64 = 100_000.0;

/// Stands where there is no figure.
pub const NOTHING: &str = "–";

impl Unit {
    /// A figure with its unit, if there is one.
    pub fn show_any(self, figure: Option<f64>) -> String {
        figure.map_or(NOTHING.to_owned(), |figure| self.show(figure))
    }

    /// The value with its unit, to three significant digits.
    pub fn show(self, value: f64) -> String {
        if !value.is_finite() {
            return NOTHING.to_owned();
        }
        match self {
            Unit::Count if value.abs() < LONG_COUNT => grouped(value.round()),
            Unit::Number | Unit::Count => scaled(value, &METRIC),
            Unit::Share => share(value),
            Unit::Nanoseconds => scaled(value, &TIMES),
            // Below three minutes, the seconds are what one looks for.
            Unit::Seconds if value.abs() < 180.0 => format!("{} s", digits(value)),
            Unit::Seconds => scaled(value, &CLOCK),
            Unit::Bytes => scaled(value, &BYTES),
        }
    }
}

/// In the largest unit of which there is a whole one after rounding.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let rounded = round(value);
    let (last, larger) = units.split_last().expect("there are units");
    let (size, name) = larger
        .iter()
        .find(|(size, _)| value.abs() >= *size || rounded.abs() >= *size * 0.9995)
        .unwrap_or(last);
    format!("{}{name}", digits(value / size))
}

/// To three significant digits.
fn round(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    // Numbers that people look at have few digits.
    let places = 2 - value.abs().log10().floor() as i32;
    let factor = 10_f64.powi(places);
    (value * factor).round() / factor
}

/// Three significant digits, without zeros at the end of a fraction.
fn digits(value: f64) -> String {
    let value = round(value);
    if value.abs() >= 1e4 {
        return grouped(value);
    }
    // Adding 0.0 makes -0 a 0.
    format!("{}", value + 0.0)
}

/// A whole number with a comma after each three digits.
pub(crate) fn grouped(value: f64) -> String {
    let plain = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Per cent, with as many nines as the value has and one digit more.
fn share(value: f64) -> String {
    let percent = value * 100.0;
    if !(90.0..100.0).contains(&percent) {
        return format!("{}%", digits(percent));
    }
    // 99.9 has one place that is needed to tell it from 100, 99.99 has two; an f64 has room for some more.
    let places = (1..=12).find(|places| 100.0 - percent >= 10_f64.powi(1 - places) * (1.0 - 1e-9));
    let scale = 10_f64.powi(places.unwrap_or(12));
    // Downwards, so that less than all is never shown as all; but an ulp below 99.9 is 99.9.
    let percent = (percent * scale + 1e-3).floor() / scale;
    format!("{percent}%")
}
