//! The relay's process, watched from outside while a run goes on.

use super::processes::{CpuTime, Processes};
use super::series::ServerUse;
use crate::clock::{SECOND, seconds};
use crate::report::Server;

/// Time between two looks for children and, if there are some, at their memory. The kernel goes through all of their
/// pages to count shared ones once, so this is not done more often.
const LOOK: u64 = SECOND;

/// The relay's process, and the memory and CPU that were seen.
#[derive(Debug)]
pub(crate) struct Watch {
    processes: Processes,
    next_look_at: u64,
    /// Resident memory of several processes, as of the last look.
    rss_together: u64,
    started: CpuTime,
    stopped: CpuTime,
    rss_before: u64,
    rss_peak: u64,
    rss_connected: u64,
    /// Connections that were open then.
    connected: u64,
    rss_after: u64,
    rss_closed: u64,
}

impl Watch {
    /// Begins to watch, before the first connection.
    pub(crate) fn new(pid: u32) -> Result<Watch, String> {
        let processes = Processes::of(pid)?;
        let rss_before = processes.resident_exactly();
        Ok(Watch {
            processes,
            next_look_at: 0,
            rss_together: rss_before,
            started: CpuTime::default(),
            stopped: CpuTime::default(),
            rss_before,
            rss_peak: rss_before,
            rss_connected: rss_before,
            connected: 0,
            rss_after: rss_before,
            rss_closed: rss_before,
        })
    }

    /// Takes a sample of CPU and memory.
    pub(crate) fn sample(&mut self, now: u64) -> ServerUse {
        if now >= self.next_look_at {
            self.next_look_at = now + LOOK;
            self.processes.look_for_children();
            if self.processes.are_several() {
                self.measure();
            }
        }
        let rss_bytes = if self.processes.are_several() {
            self.rss_together
        } else {
            self.processes.resident()
        };
        self.rss_peak = self.rss_peak.max(rss_bytes);
        ServerUse {
            at: now,
            cpu_seconds: self.processes.cpu().total(),
            rss_bytes,
        }
    }

    /// All connections are open.
    pub(crate) fn on_connected(&mut self, connections: u64) {
        self.connected = connections;
        self.rss_connected = self.look();
    }

    /// The measurement begins.
    pub(crate) fn on_start(&mut self) {
        self.look();
        self.started = self.processes.cpu();
    }

    /// The measurement ends.
    pub(crate) fn on_stop(&mut self) {
        self.stopped = self.processes.cpu();
    }

    /// Nothing more is owed.
    pub(crate) fn on_drained(&mut self) {
        self.rss_after = self.look();
    }

    /// All connections are closed.
    pub(crate) fn on_closed(&mut self) {
        self.rss_closed = self.look();
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        self.processes.is_alive()
    }

    /// Finds the processes that there are now, and measures their memory.
    fn look(&mut self) -> u64 {
        self.processes.look_for_children();
        self.measure()
    }

    fn measure(&mut self) -> u64 {
        let rss = self.processes.resident_exactly();
        self.rss_peak = self.rss_peak.max(rss);
        self.rss_together = rss;
        rss
    }

    /// The part of the report about the server.
    pub(crate) fn report(&self, configuration: Option<String>, deliveries: u64) -> Server {
        let cpu_seconds = (self.stopped.total() - self.started.total()).max(0.0);
        let growth = self.rss_connected as f64 - self.rss_before as f64;
        Server {
            name: self.processes.name(),
            command: self.processes.command(),
            configuration,
            cpu_seconds,
            cpu_user_seconds: (self.stopped.user - self.started.user).max(0.0),
            cpu_ns_per_delivery: (deliveries > 0)
                .then(|| cpu_seconds / seconds(1) / deliveries as f64),
            rss_before_bytes: self.rss_before,
            rss_peak_bytes: self.rss_peak,
            rss_after_bytes: self.rss_after,
            rss_closed_bytes: self.rss_closed,
            bytes_per_connection: (self.connected > 0).then(|| growth / self.connected as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::processes::tests::{Family, apart};

    #[test]
    fn memory_that_processes_share_counts_once_whenever_it_is_looked_at() {
        let (family, processes) = Family::start();
        let mut watch = Watch::new(family.id()).unwrap();
        let apart = apart(&processes);
        let sampled = watch.sample(SECOND).rss_bytes;
        assert!(sampled < apart, "{sampled}");
        assert_eq!(watch.sample(SECOND + 1).rss_bytes, sampled, "once a second");
        watch.rss_together = 0;
        watch.on_connected(1);
        assert!(watch.rss_connected > 0 && watch.rss_connected < apart);
        // The next sample shows the same memory.
        assert_eq!(watch.sample(SECOND + 2).rss_bytes, watch.rss_connected);
        assert!(watch.rss_peak < apart);
    }

    #[test]
    fn memory_of_a_connection_is_by_those_that_were_open_when_it_was_measured() {
        let mut watch = Watch::new(std::process::id()).unwrap();
        watch.on_connected(40);
        watch.rss_before = 0;
        watch.rss_connected = 4000;
        let each = watch.report(None, 0).bytes_per_connection;
        assert!(each.is_some_and(|each| (each - 100.0).abs() < 1e-9));
        watch.on_connected(0);
        assert_eq!(watch.report(None, 0).bytes_per_connection, None);
    }
}
