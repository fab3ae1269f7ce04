//! Axes: the place of each value, and the marks with their labels.

use crate::report::unit::Unit;

/// The most spaces between the marks of a linear axis: at the left, and at the bottom, which is longer.
const SPACES: f64 = 5.0;
const SPACES_BELOW: f64 = 8.0;

/// Round values on a clock, in seconds.
const CLOCK_STEPS: [f64; 16] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    14400.0, 43200.0,
];

/// The most nines on an axis: enough for a billion values.
const MAX_NINES: i32 = 9;

/// The spread of values along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from the smallest to the largest.
    Linear,
    /// Evenly, from 0.
    FromZero,
    /// By their logarithm. Only values above 0 have a place.
    Log,
    /// Shares from 0 to 1, by the logarithm of the rest to 1: 90%, 99% and 99.9% are equally far apart. 1 itself has no
    /// place.
    Nines,
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its name.
    pub label: String,
    /// The unit of its values.
    pub unit: Unit,
    /// The spread of its values.
    pub scale: Scale,
}

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    /// Its place, from 0 to 1.
    pub(super) at: f64,
    /// Its label, if there is room for it.
    pub(super) label: String,
    /// Whether it is labelled before the others.
    pub(super) is_major: bool,
}

/// An axis that was fitted to its values.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    scale: Scale,
    /// Its ends, on its own scale.
    low: f64,
    high: f64,
    pub(super) marks: Vec<Mark>,
}

impl Axis {
    /// An axis with this label, unit and scale.
    pub fn new(label: impl Into<String>, unit: Unit, scale: Scale) -> Axis {
        Axis {
            label: label.into(),
            unit,
            scale,
        }
    }

    pub(super) fn can_place(&self, value: f64) -> bool {
        spread(self.scale, value).is_some()
    }

    /// Finds the ends and the marks for these values. `tight` leaves no room beyond the values, as on an axis of time.
    pub(super) fn fit(&self, values: impl Iterator<Item = f64>, tight: bool) -> Fitted {
        let placed = values.filter(|value| self.can_place(*value));
        let (mut low, mut high) = placed.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > high {
            (low, high) = (1.0, 1.0);
        }
        if self.scale == Scale::FromZero {
            low = low.min(0.0);
        }
        match self.scale {
            Scale::Linear | Scale::FromZero => self.fit_linear(low, high, tight),
            Scale::Log => self.fit_log(low, high),
            Scale::Nines => self.fit_nines(high),
        }
    }

