//! The numbers of a shard, and the atomics that they are copied to once a turn.
//!
//! A shard owns its [`Stats`] and pays one addition per event. Its worker copies them to [`Published`], which the exporter
//! reads. [`super::catalogue`] gives them their names.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// A number of a shard: a counter, or a gauge if its comment says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stat {
    /// Gauge: clients whose request was granted (101, or 200 for an event stream), and that are not counted as disconnected.
    ConnectedClients,
    /// Gauge: those of them that speak WebSocket, without compression.
    MembersByFrames,
    /// Gauge: those of them that read an event stream.
    MembersByEvents,
    /// Gauge: those that speak WebSocket and take compressed frames.
    MembersByDeflated,
    /// Gauge: clients that may send compressed messages.
    DeflateMembers,
    /// Messages accepted from clients.
    Messages,
    /// Messages that an owner has compressed.
    DeflatedMessages,
    /// Their length before, in bytes.
    DeflateInputBytes,
    /// Their length after that, in bytes.
    DeflateOutputBytes,
    /// Windows that were empty at the beginning of a batch, because a topic got one.
    DeflateKeysStart,
    /// The same, because members waited for it.
    DeflateKeysWaiting,
    /// The same, because the window of the topic had been taken away.
    DeflateKeysEvicted,
    /// The same, because long messages need a larger window.
    DeflateKeysLarger,
    /// The same, because messages may shrink again that did not for a time.
    DeflateKeysRetry,
    /// The same, because members do not get their own messages.
    DeflateKeysEcho,
    /// Deliveries of plain frames to members that take compressed ones.
    DeflatePlainDeliveries,
    /// Compressed messages of clients that were inflated.
    InflatedMessages,
    /// Their length after that, in bytes.
    InflatedBytes,
    /// Clients whose request was granted.
    Connections,
    /// Clients gone, for whatever reason: the sum of the `Disconnected*` below.
    Disconnections,
    /// Deliveries owed: for each message, the members of its topic when it was appended to the log.
    Offered,
    /// Deliveries whose last byte the kernel accepted.
    Delivered,
    /// Deliveries that a laggard's cursor jumped over, under the policy `drop`.
    Dropped,
    /// Deliveries owed to members when they left.
    Discarded,
    /// Bytes read from clients.
    BytesIn,
    /// Bytes the kernel accepted for clients.
    BytesOut,
    /// The client sent Close, or ended its event stream.
    DisconnectedByClient,
    /// The connection ended or failed without a Close from the client.
    DisconnectedLost,
    /// The client broke RFC 6455: closed with 1002, or 1007 for text that is not UTF-8.
    DisconnectedProtocol,
    /// The client's message was over the limit: closed with 1009.
    DisconnectedTooBig,
    /// The client lagged by more than `max_lag_bytes` under the policy `disconnect`: closed with 1013.
    DisconnectedLag,
    /// The client accepted nothing for `stall_timeout`: closed with 1013.
    DisconnectedStall,
    /// The client did not answer a ping in time.
    DisconnectedPong,
    /// The client sent more messages than its rate allows: closed with 1008.
    DisconnectedRate,
    /// The client sent more control frames than its rate allows: closed with 1008.
    DisconnectedControlRate,
    /// The client sent a message and may not: closed with 1008.
    DisconnectedPublishDenied,
    /// The token has expired: closed with 3000.
    DisconnectedExpired,
    /// The operator has closed it.
    DisconnectedByHand,
    /// The client sent a text that begins with U+0000: closed with 1008.
    DisconnectedReservedText,
    /// The relay was short of memory, and the client held the most: closed with 1013.
    DisconnectedMemory,
    /// Messages of its topic are missing, or may be: closed with 1013.
    DisconnectedBreak,
    /// It published while the engine of its topic was away: closed with 1013.
    DisconnectedOutage,
    /// The relay is shutting down: closed with 1001.
    DisconnectedShutdown,
    /// The relay has failed: closed with 1011.
    DisconnectedInternal,
    /// Not HTTP, or broken HTTP: 400.
    HandshakeBadRequest,
    /// HTTP, but no upgrade to WebSocket, or of another version: 426.
    HandshakeNotUpgrade,
    /// A method that is not served: 405.
    HandshakeMethod,
    /// A path over the length limit: 414.
    HandshakePathTooLong,
    /// A head over `max_header_bytes`: 431.
    HandshakeHeadTooLarge,
    /// A page of a site that may not connect: 403.
    HandshakeOrigin,
    /// Credentials that are not valid: 401.
    HandshakeUnauthorized,
    /// A token that is not valid: 401.
    HandshakeToken,
    /// A token that has expired: 401.
    HandshakeTokenExpired,
    /// Grants of a trusted proxy that cannot be used: 401.
    HandshakeGrants,
    /// Grants that do not have the topic: 403.
    HandshakeForbidden,
    /// No complete request within `handshake_timeout`: 408.
    HandshakeTimeout,
    /// The connection ended before it was upgraded.
    HandshakeLost,
    /// `max_connections` reached or descriptors run out: 503.
    HandshakeCapacity,
    /// `max_connections_per_ip` reached: 429.
    HandshakePerIp,
    /// The connection of a proxy did not begin with a PROXY header: closed without an answer.
    HandshakeProxyHeader,
    /// The relay is shutting down: 503.
    HandshakeShutdown,
    /// TLS failed before a request was there, with an alert, or because the client spoke plain HTTP.
    HandshakeTls,
    /// Requests that publish, by their answer: to several topics, 200.
    PostsMany,
    /// 202.
    PostsAccepted,
    /// 400, or another fault of the client that has no counter of its own.
    PostsBadRequest,
    /// 401.
    PostsUnauthorized,
    /// 403.
    PostsForbidden,
    /// 408.
    PostsTimeout,
    /// 413.
    PostsTooLarge,
    /// 414.
    PostsPathTooLong,
    /// 415.
    PostsMediaType,
    /// 417.
    PostsExpectation,
    /// 422.
    PostsReused,
    /// 429.
    PostsRate,
    /// 501.
    PostsCoding,
    /// 503.
    PostsUnavailable,
    /// None: the connection was lost before.
    PostsLost,
    /// Messages that were published by requests.
    PostedMessages,
    /// Answers to keys of requests that were forgotten before their time.
    PostKeysForgotten,
    /// Requests about a topic.
    Described,
    /// Requests of browsers that ask which requests they may send.
    Preflights,
    /// Browsers that got the page to try a topic.
    Pages,
    /// Upgrades that were granted although no offered subprotocol was selected.
    SubprotocolsUnmet,
    /// TLS handshakes in full.
    TlsFull,
    /// TLS handshakes that resumed an earlier session.
    TlsResumed,
    /// Write calls that the kernel accepted whole.
    WritesFull,
    /// Write calls that the kernel accepted in part.
    WritesPartial,
    /// Write calls that the kernel refused for now.
    WritesBlocked,
    /// Write calls that failed.
    WritesFailed,
    /// Gauge: members whose socket accepts no more for now, with those that replay kept messages.
    MembersLagging,
    /// Gauge: memory of the logs of topics, in bytes, with what stands around the messages.
    LogBytes,
    /// Gauge: memory of messages that wait for the next fan-out of a topic that the shard owns, in bytes.
    CoalescingBytes,
    /// Messages that waited for the next fan-out of their topic.
    Coalesced,
    /// Turns in which all waiting messages went out at once, because they were more than may wait.
    CoalescingLimitReached,
    /// Gauge: memory of messages that are kept for clients that come later, in bytes.
    HistoryBytes,
    /// Gauge: topics with such messages.
    TopicsWithHistory,
    /// Gauge: memory of messages that are replayed to clients far behind, in bytes.
    ReplayBytes,
    /// Clients that came back and missed nothing.
    ResumedFull,
    /// Clients that came back and were told how many messages are gone.
    ResumedPartly,
    /// Clients that came back from a place that is not known.
    ResumedUnknown,
    /// Deliveries of messages that were sent before the client came. They count as offered and delivered, too.
    Replayed,
    /// Gauge: topics with members on the shard.
    Topics,
    /// Gauge: topics the shard owns.
    OwnedTopics,
    /// Gauge: topics whose publishers are not read, so that members can catch up.
    TopicsHeld,
    /// Gauge: bytes of messages and requests that have arrived in part.
    PartialBytes,
    /// Gauge: memory of messages that have left the log while a client was in the middle of them, in bytes.
    CarriedBytes,
    /// Gauge: memory for what clients have sent, to which their next compressed messages may refer, in bytes.
    InflateWindowBytes,
    /// Gauge: windows of topics, to which their next compressed messages may refer.
    DeflateWindows,
    /// Gauge: their memory, in bytes.
    DeflateWindowBytes,
    /// Turns that ended with more in memory than the shard's share of `max_buffered_bytes`.
    BufferLimitReached,
    /// Pauses of the worker that its clients are not blamed for.
    Pauses,
    /// The length of these pauses, in microseconds.
    PausedMicros,
    /// Turns of the worker.
    Turns,
    /// Microseconds that the worker spent in turns. Waiting for events is not among them.
    BusyMicros,
    /// Envelopes taken from the inbox.
    Envelopes,
    /// Clients that moved to another shard before they joined their topic.
    Transferred,
    /// Turns without reads, because an inbox was full.
    ReadsDeferred,
    /// Times that a gauge was to fall below zero, which is a bug in fanwire.
    AccountingErrors,
}

