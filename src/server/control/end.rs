//! The end of the relay: a shutdown that was asked for, or a failure. Its steps, and the threads that are joined at last.
//!
//! The control thread calls it. `server/ending.rs` has the times.

use std::time::{Duration, Instant};

use tracing::field::{self, DebugValue};
use tracing::{error, info, warn};

use super::Control;
use crate::ids::ShardId;
use crate::metrics::exporter::ExporterHandle;
use crate::net::mail::Mail;
use crate::server::crew::{Crew, join_while};
use crate::server::ending::Ending;
use crate::server::error::RunError;
use crate::server::watch::LOOK_EVERY;

impl Control {
    /// Ends the relay because one of its threads has failed. The clients of the other workers get Close 1011 first.
    ///
    /// A dead metrics thread ends the relay, too. Orchestrators ask for its health on that port and would kill it anyhow,
    /// without a word to its clients. If nobody asks, alarms would fall silent.
    pub(super) fn fail(&mut self, failure: RunError) {
        error!(%failure, "the relay cannot go on");
        self.failure.get_or_insert(failure);
        let ending = Ending::fail(Instant::now(), self.ending);
        self.end_at(ending);
        self.turn_away();
        self.is_draining = true;
        self.tell_workers(|| Mail::Abandon);
    }

    fn end_at(&mut self, ending: Ending) {
        if self.ending.replace(ending).is_none() {
            self.supervisor.stopping();
        }
        self.vitals.note_ending();
        self.pulse.note_end(ending.end_at);
    }

    /// Closes the listeners.
    pub(super) fn turn_away(&mut self) {
        // Closing a socket takes it out of the event loop. The kernel refuses those that wait in its backlog.
        self.acceptors.clear();
        self.accepts_left = false;
    }

    /// Begins the drain or ends it, if it is time.
    pub(super) fn take_next_step(&mut self, ending: Ending, now: Instant) {
        if !self.is_draining && now >= ending.drain_at {
            self.begin_drain();
        }
        if !self.stop && now >= ending.cut_at {
            if self.failure.is_none() {
                warn!(timeout = ?self.shutdown.timeout, "the time for the shutdown is up; the connections that are left are cut");
            }
            self.stop = true;
        }
    }

    /// The first call begins the shutdown, the second ends it.
    pub(super) fn begin_shutdown(&mut self, cause: &str) {
        let now = Instant::now();
        if let Some(ending) = self.ending {
            info!(cause, "asked to shut down again; ending at once");
            self.end_at(ending.hurry(now));
            self.stop = true;
            return;
        }
        if let Some(worker) = self.watch.frozen() {
            // The drain would wait for it.
            warn!(
                cause,
                worker,
                "shutting down: every client of the other workers gets Close 1011, because a worker stands still"
            );
            return self.fail(RunError::frozen(worker));
        }
        let ending = Ending::ask(now, &self.shutdown);
        self.end_at(ending);
        if ending.drain_at > now {
            info!(cause, delay = ?self.shutdown.delay, "shutting down after a delay: /readyz answers 503, and the relay goes on");
        } else {
            info!(cause, timeout = ?self.shutdown.timeout, spread = self.spread(), "shutting down: every client gets the messages it is still owed, then Close 1001");
            self.begin_drain();
        }
    }

    fn begin_drain(&mut self) {
        if self.shutdown.delay > Duration::ZERO {
            info!(timeout = ?self.shutdown.timeout, spread = self.spread(), "the delay is over: every client gets the messages it is still owed, then Close 1001");
        }
        self.is_draining = true;
        self.turn_away();
        self.tell_workers(|| Mail::Drain);
    }

    /// The field of a log line. It is left out if all clients are closed at once.
    fn spread(&self) -> Option<DebugValue<Duration>> {
        let spread = self.shutdown.spread;
        (!spread.is_zero()).then(|| field::debug(spread))
    }

    fn tell_workers(&self, mail: impl Fn() -> Mail) {
        for postbox in self.placement.postboxes.iter() {
            postbox.inbox.send(mail());
        }
    }

