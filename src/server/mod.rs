//! The relay as a whole: start it, ask it, stop it.
//!
//! This is the public face of the library. The binary and the tests use it, too.
//!
//! ```no_run
//! use fanwire::config::Config;
//! use fanwire::server::Relay;
//!
//! let mut config = Config::default();
//! config.server.port = 0;
//! let relay = Relay::start(&config)?;
//! println!("ws://{}", relay.address());
//! relay.shutdown();
//! relay.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clustering;
mod control;
mod crew;
mod descriptors;
mod ending;
mod error;
mod expiry;
mod guard;
mod history_file;
mod keyring;
mod listening;
mod memory;
mod metrics_port;
mod pauses;
mod placement;
mod refusals;
mod reloads;
mod saving;
mod source;
mod supervisor;
#[cfg(test)]
mod tests;
mod warnings;
mod watch;

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};
use tracing::warn;

use self::clustering::Engines;
use self::control::Control;
use self::crew::Crew;
use self::descriptors::MOST_DERIVED;
pub use self::error::{RunError, StartError};
use self::guard::Pulse;
use self::history_file::HistoryFile;
use self::memory::Sizes;
pub use self::memory::{Bound, MemoryLimit};
use self::metrics_port::MetricsPort;
use self::placement::Placement;
use self::reloads::Reloads;
use self::saving::Saving;
pub use self::source::Source;
use crate::access::keys::Keys;
use crate::config::{Config, ConfigError, Warning};
use crate::ids::ShardId;
use crate::mailbox::Mailbox;
use crate::metrics::collector::{Exposition, InboxDepth};
use crate::metrics::engines::PublishedEngines;
use crate::metrics::stats::{ConfigStatus, Published};
pub use crate::metrics::stats::{Stat, Stats};
use crate::net::admission::Seats;
use crate::net::alarm::Alarm;
use crate::net::balance::{Rotation, most_connections};
use crate::net::clock::Clock;
use crate::net::complaint::Complaints;
use crate::net::engine::Links;
use crate::net::mail::{ControlBox, PollWaker, Postbox, Postboxes, Report};
use crate::net::tls::keeper::Keeper;
pub use crate::net::unix::BindError;
use crate::net::vitals::Vitals;
use crate::net::worker::{ALARM, Parts, WAKER, Worker};
use crate::panics;
use crate::port::position::Epoch;
use crate::relay::router::Router;
use crate::relay::saved::restore::Restored;
use crate::relay::shard::{Settings, Shard, Whom};

/// A relay; [`Relay::start`] makes one.
#[derive(Debug)]
pub enum Relay {}

/// Finds what [`Relay::start`] would find wrong with a configuration: its values, the group of the Unix socket, the folder of
/// the history, and the files for TLS and for tokens. It does not listen, and leaves the history alone.
///
/// Returns all warnings about it on this machine. The relay starts all the same. It is for the caller to log them.
pub fn check(config: &Config) -> Result<Vec<Warning>, ConfigError> {
    config.validate()?;
    listening::group(config)?;
    history_file::check(config)?;
    let tls = Keeper::new(&config.server.tls)?;
    keyring::read(&config.access)?;
    Engines::open(config, 1)?;
    Ok(warnings::all(config, tls.as_ref()))
}