impl Stat {
    /// The number of statistics.
    pub(crate) const COUNT: usize = Stat::AccountingErrors as usize + 1;
}

/// The state of the certificate. The control thread writes it, and the exporter reads it.
#[derive(Debug)]
pub struct TlsStatus {
    /// In seconds since the Unix epoch.
    expires_at: AtomicI64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

impl TlsStatus {
    /// The first certificate expires at `expires_at`, in seconds since the Unix epoch.
    pub fn new(expires_at: i64) -> Self {
        TlsStatus {
            expires_at: AtomicI64::new(expires_at),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
        }
    }

    // Relaxed throughout: each number stands for itself.

    /// Another certificate is in force.
    pub(crate) fn note_reload(&self, expires_at: i64) {
        self.expires_at.store(expires_at, Ordering::Relaxed);
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// The files cannot be used, and the old certificate stays in force.
    pub(crate) fn note_failed_reload(&self) {
        self.failed_reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// When the certificate in force expires, in seconds since the Unix epoch.
    pub(crate) fn expires_at(&self) -> i64 {
        self.expires_at.load(Ordering::Relaxed)
    }

    /// The number of times that the files were read again: with success, and without.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.reloads), read(&self.failed_reloads))
    }
}

/// The number of times that files were read again while the relay ran. The control thread counts, and the exporter reads.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    ok: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    /// Counts one.
    pub(crate) fn note(&self, is_ok: bool) {
        let count = if is_ok { &self.ok } else { &self.failed };
        // Relaxed, also below: each number stands for itself.
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Those with success, and those without.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.ok), read(&self.failed))
    }
}

