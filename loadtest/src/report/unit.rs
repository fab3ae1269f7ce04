//! Numbers as people read them: three significant digits and a unit.

/// The unit of a value: it says how the value is written, and which values are round.
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

/// Stands in place of a figure that is missing.
pub(crate) const NOTHING: &str = "–";

impl Unit {
    /// A figure with its unit, if there is one.
    pub(crate) fn show_any(self, figure: Option<f64>) -> String {
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
            // No clock of a run is finer than this.
            Unit::Seconds if value.abs() < 1e-3 => "0 s".to_owned(),
            // Below three minutes, people look for seconds.
            Unit::Seconds if value.abs() < 180.0 => format!("{} s", digits(value)),
            Unit::Seconds => scaled(value, &CLOCK),
            Unit::Bytes => scaled(value, &BYTES),
        }
    }
}

/// Writes a value in the largest unit of which it has at least one, after rounding.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let rounded = round(value);
    let (last, larger) = units.split_last().expect("there are units");
    let (size, name) = larger
        .iter()
        .find(|(size, _)| value.abs() >= *size || rounded.abs() >= *size * 0.9995)
        .unwrap_or(last);
    format!("{}{name}", digits(value / size))
}

/// Rounds to three significant digits.
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

/// A count with all its digits: `1,234,567`.
pub(crate) fn exact(count: u64) -> String {
    grouped(count as f64)
}

/// A count of things: `1 delivery`, `1,234 deliveries`.
pub(crate) fn counted(count: u64, one: &str, several: &str) -> String {
    format!(
        "{} {}",
        exact(count),
        if count == 1 { one } else { several }
    )
}

/// A whole number with a comma after each three digits.
fn grouped(value: f64) -> String {
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

/// Per cent, with all nines of the value and one digit more.
fn share(value: f64) -> String {
    let percent = value * 100.0;
    if !(90.0..100.0).contains(&percent) {
        return format!("{}%", digits(percent));
    }
    // 99.9 needs one place to be told from 100, 99.99 needs two. An f64 has room for some more.
    let places = (1..=12).find(|places| 100.0 - percent >= 10_f64.powi(1 - places) * (1.0 - 1e-9));
    let scale = 10_f64.powi(places.unwrap_or(12));
    // Rounds down, so that less than all is never shown as all. The addend keeps 99.9 if it is an ulp too small.
    let percent = (percent * scale + 1e-3).floor() / scale;
    format!("{percent}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_a_unit() {
        let shown = [
            (Unit::Nanoseconds, 850.0, "850 ns"),
            (Unit::Nanoseconds, 1_234.0, "1.23 µs"),
            (Unit::Nanoseconds, 999_999.0, "1 ms"),
            (Unit::Nanoseconds, 20e9, "20 s"),
            (Unit::Nanoseconds, 120e9, "2 min"),
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 12_345.0, "12,345"),
            (Unit::Count, 12_345_678.0, "12.3 M"),
            (Unit::Number, 0.125, "0.125"),
            (Unit::Number, 1_500.0, "1.5 k"),
            (Unit::Bytes, 512.0, "512 B"),
            (Unit::Bytes, 1024.0, "1 KiB"),
            (Unit::Bytes, 1.5 * 1024.0 * 1024.0, "1.5 MiB"),
            (Unit::Share, 0.5, "50%"),
            (Unit::Share, 0.999, "99.9%"),
            (Unit::Share, 0.999_99, "99.999%"),
            (Unit::Share, 0.999_999_999, "99.9999999%"),
            (Unit::Share, 1.0, "100%"),
            (Unit::Seconds, 1e-10, "0 s"),
            (Unit::Seconds, 0.05, "0.05 s"),
            (Unit::Seconds, 90.0, "90 s"),
            (Unit::Seconds, 600.0, "10 min"),
            (Unit::Number, f64::NAN, "–"),
        ];
        for (unit, value, text) in shown {
            assert_eq!(unit.show(value), text, "{unit:?} {value}");
        }
    }

    #[test]
    fn one_thing_is_not_several() {
        let show = |count| counted(count, "delivery", "deliveries");
        let shown = [0, 1, 1_234_567].map(show);
        assert_eq!(
            shown,
            ["0 deliveries", "1 delivery", "1,234,567 deliveries"]
        );
    }

    #[test]
    fn a_share_below_one_is_never_shown_as_all() {
        for value in [0.999_949, 0.999_96, 0.999_999_6] {
            assert_ne!(Unit::Share.show(value), "100%");
        }
    }
}