    fn fit_linear(&self, mut low: f64, mut high: f64, tight: bool) -> Fitted {
        if high <= low {
            high = low + if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        }
        let step = self.step((high - low) / if tight { SPACES_BELOW } else { SPACES });
        if !tight {
            (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        }
        // The step was chosen so that there are few.
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let values = (first..=last).map(|index| (index as f64 * step, true));
        self.fitted(low, high, values)
    }

    /// The round step at or above `rough`.
    fn step(&self, rough: f64) -> f64 {
        let step = match self.unit {
            Unit::Seconds if rough > 1.0 => {
                let days = (rough / 86_400.0).ceil() * 86_400.0;
                CLOCK_STEPS
                    .iter()
                    .copied()
                    .find(|step| *step >= rough)
                    .unwrap_or(days)
            }
            Unit::Bytes => {
                let unit = 1024_f64.powf(rough.max(1.0).log(1024.0).floor());
                // After 500 comes 1024, which is the next unit's 1.
                let step = decimal_step(rough / unit);
                if step > 500.0 {
                    1024.0 * unit
                } else {
                    step * unit
                }
            }
            Unit::Number | Unit::Count | Unit::Share | Unit::Nanoseconds | Unit::Seconds => {
                decimal_step(rough)
            }
        };
        if matches!(self.unit, Unit::Count | Unit::Bytes) {
            step.max(1.0)
        } else {
            step
        }
    }

    fn fit_log(&self, low: f64, high: f64) -> Fitted {
        let (base, steps): (f64, &[f64]) = match self.unit {
            Unit::Bytes => (
                1024.0,
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
            ),
            Unit::Number | Unit::Count | Unit::Share | Unit::Nanoseconds | Unit::Seconds => {
                (10.0, &[1.0, 2.0, 5.0])
            }
        };
        // The exponent of a measured number is small.
        let first = low.log(base).floor() as i32 - 1;
        let last = high.log(base).ceil() as i32 + 1;
        let all: Vec<(f64, bool)> = (first..=last)
            .flat_map(|power| {
                steps
                    .iter()
                    .map(move |step| (step * base.powi(power), step.log(base).abs() < 1e-9))
            })
            .collect();
        // A value on a mark may be an ulp beside it.
        let below = all
            .iter()
            .rev()
            .find(|(mark, _)| *mark <= low * (1.0 + 1e-9));
        let above = all
            .iter()
            .find(|(mark, _)| *mark > low * 1.01 && *mark >= high * (1.0 - 1e-9));
        let low = below.map_or(low, |(mark, _)| *mark);
        let high = above.map_or(high, |(mark, _)| *mark);
        let inside = |mark: &(f64, bool)| mark.0 >= low && mark.0 <= high;
        self.fitted(low, high, all.into_iter().filter(inside))
    }

    fn fit_nines(&self, high: f64) -> Fitted {
        let nines = (1..=MAX_NINES).map(|nines| (1.0 - 10_f64.powi(-nines), true));
        let high = high.max(0.9);
        // The axis begins at 0%. The label of 50% is shown if there is room.
        let values = [(0.0, true), (0.5, false)].into_iter().chain(nines);
        self.fitted(0.0, high, values.filter(|(value, _)| *value <= high))
    }

    fn fitted(&self, low: f64, high: f64, values: impl Iterator<Item = (f64, bool)>) -> Fitted {
        let end = |value| spread(self.scale, value).expect("the ends are on the axis");
        let mut fitted = Fitted {
            scale: self.scale,
            low: end(low),
            high: end(high),
            marks: Vec::new(),
        };
        let marks = values.filter_map(|(value, is_major)| {
            Some(Mark {
                at: fitted.place(value)?,
                label: self.unit.show(value),
                is_major,
            })
        });
        fitted.marks = marks.collect();
        fitted
    }
}

impl Fitted {
    /// The place of a value: 0 at the beginning, 1 at the end. `None` if it has no place on this axis.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let spread = spread(self.scale, value)?;
        Some((spread - self.low) / (self.high - self.low))
    }

    /// The labels in one row, and those for a second one. An axis of nines needs all its labels, because nobody can tell
    /// from its neighbours which nine is missing.
    pub(super) fn rows(&self, room: impl Fn(&str) -> f64) -> [Vec<&Mark>; 2] {
        let first = self.labelled(&room);
        if self.scale != Scale::Nines {
            return [first, Vec::new()];
        }
        let is_left = |mark: &&Mark| mark.is_major && !first.contains(mark);
        let mut second: Vec<&Mark> = Vec::new();
        for mark in self.marks.iter().filter(is_left) {
            let needs = |other: &Mark| f64::midpoint(room(&mark.label), room(&other.label));
            if second
                .iter()
                .all(|other| (other.at - mark.at).abs() >= needs(other))
            {
                second.push(mark);
            }
        }
        [first, second]
    }

    /// Chooses the labels that have room, the major ones first. `room` is the length of a label, as a share of the
    /// axis.
    pub(super) fn labelled(&self, room: impl Fn(&str) -> f64) -> Vec<&Mark> {
        let mut chosen: Vec<&Mark> = Vec::new();
        for is_major in [true, false] {
            for mark in self.marks.iter().filter(|mark| mark.is_major == is_major) {
                let half = room(&mark.label) / 2.0;
                let is_free =
                    |other: &&Mark| (other.at - mark.at).abs() >= half + room(&other.label) / 2.0;
                if chosen.iter().all(is_free) {
                    chosen.push(mark);
                }
            }
        }
        chosen
    }
}

fn spread(scale: Scale, value: f64) -> Option<f64> {
    let spread = match scale {
        Scale::Linear | Scale::FromZero => value,
        Scale::Log if value > 0.0 => value.log10(),
        Scale::Nines if (0.0..1.0).contains(&value) => -(1.0 - value).log10(),
        Scale::Log | Scale::Nines => return None,
    };
    spread.is_finite().then_some(spread)
}

/// The next step at or above `rough`: 1, 2 or 5 times a power of ten.
fn decimal_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}