/// The state of the configuration. The control thread writes it, and the exporter reads it.
#[derive(Debug, Default)]
pub(crate) struct ConfigStatus {
    /// The most connections at once.
    max_connections: AtomicU64,
    reloads: Reloads,
    key_reloads: Reloads,
    /// In seconds since the Unix epoch; 0 before the first.
    last_success: AtomicI64,
}

impl ConfigStatus {
    /// A configuration that was read once.
    pub(crate) fn new(max_connections: usize) -> Self {
        let status = ConfigStatus::default();
        status.set_max_connections(max_connections);
        status
    }

    // Relaxed throughout: each number stands for itself.

    /// Puts another limit on connections in force.
    pub(crate) fn set_max_connections(&self, most: usize) {
        self.max_connections.store(most as u64, Ordering::Relaxed);
    }

    /// The most connections at once.
    pub(crate) fn max_connections(&self) -> u64 {
        self.max_connections.load(Ordering::Relaxed)
    }

    /// The configuration was read again at `now`, in seconds since the Unix epoch, with success or without.
    pub(crate) fn note_reload(&self, is_ok: bool, now: i64) {
        self.reloads.note(is_ok);
        if is_ok {
            self.last_success.store(now, Ordering::Relaxed);
        }
    }

    /// The time of the last success, in seconds since the Unix epoch; 0 before the first.
    pub(crate) fn last_success(&self) -> i64 {
        self.last_success.load(Ordering::Relaxed)
    }

    /// The number of times that the configuration was read again.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// The number of times that keys for tokens were read again.
    pub(crate) fn key_reloads(&self) -> &Reloads {
        &self.key_reloads
    }
}