/// A relay that runs. [`RelayHandle::shutdown`] ends it; dropping the handle does not.
#[derive(Debug)]
pub struct RelayHandle {
    address: SocketAddr,
    unix_socket: Option<PathBuf>,
    metrics_address: Arc<OnceLock<SocketAddr>>,
    shards: usize,
    max_buffered_bytes: usize,
    memory: Option<MemoryLimit>,
    published: Vec<Arc<Published>>,
    control: ControlBox,
    vitals: Arc<Vitals>,
    pulse: Arc<Pulse>,
    /// Disconnected once the control thread has ended.
    ended: Mutex<Receiver<Infallible>>,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Relay {
    /// Starts a relay that runs until [`RelayHandle::shutdown`].
    ///
    /// With port 0 the system chooses one; see [`RelayHandle::address`]. The limit on open files of the process is raised
    /// to its hard limit. If the start fails, no thread is left running.
    pub fn start(config: &Config) -> Result<RelayHandle, StartError> {
        Relay::start_parts(config, None)
    }

    /// The same, with signals: SIGINT or SIGTERM begins the shutdown, a second one ends the relay at once, and SIGHUP
    /// reads the configuration again, from `source`. SIGUSR1 and SIGUSR2 are ignored, with a line in the log.
    /// It tells systemd its state if the environment has `NOTIFY_SOCKET`.
    pub fn start_with_signals(
        config: &Config,
        source: Box<dyn Source>,
    ) -> Result<RelayHandle, StartError> {
        Relay::start_parts(config, Some(source))
    }

    fn start_parts(
        config: &Config,
        source: Option<Box<dyn Source>>,
    ) -> Result<RelayHandle, StartError> {
        let with_signals = source.is_some();
        config.validate().map_err(StartError::Config)?;
        let tls = Keeper::new(&config.server.tls).map_err(StartError::Config)?;
        let tls = tls.map(Arc::new);
        let keys = keyring::read(&config.access).map_err(StartError::Config)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let memory = MemoryLimit::find(Path::new("/"));
        let sizes = Sizes::derive(config, cores, memory);
        sizes.report(config, cores);
        let workers = sizes.workers;
        let engines = Engines::open(config, workers).map_err(StartError::Config)?;
        let max_connections = descriptors::raise_and_derive(config, workers);
        let listener = listening::on_port(config)?;
        let address = listener.local_addr()?;
        let unix_listener = listening::on_path(config)?;
        let mut history = HistoryFile::claim(config).map_err(StartError::Config)?;

        let (poll, control) = event_loop()?;
        let seats = Seats::new(config.server.max_connections_per_ip);
        let mut workers = Workers::build(
            config,
            sizes,
            max_connections,
            &seats,
            &control,
            Files {
                tls: tls.as_ref(),
                keys: Arc::new(keys),
                history: history.as_mut(),
                engines: engines.as_ref(),
            },
        )?;
        let vitals = workers.vitals.clone();
        let metrics_address = Arc::new(OnceLock::new());
        let status = Arc::new(ConfigStatus::new(max_connections));
        let metrics = MetricsPort::open(
            config,
            exposition(&workers, status.clone(), tls.as_deref()),
            vitals.clone(),
            &control,
            metrics_address.clone(),
        )?;
        let published = workers.published.clone();
        let pulse = Arc::new(Pulse::default());
        // All listeners are bound, and nobody is accepted yet.
        let saving = history.map(|history| workers.leave_history(history, &control));

        let control_loop = Control::new(
            control::Parts {
                poll,
                inbox: control.clone(),
                listener,
                unix_listener,
                metrics,
                vitals: vitals.clone(),
                pulse: pulse.clone(),
                published: published.clone(),
                placement: Placement {
                    postboxes: workers.postboxes.clone(),
                    serving: Rotation::default(),
                    refusing: Rotation::default(),
                    vitals: vitals.clone(),
                    arrivals: 0,
                    seats,
                    proxies: config.server.proxy_protocol.from.clone(),
                    trusted: config.server.trusted_proxies.clone(),
                },
                tls,
                saving,
                reloads: Reloads {
                    config: config.clone(),
                    settings: None,
                    source,
                    workers: sizes.workers,
                    memory,
                    status,
                },
            },
            with_signals,
        )?;
        let crew = Crew::start(workers.workers, workers.postboxes, &control)?;
        let (alive, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                // Dropped at the end, also by a panic.
                let _alive = alive;
                control_loop.run(crew)
            })?;
        Ok(RelayHandle {
            address,
            unix_socket: config.server.unix_socket.clone(),
            metrics_address,
            shards: published.len(),
            max_buffered_bytes: sizes.max_buffered_bytes,
            memory,
            published,
            control,
            vitals,
            pulse,
            ended: Mutex::new(ended),
            thread,
        })
    }
}

impl RelayHandle {
    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The Unix socket that it also listens on, if any.
    pub fn unix_socket(&self) -> Option<&Path> {
        self.unix_socket.as_deref()
    }

    /// The address of the metrics port. There is none if metrics are off, or as long as another process has the port. The
    /// relay then tries again for 20 seconds longer than `shutdown.delay` and `shutdown.timeout` together. After that it
    /// fails with [`RunError::MetricsPort`].
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address.get().copied()
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The most connections at a time.
    pub fn max_connections(&self) -> usize {
        self.vitals.max_connections()
    }

    /// The most bytes that may wait for clients when the relay started: `limits.max_buffered_bytes`, or what is derived
    /// instead of 0.
    pub fn max_buffered_bytes(&self) -> usize {
        self.max_buffered_bytes
    }

