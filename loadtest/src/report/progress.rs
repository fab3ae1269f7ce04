//! Shows the progress of a run: a bar on a terminal, otherwise a line now and then. Ctrl-C ends the run early.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::observer::{Observer, Progress, Stage};
use super::unit::Unit;
use crate::clock::whole;

/// Time between two lines, without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// Steps of the bar.
const STEPS: u64 = 1_000;

/// A bar, or lines.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    is_quiet: bool,
    has_terminal: bool,
    last_line: Cell<Option<(Stage, Instant)>>,
    is_stopped: Arc<AtomicBool>,
}

impl Bar {
    /// Shows a run on standard error, unless `is_quiet`. From now on, the first SIGINT or SIGTERM ends the run early,
    /// and the second ends the process.
    pub(crate) fn new(is_quiet: bool) -> Bar {
        let is_stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal finds the flag unset. If handlers cannot be set, a signal ends
            // the process as usual.
            let _ =
                signal_hook::flag::register_conditional_shutdown(signal, 130, is_stopped.clone());
            let _ = signal_hook::flag::register(signal, is_stopped.clone());
        }
        let has_terminal = io::stderr().is_terminal() && !is_quiet;
        let target = if has_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        let style = ProgressStyle::with_template("{bar:24.cyan/blue} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Bar {
            bar,
            is_quiet,
            has_terminal,
            last_line: Cell::new(None),
            is_stopped,
        }
    }

    /// Whether the stage is new, or the last line was a while ago.
    fn is_time_for_a_line(&self, stage: Stage) -> bool {
        let last = self.last_line.get();
        last.is_none_or(|(of, at)| of != stage || at.elapsed() >= LINE_INTERVAL)
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Bar {
    fn on_progress(&self, progress: &Progress) {
        if self.is_quiet {
            return;
        }
        if self.has_terminal {
            let share = progress.elapsed_seconds / progress.total_seconds.max(1e-9);
            let is_loading = progress.stage != Stage::Connecting;
            let position = whole(share.clamp(0.0, 1.0) * STEPS as f64);
            self.bar.set_position(if is_loading { position } else { 0 });
            self.bar.set_message(line(progress));
        } else if self.is_time_for_a_line(progress.stage) {
            self.last_line.set(Some((progress.stage, Instant::now())));
            // If standard error is closed, nobody wants progress.
            let _ = writeln!(io::stderr(), "{}", line(progress));
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }
}

fn line(progress: &Progress) -> String {
    let connections = progress.connections;
    let stage = match progress.stage {
        Stage::Connecting => return format!("connecting {connections} of {}", progress.wanted),
        Stage::WarmingUp => "warming up",
        Stage::Measuring => "measuring",
        Stage::Draining => "draining",
        Stage::Closing => "closing",
    };
    let mut line = format!(
        "{stage} {:.0}/{:.0} s  {connections} connections",
        progress.elapsed_seconds, progress.total_seconds
    );
    if progress.published_rate > 0.0 || progress.received_rate > 0.0 {
        let _ = write!(
            line,
            "  {} sent/s  {} deliveries/s  p50 {}  p99 {}",
            Unit::Number.show(progress.published_rate),
            Unit::Number.show(progress.received_rate),
            Unit::Nanoseconds.show(progress.latency_p50 as f64),
            Unit::Nanoseconds.show(progress.latency_p99 as f64)
        );
    }
    if progress.lost > 0 {
        let _ = write!(line, "  {} LOST", progress.lost);
    }
    line
}