/// Upper bounds of the latency buckets, in microseconds. One more bucket has the rest.
pub(crate) const LATENCY_BOUNDS_MICROS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// The numbers of one shard.
#[derive(Clone, Debug)]
pub struct Stats {
    values: [u64; Stat::COUNT],
    latency_buckets: [u64; LATENCY_BOUNDS_MICROS.len() + 1],
    latency_sum_micros: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            values: [0; Stat::COUNT],
            latency_buckets: [0; LATENCY_BOUNDS_MICROS.len() + 1],
            latency_sum_micros: 0,
        }
    }
}

impl Stats {
    /// Counts one.
    pub(crate) fn inc(&mut self, stat: Stat) {
        self.values[stat as usize] += 1;
    }

    /// Takes one from a gauge.
    pub(crate) fn dec(&mut self, stat: Stat) {
        self.sub(stat, 1);
    }

    /// Counts `n`.
    pub(crate) fn add(&mut self, stat: Stat, n: u64) {
        self.values[stat as usize] += n;
    }

    /// A part of a gauge is `after` now, and was `before`.
    pub(crate) fn replace(&mut self, stat: Stat, before: u64, after: u64) {
        self.add(stat, after);
        self.sub(stat, before);
    }

    /// Takes `n` from a gauge. A gauge never falls below zero: see [`Stat::AccountingErrors`].
    pub(crate) fn sub(&mut self, stat: Stat, n: u64) {
        match self.value(stat).checked_sub(n) {
            Some(rest) => self.set(stat, rest),
            None => self.on_accounting_error(stat, n),
        }
    }

    #[cold]
    fn on_accounting_error(&mut self, stat: Stat, n: u64) {
        if self.value(Stat::AccountingErrors) == 0 {
            tracing::error!(
                gauge = ?stat,
                value = self.value(stat),
                subtracted = n,
                "a gauge was to fall below zero, which is a bug in fanwire; it stays at zero, and this is said once for each shard"
            );
        }
        self.set(stat, 0);
        self.inc(Stat::AccountingErrors);
        debug_assert!(false, "{stat:?} below zero");
    }

    /// Sets a gauge.
    pub fn set(&mut self, stat: Stat, value: u64) {
        self.values[stat as usize] = value;
    }

    /// The number as it stands.
    pub fn value(&self, stat: Stat) -> u64 {
        self.values[stat as usize]
    }

    /// Records one fan-out latency.
    pub(crate) fn observe_latency_micros(&mut self, micros: u64) {
        let bucket = LATENCY_BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.latency_buckets[bucket] += 1;
        self.latency_sum_micros += micros;
    }

    /// Latencies per bucket, not cumulated. A bucket has those up to its bound in [`LATENCY_BOUNDS_MICROS`] and above the
    /// one before; the last has those above every bound.
    pub(crate) fn latency_buckets(&self) -> &[u64; LATENCY_BOUNDS_MICROS.len() + 1] {
        &self.latency_buckets
    }

    /// The sum of all latencies, in microseconds.
    pub(crate) fn latency_sum_micros(&self) -> u64 {
        self.latency_sum_micros
    }

    /// The sums over all shards, as last published.
    pub(crate) fn total_of(shards: &[Arc<Published>]) -> Stats {
        shards.iter().map(|shard| shard.read()).sum()
    }

    fn plus(mut self, other: &Stats) -> Stats {
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            *mine += theirs;
        }
        for (mine, theirs) in self.latency_buckets.iter_mut().zip(other.latency_buckets) {
            *mine += theirs;
        }
        self.latency_sum_micros += other.latency_sum_micros;
        self
    }
}

impl std::iter::Sum for Stats {
    fn sum<I: Iterator<Item = Stats>>(shards: I) -> Stats {
        shards.fold(Stats::default(), |total, shard| total.plus(&shard))
    }
}

/// The numbers of one shard at the end of its last turn. Its worker writes them, and anybody reads them.
#[derive(Debug)]
pub struct Published {
    values: CachePadded<[AtomicU64; Stat::COUNT]>,
    latency_buckets: [AtomicU64; LATENCY_BOUNDS_MICROS.len() + 1],
    latency_sum_micros: AtomicU64,
}

