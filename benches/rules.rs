//! The cost of finding the rule for a topic, by the number of rules: what each request costs more with rules.
//!
//! `cargo bench --bench rules`. `names` begin as the rules do, each with a tenant of its own. `stars` also have rules with `*`
//! in the place of the tenant, so a name leads to two branches. `unlike` names begin like no rule.

#![allow(clippy::unwrap_used, reason = "a bench may panic where it stands")]

use std::cell::Cell;

use divan::{Bencher, black_box};
use fanwire::internals::pattern::{Pattern, PatternSet};

const COUNTS: [usize; 4] = [1, 10, 1_000, 10_000];

fn main() {
    divan::main();
}

fn set(count: usize, pattern: impl Fn(usize) -> String) -> PatternSet {
    let patterns = (0..count).map(|n| Pattern::new(&pattern(n)).unwrap());
    PatternSet::new(patterns.collect())
}

/// Looks one new name after the other up.
fn look_up(bencher: Bencher<'_, '_>, set: &PatternSet, name: impl Fn(usize) -> String) {
    let names: Vec<String> = (0..10_000).map(|n| name(n * 7_919 % 10_000)).collect();
    let next = Cell::new(0);
    bencher.bench_local(|| {
        let at = (next.get() + 1) % names.len();
        next.set(at);
        set.first(black_box(&names[at]))
    });
}

#[divan::bench(args = COUNTS)]
fn names(bencher: Bencher<'_, '_>, count: usize) {
    let set = set(count, |n| format!("/tenants/tenant-{n}/**"));
    look_up(bencher, &set, |n| format!("/tenants/tenant-{n}/rooms/{n}"));
}

#[divan::bench(args = COUNTS)]
fn stars(bencher: Bencher<'_, '_>, count: usize) {
    let set = set(count, |n| match n % 2 {
        0 => format!("/tenants/tenant-{n}/**"),
        _ => format!("/tenants/*/room-{n}/*"),
    });
    look_up(bencher, &set, |n| format!("/tenants/tenant-{n}/room-{n}/x"));
}

#[divan::bench(args = COUNTS)]
fn unlike(bencher: Bencher<'_, '_>, count: usize) {
    let set = set(count, |n| format!("/tenants/tenant-{n}/**"));
    look_up(bencher, &set, |n| format!("/rooms/{n}"));
}
