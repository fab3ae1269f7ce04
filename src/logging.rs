//! Writes logs as lines on standard error, on a thread of their own.
//!
//! `main` installs it once, before anything is logged. A caller formats its line and puts it in a bounded queue, so a
//! full pipe blocks only the logging thread. If the queue is full, the line is dropped and counted. The count is logged
//! when there is room again. A closed pipe is not an error.
//!
//! `tracing-appender` is similar, but one more dependency. It also prints with a macro that may block or panic if the
//! program ends while the reader is stuck, which is exactly our case.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use fanwire::config::{Log, LogFormat, LogLevel};

/// The most lines in the queue: about a megabyte, or a second of a very busy log.
const QUEUE_LINES: usize = 4096;
/// The time between two checks, during that wait, whether a full queue has room.
const FLUSH_RETRY: Duration = Duration::from_millis(5);

/// Sends the log of the process to standard error, as `log` says, until the guard is dropped. The guard waits at most
/// `last_wait` for the last lines to be written.
///
/// # Errors
///
/// The logging thread cannot start, or the log already goes elsewhere.
pub(crate) fn install(log: &Log, last_wait: Duration) -> io::Result<(LogGuard, LogKnobs)> {
    let (lines, guard) = spawn(io::stderr(), last_wait)?;
    let (level, level_knob) = reload::Layer::new(filter(log.level));
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // There is nowhere to report that standard error failed.
        .log_internal_errors(false)
        .with_writer(move || lines.clone());
    let layer = match log.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    let installed = Registry::default().with(level).with(layer).try_init();
    installed.map_err(io::Error::other)?;
    let knobs = LogKnobs {
        level: level_knob,
        last_wait_millis: guard.last_wait_millis.clone(),
    };
    Ok((guard, knobs))
}

/// Changes the log while the program runs.
#[derive(Debug)]
pub(crate) struct LogKnobs {
    level: reload::Handle<LevelFilter, Registry>,
    last_wait_millis: Arc<AtomicU64>,
}

impl LogKnobs {
    /// Writes lines of this level and above from now on.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // It fails only if there is no log any more.
        let _ = self.level.reload(filter(level));
    }

    /// The longest wait for the last lines.
    pub(crate) fn set_last_wait(&self, wait: Duration) {
        // Relaxed: no other data depends on it.
        self.last_wait_millis.store(millis(wait), Ordering::Relaxed);
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// Says on standard error why the program cannot run, in the format of the log. The log need not be there yet. If it is,
/// its last lines must have been written.
pub(crate) fn complain(format: LogFormat, reason: &dyn fmt::Display) {
    match format {
        // Standard error may be closed, and there is nobody else to tell.
        LogFormat::Text => _ = writeln!(io::stderr(), "fanwire: {reason}"),
        LogFormat::Json => complain_in_json(io::stderr, reason),
    }
}

fn complain_in_json<W: Write + 'static>(
    out: impl Fn() -> W + Send + Sync + 'static,
    reason: &dyn fmt::Display,
) {
    let log = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_writer(out)
        .json()
        .finish();
    tracing::subscriber::with_default(log, || tracing::error!(target: "fanwire", "{reason}"));
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Keeps the log running. Dropping it waits for the lines in the queue to be written, but not forever.
#[derive(Debug)]
#[must_use = "dropping it at once loses the wait for the last lines"]
pub(crate) struct LogGuard {
    queue: SyncSender<Entry>,
    last_wait_millis: Arc<AtomicU64>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let last_wait = self.last_wait_millis.load(Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_millis(last_wait);
        let (written, all_written) = sync_channel(1);
        let mut entry = Entry::Flush(written);
        while let Err(TrySendError::Full(refused)) = self.queue.try_send(entry) {
            if Instant::now() >= deadline {
                return;
            }
            entry = refused;
            thread::sleep(FLUSH_RETRY);
        }
        // The program ends now, whether all lines are written or the reader is stuck.
        let _ = all_written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Answered when all entries before it are written.
    Flush(SyncSender<()>),
}

/// The writing end of the queue. Each `write` is one line.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            // Relaxed: no other data depends on this number.
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread that writes to `out`. It lives until the process ends, because the installed subscriber is never
/// dropped.
fn spawn(out: impl Write + Send + 'static, last_wait: Duration) -> io::Result<(Lines, LogGuard)> {
    let (queue, entries) = sync_channel(QUEUE_LINES);
    let lost = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        queue: queue.clone(),
        lost: Arc::clone(&lost),
    };
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write_all(&entries, &lost, out))?;
    let last_wait_millis = Arc::new(AtomicU64::new(millis(last_wait)));
    let guard = LogGuard {
        queue,
        last_wait_millis,
    };
    Ok((lines, guard))
}