impl Default for Published {
    fn default() -> Self {
        Published {
            values: CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))),
            latency_buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            latency_sum_micros: AtomicU64::new(0),
        }
    }
}

impl Published {
    /// Publishes the numbers of the shard. Only its worker may call it.
    // Relaxed: each number stands for itself, and a reader may see some of them a microsecond later than others.
    pub fn publish(&self, stats: &Stats) {
        for (atomic, value) in self.values.iter().zip(stats.values) {
            atomic.store(value, Ordering::Relaxed);
        }
        for (atomic, value) in self.latency_buckets.iter().zip(stats.latency_buckets) {
            atomic.store(value, Ordering::Relaxed);
        }
        self.latency_sum_micros
            .store(stats.latency_sum_micros, Ordering::Relaxed);
    }

    /// The number as last published.
    pub(crate) fn value(&self, stat: Stat) -> u64 {
        self.values[stat as usize].load(Ordering::Relaxed)
    }

    /// All numbers as last published. A turn that ends meanwhile may show in some of them only.
    // Relaxed: as in `publish`.
    pub(crate) fn read(&self) -> Stats {
        Stats {
            values: std::array::from_fn(|i| self.values[i].load(Ordering::Relaxed)),
            latency_buckets: std::array::from_fn(|i| {
                self.latency_buckets[i].load(Ordering::Relaxed)
            }),
            latency_sum_micros: self.latency_sum_micros.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::panic::{self, AssertUnwindSafe};
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let mut stats = Stats::default();
        stats.add(Stat::BytesIn, 7);
        stats.inc(Stat::ReadsDeferred);
        stats.observe_latency_micros(300);
        let published = Published::default();
        published.publish(&stats);

        let read = published.read();
        assert_eq!(read.values, stats.values);
        assert_eq!(read.latency_buckets(), stats.latency_buckets());
        assert_eq!(read.latency_sum_micros(), 300);
        assert_eq!(published.value(Stat::BytesIn), 7);
    }

    #[test]
    fn a_gauge_that_would_fall_below_zero_stays_there_and_the_error_is_counted() {
        let mut stats = Stats::default();
        for n in 1..=2 {
            stats.set(Stat::Topics, 1);
            let result = panic::catch_unwind(AssertUnwindSafe(|| stats.sub(Stat::Topics, 2)));
            assert_eq!(result.is_err(), cfg!(debug_assertions));
            assert_eq!(stats.value(Stat::Topics), 0);
            assert_eq!(stats.value(Stat::AccountingErrors), n);
        }
    }

    #[test]
    fn the_first_accounting_error_of_a_shard_is_logged_and_no_other() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::ERROR)
            .with_writer({
                let log = log.clone();
                move || log.clone()
            })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut stats = Stats::default();
            for _ in 0..3 {
                // In a debug build it panics as well.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| stats.dec(Stat::OwnedTopics)));
            }
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(
            log.contains("ERROR") && log.contains("OwnedTopics"),
            "{log}"
        );
    }

    /// The lines that were logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_latency_on_a_bound_falls_into_the_bucket_of_that_bound() {
        let mut stats = Stats::default();
        for bound in LATENCY_BOUNDS_MICROS {
            stats.observe_latency_micros(bound);
        }
        stats.observe_latency_micros(LATENCY_BOUNDS_MICROS[15] + 1);
        assert_eq!(
            stats.latency_buckets(),
            &[1; LATENCY_BOUNDS_MICROS.len() + 1]
        );
    }

    #[test]
    fn the_total_adds_up_every_number_of_every_shard() {
        let shards = [
            Arc::new(Published::default()),
            Arc::new(Published::default()),
        ];
        for (shard, messages) in shards.iter().zip([3, 4]) {
            let mut stats = Stats::default();
            stats.add(Stat::Messages, messages);
            stats.observe_latency_micros(messages);
            shard.publish(&stats);
        }
        let total = Stats::total_of(&shards);
        assert_eq!(total.value(Stat::Messages), 7);
        assert_eq!(total.latency_buckets()[0], 2);
        assert_eq!(total.latency_sum_micros(), 7);
    }

    #[test]
    fn the_total_of_no_shard_is_zero() {
        let total = Stats::total_of(&[]);
        assert_eq!(total.values, [0; Stat::COUNT]);
    }
}
