//! The scenarios, in the order of the table. `main` measures them.

use crate::floor::Sends;
use crate::report::Target;
use crate::transport::Speech;
use crate::wire::{Pace, Traffic};

/// A comparison: usually one row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) traffic: Traffic,
    pub(crate) subject: Side,
    pub(crate) reference: Side,
    pub(crate) target: Target,
}

/// One of the two servers that are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Relay(Setup),
    Floor(Sends),
}

/// A relay and its clients, as far as scenarios differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    pub(crate) unpinned: bool,
    pub(crate) tls: bool,
    /// Whether the relay keeps messages for clients that come back.
    pub(crate) history: bool,
    /// Whether members that only listen read server-sent events.
    pub(crate) events: bool,
}

const ONE: Setup = Setup {
    workers: 1,
    unpinned: false,
    tls: false,
    history: false,
    events: false,
};

pub(crate) const ONE_SHARD: Side = Side::Relay(ONE);

pub(crate) const ONE_SHARD_TLS: Side = Side::Relay(Setup { tls: true, ..ONE });

pub(crate) const ONE_SHARD_EVENTS: Side = Side::Relay(Setup {
    events: true,
    ..ONE
});

/// A closed loop: a message is in flight until all members have it.
pub(crate) const fn traffic(
    publishers: usize,
    members: usize,
    window: usize,
    payload_bytes: usize,
) -> Traffic {
    Traffic {
        publishers,
        members,
        window,
        payload_bytes,
        pace: Pace::All,
        text: false,
    }
}

/// Medium load: more than one message comes during a fan-out, but too few to fill the processor without coalescing or to join by
/// themselves.
const fn medium(members: usize) -> Traffic {
    Traffic {
        pace: Pace::PerSecond(5000),
        ..traffic(1, members, 1024, 128)
    }
}

pub(crate) const SCENARIOS: [Scenario; 14] = [
    Scenario {
        name: "1 → 1000, 128 B, 64 in flight",
        traffic: traffic(1, 1001, 64, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::Ratio(1.25),
    },
    Scenario {
        name: "1 → 1000, 128 B, 256 in flight",
        traffic: traffic(1, 1001, 256, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::Ratio(1.25),
    },
    Scenario {
        name: "1 → 1000, 128 B, 1 in flight",
        traffic: traffic(1, 1001, 1, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerFrame),
        target: Target::Ratio(1.10),
    },
    Scenario {
        name: "50 that all send, 128 B, 4 each in flight",
        traffic: traffic(50, 50, 4, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::Ratio(1.3),
    },
    Scenario {
        name: "1 → 1000, 128 B, 64 not yet back at the sender",
        traffic: Traffic {
            pace: Pace::Sender,
            ..traffic(1, 1001, 64, 128)
        },
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::None,
    },
    Scenario {
        name: "1 → 200, 128 B, 5000 a second",
        traffic: medium(201),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::Ratio(0.5),
    },
    Scenario {
        name: "1 → 1000, 128 B, 5000 a second",
        traffic: medium(1001),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::None,
    },
    Scenario {
        name: "a pair, 128 B, 1 in flight",
        traffic: traffic(1, 2, 1, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::None,
    },
    Scenario {
        name: "1 → 200, 16 KiB, 16 in flight",
        traffic: traffic(1, 201, 16, 16 << 10),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::None,
    },
    Scenario {
        name: "two shards, 1 → 1000, 64 in flight, all on one CPU",
        traffic: traffic(1, 1001, 64, 128),
        subject: Side::Relay(Setup { workers: 2, ..ONE }),
        reference: ONE_SHARD,
        target: Target::Ratio(1.15),
    },
    Scenario {
        name: "two shards, 1 → 1000, 64 in flight, unpinned",
        traffic: traffic(1, 1001, 64, 128),
        subject: Side::Relay(Setup {
            workers: 2,
            unpinned: true,
            ..ONE
        }),
        reference: Side::Relay(Setup {
            unpinned: true,
            ..ONE
        }),
        target: Target::None,
    },
    Scenario {
        name: "TLS, 1 → 500, 128 B, 64 in flight",
        traffic: traffic(1, 501, 64, 128),
        subject: ONE_SHARD_TLS,
        reference: ONE_SHARD,
        target: Target::None,
    },
    Scenario {
        name: "history of 2 minutes, 1 → 1000, 128 B, 64 in flight",
        traffic: traffic(1, 1001, 64, 128),
        subject: Side::Relay(Setup {
            history: true,
            ..ONE
        }),
        reference: ONE_SHARD,
        target: Target::Ratio(1.03),
    },
    Scenario {
        name: "server-sent events, 1 → 1000, text of 128 B, 64 in flight",
        traffic: Traffic {
            text: true,
            ..traffic(1, 1001, 64, 128)
        },
        subject: ONE_SHARD_EVENTS,
        reference: ONE_SHARD,
        target: Target::Ratio(1.1),
    },
];

impl Side {
    pub(crate) fn speech(self) -> Speech {
        match self {
            Side::Relay(Setup { tls: true, .. }) => Speech::WebSocketOverTls,
            Side::Relay(Setup { events: true, .. }) => Speech::Events,
            Side::Relay(_) => Speech::WebSocket,
            Side::Floor(_) => Speech::Bare,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Relay(Setup { tls: true, .. }) => "one shard, TLS",
            Side::Relay(_) => "one shard",
            Side::Floor(Sends::PerTurn) => "floor, one send per turn",
            Side::Floor(Sends::PerFrame) => "floor, one send per frame",
        }
    }
}