    /// The memory that the process may use, unless the system does not tell.
    pub fn memory(&self) -> Option<MemoryLimit> {
        self.memory
    }

    /// Clients connected now, as of the last turn of each shard.
    pub fn client_count(&self) -> usize {
        // A pointer has 64 bits.
        self.total(Stat::ConnectedClients) as usize
    }

    /// A counter, summed over the shards, as of the last turn of each.
    pub fn total(&self, stat: Stat) -> u64 {
        self.published.iter().map(|shard| shard.value(stat)).sum()
    }

    /// All counters, summed over the shards.
    pub fn totals(&self) -> Stats {
        Stats::total_of(&self.published)
    }

    /// Begins the shutdown and returns at once. Every client gets the messages it is still owed, then Close 1001. A second
    /// call ends the relay without waiting for that.
    pub fn shutdown(&self) {
        // Relaxed: a flag that bears no other data.
        self.pulse.asked().store(true, Ordering::Relaxed);
        self.control.send(Report::ShutdownRequested);
    }

    /// Asks the relay to read its configuration again, as SIGHUP does. A relay that was started without a [`Source`] reads the
    /// files of `server.tls` and the keys of `access` again. Returns at once. The results are logged and counted.
    pub fn reload(&self) {
        self.control.send(Report::ReloadRequested);
    }

    /// Gives the relay another configuration, all or nothing. Keys that need a restart keep their values, as
    /// `docs/operations.md` says. Returns at once. The result is logged and counted. `log` is for the caller to put in force.
    pub fn reconfigure(&self, config: &Config) {
        let config = Box::new(config.clone());
        self.control.send(Report::Reconfigured(config));
    }

    /// Closes all clients of a topic, such as `/room`: those that hear it, and those that may only publish to it. Each gets
    /// Close 1000. Returns at once. The order is logged, and the clients count as `by_hand`.
    ///
    /// They may come back at once. A client that is moving to another worker at this moment may be missed.
    pub fn close_topic(&self, topic: &str) {
        self.control.send(Report::Close(Whom::Topic(topic.into())));
    }

    /// The same with all clients whose token, or whose grants of a proxy, have this `sub`. Take away their right first.
    pub fn close_subject(&self, sub: &str) {
        self.control.send(Report::Close(Whom::Subject(sub.into())));
    }

    /// Waits for the end of the relay, and returns its final counters.
    ///
    /// A thread of the relay that stands still does not keep it from ending. The relay then fails with
    /// [`RunError::Frozen`], at the latest soon after `shutdown.timeout`, and the thread is left behind with what it holds.
    pub fn join(self) -> Result<Stats, RunError> {
        // Nobody else ever locks it.
        let ended = self
            .ended
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        guard::wait(&ended, &self.pulse, &self.vitals)?;
        self.thread
            .join()
            .unwrap_or_else(|panic| Err(RunError::Control(panics::message(panic.as_ref()))))?;
        Ok(Stats::total_of(&self.published))
    }
}

/// The event loop of the control thread, and its inbox.
fn event_loop() -> io::Result<(Poll, ControlBox)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), control::WAKER)?;
    Ok((poll, Arc::new(Mailbox::new(PollWaker(waker)))))
}

/// The workers before they run.
struct Workers {
    workers: Vec<Worker>,
    postboxes: Postboxes,
    published: Vec<Arc<Published>>,
    vitals: Arc<Vitals>,
    epoch: Epoch,
    clock: Clock,
    engines: Option<Arc<PublishedEngines>>,
}

/// The files of a configuration, as they were read.
#[derive(Default)]
struct Files<'a> {
    tls: Option<&'a Arc<Keeper>>,
    keys: Arc<Keys>,
    history: Option<&'a mut HistoryFile>,
    engines: Option<&'a Engines>,
}

/// The name of a new epoch. `RandomState` is seeded by the operating system.
fn new_epoch() -> Epoch {
    Epoch::from_bits(RandomState::new().hash_one(1))
}

