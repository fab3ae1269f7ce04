//! The metrics port: served by its own thread, or still held by another process.
//!
//! A relay that is restarted may find its predecessor in its drain: its own port is closed, and its metrics are still
//! served. So a metrics port in use does not keep the relay from starting: the control thread tries again, for a while.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::error::{RunError, StartError};
use super::listening::refused;
use crate::config::{Config, Shutdown};
use crate::metrics::collector::Exposition;
use crate::metrics::exporter::{Exporter, ExporterHandle, Limits};
use crate::net::listener;
use crate::net::mail::{ControlBox, Report};
use crate::net::vitals::Vitals;

/// A port in use is awaited for this much longer than a shutdown with our configuration takes. The predecessor most likely
/// had the same. A relay that gives up closes all its clients, so the wait is generous.
const MARGIN: Duration = Duration::from_secs(20);

/// See the module.
pub(super) enum MetricsPort {
    /// Metrics are off, or the relay is ending.
    Off,
    /// The port is served.
    Served(ExporterHandle),
    /// Another process holds the port.
    Awaited(Box<Awaited>),
}

/// A port to be had later, and the parts of its thread.
pub(super) struct Awaited {
    host: String,
    addresses: Vec<SocketAddr>,
    /// A port that is still in use at this time fails the relay.
    until: Instant,
    exposition: Exposition,
    vitals: Arc<Vitals>,
    control: ControlBox,
    address: Arc<OnceLock<SocketAddr>>,
}

impl MetricsPort {
    /// Serves `exposition`, unless metrics are off. `address` is set as soon as the port is served.
    ///
    /// # Errors
    /// The port cannot be listened on for another reason than that another process has it.
    pub(super) fn open(
        config: &Config,
        exposition: Exposition,
        vitals: Arc<Vitals>,
        control: &ControlBox,
        address: Arc<OnceLock<SocketAddr>>,
    ) -> Result<MetricsPort, StartError> {
        if !config.metrics.enabled {
            return Ok(MetricsPort::Off);
        }
        let (host, port) = (&config.metrics.host, config.metrics.port);
        let wait = longest_wait(&config.shutdown);
        let refused = |error| refused("metrics.port", host, port, error);
        let addresses = listener::resolve(host, port).map_err(refused)?;
        let awaited = Awaited {
            host: host.clone(),
            until: Instant::now() + wait,
            exposition,
            vitals,
            control: control.clone(),
            address,
            addresses,
        };
        match listener::bind_any(&awaited.addresses) {
            Ok(listener) => Ok(MetricsPort::Served(awaited.serve(listener)?)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                warn!(%host, port, ?wait, "metrics.port: another process has the port; the relay starts without metrics and health checks, tries again each second, and ends if the port is not free within this wait; unless the process is a relay that is ending, choose another port");
                Ok(MetricsPort::Awaited(Box::new(awaited)))
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Tries again to have a port that another process held.
    ///
    /// # Errors
    /// It is in use for too long, or cannot be served.
    pub(super) fn retry(&mut self, now: Instant) -> Result<(), RunError> {
        let MetricsPort::Awaited(awaited) = self else {
            return Ok(());
        };
        match listener::bind_any(&awaited.addresses) {
            Ok(listener) => {
                let MetricsPort::Awaited(awaited) = mem::replace(self, MetricsPort::Off) else {
                    unreachable!("it was looked at above");
                };
                let served = awaited.serve(listener);
                let handle = served.map_err(|error| RunError::Metrics(error.to_string()))?;
                info!(metrics = %handle.address(), "the metrics port is free now and served");
                *self = MetricsPort::Served(handle);
                Ok(())
            }
            Err(_) if now < awaited.until => Ok(()),
            Err(error) => {
                let port = awaited.addresses.first().map_or(0, SocketAddr::port);
                let error = refused("metrics.port", &awaited.host, port, error);
                *self = MetricsPort::Off;
                Err(RunError::MetricsPort(error.to_string()))
            }
        }
    }

    /// The thread that serves it, if there is one. The port is off from now on.
    pub(super) fn take(&mut self) -> Option<ExporterHandle> {
        match mem::replace(self, MetricsPort::Off) {
            MetricsPort::Served(handle) => Some(handle),
            MetricsPort::Off | MetricsPort::Awaited(_) => None,
        }
    }
}

/// The longest wait for a port that another process has.
fn longest_wait(keys: &Shutdown) -> Duration {
    keys.delay + keys.timeout + MARGIN
}

impl Awaited {
    fn serve(self, listener: TcpListener) -> io::Result<ExporterHandle> {
        let handle = serve(listener, self.exposition, self.vitals, &self.control)?;
        // It is set once, here.
        let _ = self.address.set(handle.address());
        Ok(handle)
    }
}

/// Starts the metrics thread. If it fails, the control thread is told.
pub(super) fn serve(
    listener: TcpListener,
    exposition: Exposition,
    vitals: Arc<Vitals>,
    control: &ControlBox,
) -> io::Result<ExporterHandle> {
    let control = control.clone();
    let on_failure = move |reason| control.send(Report::MetricsFailed(reason));
    Exporter::start(
        listener,
        exposition,
        move || vitals.health(),
        Limits::default(),
        on_failure,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::mailbox::Mailbox;
    use crate::metrics::collector::InboxDepth;
    use crate::net::mail::PollWaker;

    /// A metrics port that this listener holds.
    fn awaited(
        holder: &TcpListener,
        shutdown: Shutdown,
    ) -> (MetricsPort, Arc<OnceLock<SocketAddr>>) {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let control = Arc::new(Mailbox::new(PollWaker(waker)));
        let mut config = Config::default();
        config.metrics.port = holder.local_addr().unwrap().port();
        config.shutdown = shutdown;
        let address = Arc::new(OnceLock::new());
        let exposition = Exposition::new(Vec::new(), |_| InboxDepth::default(), 0, None);
        let vitals = Arc::new(Vitals::new([].into(), 0));
        let port = MetricsPort::open(&config, exposition, vitals, &control, address.clone());
        (port.unwrap(), address)
    }

    #[test]
    fn a_metrics_port_in_use_is_awaited_and_served_when_it_is_free() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let (mut port, address) = awaited(&holder, Shutdown::default());
        assert_eq!(port.retry(Instant::now()), Ok(()));
        assert_eq!(address.get(), None);
        drop(holder);
        assert_eq!(port.retry(Instant::now()), Ok(()));
        assert_eq!(address.get(), Some(&taken));
        assert!(port.take().is_some());
    }

    /// The error of a port that stays in use. It comes after `seconds`, and not a second earlier.
    fn given_up_after(seconds: u64, shutdown: Shutdown) -> String {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = Instant::now();
        let (mut port, _) = awaited(&holder, shutdown);
        let almost = before + Duration::from_secs(seconds - 1);
        assert_eq!(port.retry(almost), Ok(()));
        let late = Instant::now() + Duration::from_secs(seconds);
        port.retry(late).unwrap_err().to_string()
    }

    #[test]
    fn a_metrics_port_that_stays_in_use_fails_the_relay_after_thirty_seconds() {
        let text = given_up_after(30, Shutdown::default());
        assert!(
            text.starts_with("metrics.port: ") && text.contains("the port is in use on 127.0.0.1"),
            "{text}"
        );
    }

    #[test]
    fn a_predecessor_with_a_long_shutdown_does_not_cost_the_clients_of_the_next_relay() {
        let shutdown = Shutdown {
            delay: Duration::from_mins(1),
            timeout: Duration::from_mins(5),
            ..Shutdown::default()
        };
        given_up_after(380, shutdown);
    }
}
