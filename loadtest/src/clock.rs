//! Time: one clock for all threads of a run, and a timer that wakes an event loop to the microsecond. The timeout of a
//! poll is not so exact.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds in a millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// The clock of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    /// Starts it.
    pub(crate) fn start() -> Clock {
        Clock {
            began: Instant::now(),
        }
    }

    /// Nanoseconds since it was started.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }
}

/// A duration in nanoseconds; five centuries at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / SECOND as f64
}

/// The whole part of a number; 0 if it is negative or not a number.
#[expect(clippy::cast_sign_loss, reason = "the cast saturates, as it should")]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// Time that the calling thread has waited for a CPU since it was started, in nanoseconds; 0 if the kernel does not
/// say.
pub(crate) fn thread_wait() -> u64 {
    let waited = || {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        let task = procfs::process::Process::myself()?.task_from_tid(thread)?;
        Ok::<_, procfs::ProcError>(task.schedstat()?.run_delay)
    };
    waited().unwrap_or(0)
}

/// Wakes a poll.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: std::fs::File,
    armed_for: u64,
}

impl Timer {
    /// A timer whose events bear this token.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer: OwnedFd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer {
            timer: timer.into(),
            armed_for: u64::MAX,
        })
    }

    /// Lets it go off at `deadline`; `u64::MAX` means never.
    pub(crate) fn arm(&mut self, deadline: u64, now: u64) -> io::Result<()> {
        if deadline == self.armed_for {
            return Ok(());
        }
        self.armed_for = deadline;
        let nanos = match deadline {
            u64::MAX => 0,
            // Zero would mean never.
            deadline => deadline.saturating_sub(now).max(1),
        };
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Timespec {
            tv_sec: (nanos / SECOND).cast_signed(),
            tv_nsec: (nanos % SECOND).cast_signed(),
        };
        let times = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(())
    }

    /// It has gone off.
    pub(crate) fn on_event(&mut self) {
        self.armed_for = u64::MAX;
        // Reading it makes it quiet. An error means that it was armed anew meanwhile.
        let _ = self.timer.read(&mut [0; 8]);
    }
}