impl Workers {
    fn build(
        config: &Config,
        sizes: Sizes,
        max_connections: usize,
        seats: &Arc<Seats>,
        control: &ControlBox,
        files: Files<'_>,
    ) -> io::Result<Workers> {
        let count = sizes.workers;
        // `RandomState` is seeded by the operating system.
        let router = Router::new(count, RandomState::new().hash_one(0));
        let mut resolved = config.clone();
        resolved.limits.max_buffered_bytes = sizes.max_buffered_bytes;
        let settings = Settings::new(&resolved, count)
            .in_epoch(new_epoch())
            .with_keys(files.keys);
        let clock = Clock::start();
        let leaves_history = files.history.is_some();
        let clocks = saving::clocks(clock);
        let restored = match files.history {
            Some(history) => history.restore(&settings, router, clocks),
            None => Restored::empty(&settings, router, clocks),
        };
        let complaints = Arc::new(Complaints::default());
        let polls: Vec<Poll> = (0..count).map(|_| Poll::new()).collect::<io::Result<_>>()?;
        let new_box = |poll: &Poll| Ok(Postbox::new(Waker::new(poll.registry(), WAKER)?));
        let postboxes: Postboxes = polls.iter().map(new_box).collect::<io::Result<_>>()?;
        let published: Vec<_> = polls
            .iter()
            .map(|_| Arc::new(Published::default()))
            .collect();
        let vitals = Vitals::new(postboxes.clone(), max_connections);
        let vitals = Arc::new(match files.engines {
            Some(_) => vitals.of_cluster(),
            None => vitals,
        });
        let connect = |engines: &Engines| engines.connect(&postboxes, &vitals);
        let shared = files.engines.map(connect).transpose()?;
        let fill_to = config.server.fill_workers_to;
        let reserved = reserved_clients(max_connections, usize::from(count), fill_to);
        let new_worker = |(mut shard, poll): (Shard, Poll)| {
            let id = shard.id();
            shard.reserve(reserved);
            if let Some(engines) = files.engines {
                shard.join_cluster(engines.of_shard(id, clock.now()));
            }
            Ok(Worker::new(Parts {
                shard,
                alarm: Alarm::new(poll.registry(), ALARM)?,
                poll,
                postboxes: postboxes.clone(),
                control: control.clone(),
                published: published[id.index()].clone(),
                vitals: vitals.clone(),
                fill_to,
                seats: seats.clone(),
                complaints: complaints.clone(),
                clock,
                tls: files.tls.cloned(),
                leaves_history,
                links: shared
                    .as_ref()
                    .map(|shared| Links::new(id.index(), shared.clone())),
            }))
        };
        let workers = restored.shards.into_iter().zip(polls).map(new_worker);
        let workers = workers.collect::<io::Result<_>>()?;
        Ok(Workers {
            workers,
            postboxes,
            published,
            vitals,
            epoch: restored.epoch,
            clock,
            engines: shared.map(|shared| shared.published),
        })
    }

    /// Takes over the history that was restored: its file is removed. If it may still be there after a crash, the numbers are
    /// those of a new epoch, or the next process would use them again.
    fn leave_history(&mut self, file: HistoryFile, control: &ControlBox) -> Saving {
        if let Err(error) = file.remove() {
            warn!(file = %file.path().display(), %error, "history.file: the file cannot be removed; the relay begins a new epoch, and clients that come back hear that it is not known what they missed");
            self.epoch = new_epoch();
            for worker in &mut self.workers {
                worker.renew_epoch(self.epoch);
            }
        }
        let parts = saving::Parts {
            file,
            epoch: self.epoch,
            clock: self.clock,
            control: control.clone(),
        };
        Saving::new(parts, self.workers.len())
    }
}

/// The number of clients that a shard makes room for at the start. Room that is not used takes address space but no memory, so
/// it is made for at most [`MOST_DERIVED`] clients in all. If more come, the tables grow.
fn reserved_clients(max_connections: usize, workers: usize, fill_to: usize) -> usize {
    let average = max_connections.min(MOST_DERIVED).div_ceil(workers);
    most_connections(average, fill_to.min(max_connections))
}

/// The metrics of the workers, for the metrics port.
fn exposition(workers: &Workers, config: Arc<ConfigStatus>, tls: Option<&Keeper>) -> Exposition {
    let postboxes = workers.postboxes.clone();
    let depth = move |shard: ShardId| {
        let inbox = &postboxes[shard.index()].inbox;
        InboxDepth {
            envelopes: inbox.len() as u64,
            bytes: inbox.backlog_bytes() as u64,
        }
    };
    let tls = tls.map(|tls| tls.status().clone());
    let engines = workers.engines.clone();
    Exposition::with_config(workers.published.clone(), depth, config, tls, engines)
}