    /// Stops and joins every thread. Those that stand still are left behind, and fail the relay. So are those that have many
    /// connections to close, but they fail nothing: the end of the process closes the rest.
    pub(super) fn end(mut self, crew: Crew) -> Result<(), RunError> {
        self.turn_away();
        let now = Instant::now();
        // Only a relay that ends comes here.
        let ending = self.ending.unwrap_or_else(|| Ending::fail(now, None));
        let mut wait = Wait {
            by: ending.stop_by(now),
            look_at: now,
        };
        let left = crew.stop(|| self.waits_on(&mut wait));
        let left = left.into_iter().map(ShardId::index);
        let (closing, still): (Vec<_>, Vec<_>) =
            left.partition(|&worker| self.placement.postboxes[worker].is_stopping());
        if !closing.is_empty() {
            warn!(workers = ?closing, "the time is up while connections are being closed; the system closes the rest");
        }
        // A worker may have handed in its history in its last turn.
        self.take_reports();
        if let Some(saving) = self.saving.take() {
            saving.end(|| self.waits_on(&mut wait));
        }
        if let Some(line) = self.refusals.take_line(Instant::now()) {
            info!("{line}");
        }
        let metrics = self.metrics.take().and_then(ExporterHandle::stop);
        wait.by = ending.last_thread_by(Instant::now(), wait.by);
        let metrics =
            metrics.is_some_and(|thread| !join_while(|| self.waits_on(&mut wait), thread));
        let metrics = metrics.then(|| RunError::Frozen("the metrics thread".into()));
        let left = still
            .first()
            .map(|&worker| RunError::frozen(worker))
            .or(metrics);
        self.tell_of_pauses(true);
        // A thread may have failed while it was being stopped.
        self.take_reports();
        self.failure.or(left).map_or(Ok(()), Err)
    }

    /// Whether the control thread waits on for threads that were told to stop. It shows life meanwhile, feeds the watchdog,
    /// and hears of a second signal.
    fn waits_on(&mut self, wait: &mut Wait) -> bool {
        self.pulse.beat();
        let before = self.ending;
        self.take_reports();
        self.take_signals();
        let now = Instant::now();
        if let Some(ending) = self.ending
            && self.ending != before
        {
            wait.by = wait.by.min(ending.stop_by(now));
        }
        if now >= wait.look_at {
            wait.look_at = now + LOOK_EVERY;
            self.tell_supervisor(now);
        }
        now < wait.by
    }
}

/// The wait for threads that were told to stop.
struct Wait {
    by: Instant,
    /// The supervisor is told next at this time.
    look_at: Instant,
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc;
    use std::thread;

    use super::super::tests::control;
    use super::*;
    use crate::net::mail::Report;
    use crate::server::supervisor::Supervisor;

    #[test]
    fn while_threads_stop_the_control_thread_shows_life_and_feeds_the_watchdog() {
        let folder = tempfile::tempdir().unwrap();
        let (mut control, _) = control(&folder.path().join("s"));
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        control.supervisor = Supervisor::watched(&path).unwrap();
        let pulse = control.pulse.clone();
        let before = pulse.turns();
        let (release, busy) = mpsc::channel::<()>();
        // It closes connections, until the other end is dropped.
        let worker = thread::spawn(move || _ = busy.recv());
        let crew = Crew::of(vec![worker], control.placement.postboxes.clone());
        control.begin_shutdown("a test");
        control.stop = true;
        let end = thread::spawn(move || control.end(crew));
        let mut fed = 0;
        let mut buffer = [0; 256];
        while fed < 2 {
            let length = systemd.recv(&mut buffer).unwrap();
            fed += u32::from(&buffer[..length] == b"WATCHDOG=1");
        }
        assert!(pulse.turns() > before);
        drop(release);
        assert_eq!(end.join().unwrap(), Ok(()));
    }

    #[test]
    fn a_second_request_shortens_the_wait_for_threads_that_stop() {
        let folder = tempfile::tempdir().unwrap();
        let (mut control, _) = control(&folder.path().join("s"));
        let pulse = control.pulse.clone();
        let (release, still) = mpsc::channel::<()>();
        let worker = thread::spawn(move || _ = still.recv());
        let crew = Crew::of(vec![worker], control.placement.postboxes.clone());
        control.shutdown.timeout = Duration::from_mins(10);
        control.begin_shutdown("a test");
        control.stop = true;
        let first = pulse.end_at().unwrap();
        control.inbox.send(Report::ShutdownRequested);
        assert_eq!(control.end(crew), Err(RunError::frozen(0)));
        assert!(pulse.end_at().unwrap() < first);
        drop(release);
    }
}
