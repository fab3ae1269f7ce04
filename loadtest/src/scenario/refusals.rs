//! Options that make no sense, alone or together: each is refused with a sentence that says what to do.
//!
//! The plan calls it. Limits of the machine are in `limits.rs`.

use std::time::Duration;

use super::message::{Format, MAX_DUE};
use super::options::Options;
use super::protocol::Resume;
use super::scenarios::Scenario;
use crate::clock::nanos;

/// The largest payload: many relays take no more, and our own buffers are made for it.
const MAX_PAYLOAD: u64 = 64 << 20;

/// The most threads: more do not help.
const MAX_THREADS: usize = 1024;

/// The shortest and the longest patience with missing deliveries.
const MIN_PATIENCE: Duration = Duration::from_millis(100);
const MAX_PATIENCE: Duration = Duration::from_mins(10);

/// The shortest quiet part of a round: the next round is announced in it.
const MIN_EVERY: Duration = Duration::from_millis(5);

/// The most requests in flight on a connection.
const MAX_PIPELINE: usize = 10_000;

/// The shortest mean life of a client that is cut at random.
const MIN_LIFE: Duration = Duration::from_millis(100);

/// The longest time that a client stays away.
const MAX_AWAY: Duration = Duration::from_mins(10);

/// Refuses options that make no sense.
pub(super) fn check(options: &Options) -> Result<(), String> {
    check_counts(options)?;
    check_particular(options)?;
    check_times(options)?;
    check_size(options)
}

fn check_counts(options: &Options) -> Result<(), String> {
    if options.url.len() > 1 && (options.metrics_url.is_some() || options.server_pid.is_some()) {
        return Err(
            "--metrics-url and --server-pid look at one relay, and several are loaded: leave them out, or name one --url"
                .into(),
        );
    }
    let at_least_one = [
        ("--subscribers", options.subscribers),
        ("--topics", options.topics),
        ("--connecting", options.connecting),
        ("--publishers", options.publishers),
        ("--window", options.window.unwrap_or(1)),
        ("--pipeline", options.pipeline),
    ];
    for (name, value) in at_least_one {
        if value == 0 {
            let hint = if name == "--publishers" {
                "; the scenario idle has connections that send nothing"
            } else {
                ""
            };
            return Err(format!("{name} 0: it must be 1 or more{hint}"));
        }
    }
    if options.topics > options.subscribers {
        return Err(format!(
            "--topics {}: more than the {} subscribers; each topic needs one",
            options.topics, options.subscribers
        ));
    }
    if !(options.active > 0.0 && options.active <= 1.0) {
        return Err("--active: it must be above 0 and at most 1".into());
    }
    if options.threads > MAX_THREADS {
        return Err(format!("--threads: at most {MAX_THREADS}"));
    }
    Ok(())
}

/// The options that belong to some scenarios only.
fn check_particular(options: &Options) -> Result<(), String> {
    let is_possible = |rate: f64| rate > 0.0 && rate <= 1e9;
    if options.rate.is_some_and(|rate| !is_possible(rate)) {
        return Err("--rate: it must be above 0 and at most 1000000000 messages a second".into());
    }
    if options.pipeline > 1 && !options.post {
        return Err("--pipeline: it is for publishers that send by POST; add --post".into());
    }
    if options.pipeline > MAX_PIPELINE {
        return Err(format!("--pipeline: at most {MAX_PIPELINE} requests"));
    }
    if options.rate.is_some() && options.window.is_some() {
        return Err("--rate and --window: one is an open loop, the other a closed loop".into());
    }
    let scenario = options.scenario;
    if scenario == Scenario::Churn && !(options.churn_rate > 0.0 && options.churn_rate <= 1e5) {
        return Err("--churn-rate: it must be above 0 and at most 100000 a second".into());
    }
    if scenario == Scenario::Slow && !(options.slow_share > 0.0 && options.slow_share < 1.0) {
        let reason = "one subscriber must keep up, so that the order is known";
        return Err(format!(
            "--slow-share: it must be above 0 and below 1; {reason}"
        ));
    }
    if scenario == Scenario::Slow && options.stall < Duration::from_millis(1) {
        return Err("--stall: it must be 1ms or more".into());
    }
    if scenario == Scenario::Jitter {
        check_jitter(options)?;
    }
    if scenario.has_rounds() && options.every < MIN_EVERY {
        return Err("--every: it must be 5ms or more".into());
    }
    Ok(())
}

fn check_jitter(options: &Options) -> Result<(), String> {
    if !options.cut_every.is_zero() && options.cut_every < MIN_LIFE {
        return Err("--cut-every: it must be 100ms or more, or 0s for never".into());
    }
    if options.away > MAX_AWAY {
        return Err("--away: it must be 10m or less".into());
    }
    if options.resume() == Resume::Nchan && options.sse > 0.0 {
        return Err("--resume nchan and --sse: nchan's events are not understood".into());
    }
    if options.avalanche.is_some_and(|at| at >= options.duration) {
        return Err(
            "--avalanche: it must be less than --duration, so that the clients are back in time"
                .into(),
        );
    }
    if options.cut_every.is_zero() && options.avalanche.is_none() {
        return Err("--cut-every 0s: nobody is ever cut; name an --avalanche as well".into());
    }
    Ok(())
}

fn check_times(options: &Options) -> Result<(), String> {
    if options.duration.is_zero() {
        return Err("--duration 0: there is nothing to measure".into());
    }
    if options.patience < MIN_PATIENCE || options.patience > MAX_PATIENCE {
        return Err("--patience: from 100ms to 10m".into());
    }
    if nanos(options.duration).saturating_add(nanos(options.warmup)) > MAX_DUE / 2 {
        return Err("--duration and --warmup: together at most a day and a half".into());
    }
    Ok(())
}

fn check_size(options: &Options) -> Result<(), String> {
    let (size, opcode) = (options.size(), options.opcode());
    let least = Format::min_size(opcode);
    if size < least as u64 {
        let kind = opcode.name();
        return Err(format!(
            "--size {size}: a {kind} message must have {least} bytes or more, or it cannot be checked"
        ));
    }
    if size > MAX_PAYLOAD {
        return Err(format!("--size {size}: at most {MAX_PAYLOAD} bytes"));
    }
    Ok(())
}