fn write_all(entries: &Receiver<Entry>, lost: &AtomicU64, mut out: impl Write) {
    while let Some(entry) = next(entries, lost) {
        match entry {
            // The reader may have gone, and there is nobody else to tell.
            Entry::Line(line) => _ = out.write_all(&line),
            // The guard may have stopped waiting.
            Entry::Flush(written) => _ = written.send(()),
        }
    }
}

/// The next entry. When the queue is empty, there is room to report lost lines before it waits.
fn next(entries: &Receiver<Entry>, lost: &AtomicU64) -> Option<Entry> {
    match entries.try_recv() {
        Ok(entry) => Some(entry),
        Err(TryRecvError::Disconnected) => None,
        Err(TryRecvError::Empty) => {
            report_lost(lost);
            entries.recv().ok()
        }
    }
}

/// Logs the number of lines lost since the last report, if any.
fn report_lost(lost: &AtomicU64) {
    // Relaxed: no other data depends on this number.
    let lines = lost.swap(0, Ordering::Relaxed);
    if lines > 0 {
        tracing::warn!(
            lines,
            "log lines were lost because the reader of standard error was too slow"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::sync::{Mutex, MutexGuard};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const A_MINUTE: Duration = Duration::from_mins(1);

    /// A pipe whose reader is stuck until `release` is dropped.
    struct Stuck {
        release: Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.release.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A pipe whose reader is gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dropping_the_guard_writes_all_lines_before_it() {
        let memory = Memory::default();
        let (mut lines, guard) = spawn(memory.clone(), A_MINUTE).unwrap();
        lines.write_all(b"one\n").unwrap();
        lines.write_all(b"two\n").unwrap();
        drop(guard);
        assert_eq!(*memory.bytes(), b"one\ntwo\n");
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_blocks_nobody() {
        let (hold, release) = channel();
        let wait = Duration::from_millis(10);
        let (mut lines, guard) = spawn(Stuck { release }, wait).unwrap();
        for _ in 0..QUEUE_LINES + 10 {
            lines.write_all(b"line\n").unwrap();
        }
        // The logging thread may hold one line.
        let lost = lines.lost.load(Ordering::Relaxed);
        assert!((9..=10).contains(&lost), "lost {lost}");
        drop(guard);
        drop(hold);
    }

    #[test]
    fn a_reader_that_is_gone_is_not_an_error() {
        let (mut lines, guard) = spawn(Gone, A_MINUTE).unwrap();
        lines.write_all(b"line\n").unwrap();
        drop(guard);
        assert_eq!(lines.lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lost_lines_are_reported_when_there_is_room() {
        let (queue, entries) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(7));
        let lines = Lines {
            queue,
            lost: Arc::clone(&lost),
        };
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || report_lost(&lost));
        let entry = entries.try_recv();
        let Ok(Entry::Line(line)) = entry else {
            panic!("no line, but {entry:?}");
        };
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains("WARN") && line.contains("lines=7"), "{line}");
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_complaint_in_json_is_one_line_like_those_of_the_log() {
        let memory = Memory::default();
        let out = memory.clone();
        complain_in_json(move || out.clone(), &"two\nlines and a \"quote\"");
        let text = String::from_utf8(memory.bytes().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["target"], "fanwire");
        assert_eq!(line["fields"]["message"], "two\nlines and a \"quote\"");
    }

    #[test]
    fn every_level_of_the_configuration_has_its_filter() {
        assert_eq!(filter(LogLevel::Error), LevelFilter::ERROR);
        assert_eq!(filter(LogLevel::Trace), LevelFilter::TRACE);
    }
}
