//! The threads of the workers: started together, stopped and joined together.
//!
//! `Relay::start` starts them, and the control thread holds them.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::debug;

use crate::ids::ShardId;
use crate::net::mail::{ControlBox, Mail, Postboxes, Report};
use crate::net::worker::Worker;
use crate::panics;

/// The wait for the threads when the crew is dropped. It is long, because only a thread that stands still needs it.
const LONGEST_JOIN: Duration = Duration::from_secs(10);

/// The time between two looks at a thread that was told to stop.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The threads of all workers. Dropping it stops and joins them, so that none outlives a start that fails or a control
/// thread that panics. A thread that stands still is left behind.
pub(super) struct Crew {
    postboxes: Postboxes,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// Starts a thread for each worker. If the system refuses one, those that run are stopped and joined.
    pub(super) fn start(
        workers: Vec<Worker>,
        postboxes: Postboxes,
        control: &ControlBox,
    ) -> io::Result<Crew> {
        let spawn = |name: String, work: Work| thread::Builder::new().name(name).spawn(work);
        Crew::start_with(spawn, workers, postboxes, control)
    }

    /// The same, with threads made by `spawn` from a name and their work.
    pub(super) fn start_with(
        mut spawn: impl FnMut(String, Work) -> io::Result<JoinHandle<()>>,
        workers: Vec<Worker>,
        postboxes: Postboxes,
        control: &ControlBox,
    ) -> io::Result<Crew> {
        let mut crew = Crew {
            postboxes,
            threads: Vec::with_capacity(workers.len()),
        };
        for (index, worker) in workers.into_iter().enumerate() {
            let control = control.clone();
            // The configuration allows far fewer workers than 65536.
            let id = ShardId(index as u16);
            let work = Box::new(move || run_worker(id, worker, &control));
            crew.threads.push(spawn(format!("worker-{index}"), work)?);
        }
        Ok(crew)
    }

    /// A crew of these threads.
    #[cfg(test)]
    pub(super) fn of(threads: Vec<JoinHandle<()>>, postboxes: Postboxes) -> Crew {
        Crew { postboxes, threads }
    }

    /// Stops the workers and joins their threads, as long as `goes_on` says so. It is asked every millisecond. Returns those
    /// that have not ended by then; they are left behind.
    pub(super) fn stop(mut self, goes_on: impl FnMut() -> bool) -> Vec<ShardId> {
        self.stop_and_join(goes_on)
    }

    fn stop_and_join(&mut self, mut goes_on: impl FnMut() -> bool) -> Vec<ShardId> {
        for postbox in self.postboxes.iter() {
            postbox.inbox.send(Mail::Stop);
        }
        // The configuration allows far fewer workers than 65536.
        let ids = (0..=u16::MAX).map(ShardId);
        let threads = ids.zip(self.threads.drain(..));
        threads
            .filter_map(|(id, thread)| (!join_while(&mut goes_on, thread)).then_some(id))
            .collect()
    }
}

/// Joins a thread as long as `goes_on` says so, and returns whether it has ended by then. Otherwise it is left behind.
pub(super) fn join_while(mut goes_on: impl FnMut() -> bool, thread: JoinHandle<()>) -> bool {
    while !thread.is_finished() {
        if !goes_on() {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
    // A panic in it was caught and reported.
    if thread.join().is_err() {
        debug!("a thread could not be joined");
    }
    true
}

/// The work of a thread.
pub(super) type Work = Box<dyn FnOnce() + Send>;

impl Drop for Crew {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            let by = Instant::now() + LONGEST_JOIN;
            self.stop_and_join(|| Instant::now() < by);
        }
    }
}

/// Runs a worker, and tells the control thread if it fails. The relay then ends, because it cannot serve the topics of that
/// worker.
fn run_worker(id: ShardId, worker: Worker, control: &ControlBox) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
    let failure = match result {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panics::message(panic.as_ref()),
    };
    control.send(Report::Failed(id, failure));
}
