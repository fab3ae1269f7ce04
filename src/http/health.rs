//! The health of the relay, as probes see it. `routes` answers with it; the server decides which it is.

/// The state of the relay. If several are true at once, the later in this list wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes new clients.
    Ready,
    /// It has as many connections as it may have.
    Full,
    /// It has been without an engine for too long.
    CutOff,
    /// It has not been connected to its engines yet, or does not fit to the other relays.
    Joining,
    /// It is shutting down.
    Draining,
    /// One of its threads stands still.
    Frozen,
}

impl Health {
    /// Whether the process works. If not, only a restart helps.
    pub(crate) fn is_alive(self) -> bool {
        self != Health::Frozen
    }

    /// Whether new clients should come.
    pub(crate) fn is_ready(self) -> bool {
        self == Health::Ready
    }

    /// The body of an answer to a probe.
    pub(crate) fn line(self) -> &'static str {
        match self {
            Health::Ready => "ready\n",
            Health::CutOff => "cut off from the engine\n",
            Health::Joining => "joining the cluster\n",
            Health::Full => "full\n",
            Health::Draining => "draining\n",
            Health::Frozen => "frozen\n",
        }
    }
}
