//! Counts events in a world that its shards do not count. A plan that never reaches an event tests nothing of it.

use std::collections::BTreeMap;

/// The stage of a client, as seen from outside: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Its host has not accepted it.
    Unaccepted,
    /// It is moving to another host.
    Moving,
    /// It waits for the other side's hello.
    Greeting,
    /// It was sent Close and has not answered.
    CloseAwaited,
    /// It has sent Close, or broken the protocol.
    Leaving,
    /// Its transport has bytes that the kernel has not accepted.
    HeldBack,
    /// It was sent the beginning of a frame.
    MidFrame,
    /// It posts.
    Posting,
    /// Its request is not completely read.
    Upgrading,
    /// The topic's owner has not confirmed it.
    Joining,
    /// It is a member and has not read the 101.
    Answered,
    /// Messages wait for it.
    Owed,
    /// Some of its bytes are not sent.
    Speaking,
    Idle,
}

impl Stage {
    pub(crate) const ALL: [Stage; 14] = [
        Stage::Unaccepted,
        Stage::Moving,
        Stage::Greeting,
        Stage::CloseAwaited,
        Stage::Leaving,
        Stage::HeldBack,
        Stage::MidFrame,
        Stage::Posting,
        Stage::Upgrading,
        Stage::Joining,
        Stage::Answered,
        Stage::Owed,
        Stage::Speaking,
        Stage::Idle,
    ];
}

/// An operation that is under way when a drain or cut begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Nothing in particular.
    Any,
    /// A connection has no upgrade yet.
    Upgrade,
    /// A client is moving between two hosts.
    Transfer,
    /// A subscription or its confirmation is between two shards.
    Join,
    /// The publishers of a topic are paused, or are about to be paused or released.
    Hold,
    /// Messages are between two shards.
    Messages,
    /// Messages wait for the next fan-out of their topic.
    Wait,
    /// A transport holds bytes back.
    HeldBack,
    /// A client was sent the beginning of a frame.
    MidFrame,
    /// A client has not answered a Close.
    CloseAwaited,
    /// A client does not read.
    Stall,
    /// A host is stopped.
    Pause,
}

impl Moment {
    pub(crate) const ALL: [Moment; 12] = [
        Moment::Any,
        Moment::Upgrade,
        Moment::Transfer,
        Moment::Join,
        Moment::Hold,
        Moment::Messages,
        Moment::Wait,
        Moment::HeldBack,
        Moment::MidFrame,
        Moment::CloseAwaited,
        Moment::Stall,
        Moment::Pause,
    ];
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A client's connection is reset.
    Reset(Stage),
    /// The same between two steps of a turn.
    ResetMidTurn,
    /// A client shuts down its side, even in the middle of a frame.
    HalfClose(Stage),
    /// A client sends Close.
    Goodbye(Stage),
    /// A client moves to a shard that does not own its topic.
    TransferElsewhere,
    /// A client of a proxy gets a seat,
    Seat,
    /// or does not.
    NoSeat,
    /// A health check is answered.
    Check,
    /// A client stops reading,
    Stall,
    /// and continues,
    Resumption,
    /// or never does.
    StallForEver,
    /// The world waits for a deadline, because of clients that never read.
    Outwaited,
    /// A host is stopped for a while,
    PauseOfOne,
    /// or all are,
    PauseOfAll,
    /// or one in the middle of a turn.
    PauseMidTurn,
    /// Deadlines are put off, because a host has noticed its pause.
    Patience,
    /// Reads wait, because an inbox is full.
    Congestion,
    /// A client asks where it is.
    Probe,
    /// A reader of events gets a message,
    StreamedMessage,
    /// or a comment,
    Comment,
    /// or hears of messages that it is not sent,
    StreamSkip,
    /// or of the end of its stream,
    StreamEnd,
    /// or that it gets none for now.
    StreamRefused,
    /// It sends something behind its request.
    Junk,
    /// A part of a request is offered.
    Offer,
    /// A request is sent again.
    Repeat,
    /// A request has waited in vain.
    WaitedInVain,
    /// A client gets the extension that it has offered,
    Extension,
    /// or does not, because too many have it,
    NoExtension,
    /// or is closed for a compressed message, because too many have sent one.
    NoWindow,
    /// A turn ends, and messages wait for the next fan-out of their topic.
    Wait,
    /// The clock goes on to a fan-out while the world comes to rest.
    FanOutAwaited,
    /// The same to the moment at which a host looks again whether the inboxes have room.
    RetryAwaited,
    /// The clock goes on to the next Close of a shutdown.
    CloseAwaited,
    /// A host begins to close its clients one after the other.
    Spread,
    /// A host takes another configuration.
    Reload,
    /// The relay is started again and goes on with its history,
    Restart,
    /// or with the history of a process with another number of shards,
    RestartWithOthers,
    /// or finds it damaged,
    RestartDamaged,
    /// or finds none.
    RestartWithout,
    Drain(Moment),
    /// All connections are cut, in a drain or without one.
    Cut(Moment),
    CutMidDrain,
    /// A transport accepted less than offered, because it was full.
    TransportFull,
    /// The kernel accepted a part of a record.
    RecordSentInPart,
    /// A flush offered the transport nothing.
    FlushOfNothing,
    /// A transport took a complete frame and held back its last byte.
    DeliveryHeldBack,
    /// The same for a Close.
    CloseHeldBack,
    /// There was no room for the last record of a transport.
    EndCut,
    /// The server's hello had to wait for room.
    HelloHeldBack,
    /// A read returned no complete record,
    RecordReadInPart,
    /// or several.
    RecordsReadAtOnce,
    /// A message counts as delivered and was never seen, because its connection was over before the transport could
    /// send it.
    LostInTransport,
}

/// The least number of times that each event must happen in an ordinary run. It is about a third of the usual number.
pub(crate) const LEAST: [(Event, u64); 104] = [
    (Event::Extension, 500),
    (Event::NoExtension, 50),
    (Event::NoWindow, 2),
    (Event::StreamedMessage, 10_000),
    (Event::Comment, 100),
    (Event::StreamSkip, 10),
    (Event::StreamEnd, 100),
    (Event::StreamRefused, 5),
    (Event::Junk, 15),
    (Event::Reset(Stage::Unaccepted), 20),
    (Event::Reset(Stage::Moving), 1),
    (Event::Reset(Stage::Greeting), 100),
    (Event::Reset(Stage::CloseAwaited), 8),
    (Event::Reset(Stage::Leaving), 40),
    (Event::Reset(Stage::HeldBack), 25),
    (Event::Reset(Stage::MidFrame), 40),
    (Event::Reset(Stage::Posting), 50),
    (Event::Reset(Stage::Upgrading), 100),
    (Event::Reset(Stage::Joining), 40),
    (Event::Reset(Stage::Answered), 100),
    (Event::Reset(Stage::Owed), 15),
    (Event::Reset(Stage::Speaking), 80),
    (Event::Reset(Stage::Idle), 80),
    (Event::HalfClose(Stage::Unaccepted), 6),
    (Event::HalfClose(Stage::Moving), 1),
    (Event::HalfClose(Stage::Greeting), 50),
    (Event::HalfClose(Stage::CloseAwaited), 2),
    (Event::HalfClose(Stage::Leaving), 20),
    (Event::HalfClose(Stage::HeldBack), 10),
    (Event::HalfClose(Stage::MidFrame), 15),
    (Event::HalfClose(Stage::Posting), 20),
    (Event::HalfClose(Stage::Upgrading), 50),
    (Event::HalfClose(Stage::Joining), 15),
    (Event::HalfClose(Stage::Answered), 40),
    (Event::HalfClose(Stage::Owed), 6),
    (Event::HalfClose(Stage::Speaking), 40),
    (Event::HalfClose(Stage::Idle), 30),
    (Event::Goodbye(Stage::CloseAwaited), 7),
    (Event::Goodbye(Stage::HeldBack), 20),
    (Event::Goodbye(Stage::Joining), 4),
    (Event::Goodbye(Stage::Idle), 80),
    (Event::CloseAwaited, 300),
    (Event::Spread, 100),
    (Event::Reload, 240),
    (Event::Restart, 20),
    (Event::RestartWithOthers, 35),
    (Event::RestartDamaged, 14),
    (Event::RestartWithout, 55),
    (Event::Drain(Moment::Any), 200),
    (Event::Drain(Moment::Upgrade), 40),
    (Event::Drain(Moment::Transfer), 1),
    (Event::Drain(Moment::Join), 10),
    (Event::Drain(Moment::Hold), 10),
    (Event::Drain(Moment::Messages), 8),
    (Event::Drain(Moment::Wait), 2),
    (Event::Drain(Moment::HeldBack), 10),
    (Event::Drain(Moment::MidFrame), 15),
    (Event::Drain(Moment::CloseAwaited), 1),
    (Event::Drain(Moment::Stall), 30),
    (Event::Drain(Moment::Pause), 15),
    (Event::Cut(Moment::Any), 150),
    (Event::Cut(Moment::Upgrade), 25),
    (Event::Cut(Moment::Transfer), 1),
    (Event::Cut(Moment::Join), 5),
    (Event::Cut(Moment::Hold), 5),
    (Event::Cut(Moment::Messages), 4),
    (Event::Cut(Moment::Wait), 1),
    (Event::Cut(Moment::HeldBack), 8),
    (Event::Cut(Moment::MidFrame), 10),
    (Event::Cut(Moment::CloseAwaited), 20),
    (Event::Cut(Moment::Stall), 30),
    (Event::Cut(Moment::Pause), 10),
    (Event::ResetMidTurn, 150),
    (Event::TransferElsewhere, 180),
    (Event::Seat, 500),
    (Event::NoSeat, 20),
    (Event::Check, 50),
    (Event::Stall, 1_000),
    (Event::Resumption, 300),
    (Event::StallForEver, 100),
    (Event::Outwaited, 70),
    (Event::PauseOfOne, 700),
    (Event::PauseOfAll, 700),
    (Event::PauseMidTurn, 100),
    (Event::Patience, 1_500),
    (Event::Congestion, 1_000),
    (Event::Probe, 80),
    (Event::Offer, 3_000),
    (Event::Repeat, 300),
    (Event::WaitedInVain, 5),
    (Event::Wait, 30_000),
    (Event::FanOutAwaited, 60),
    (Event::RetryAwaited, 4),
    (Event::CutMidDrain, 60),
    (Event::TransportFull, 100_000),
    (Event::RecordSentInPart, 40_000),
    (Event::FlushOfNothing, 7_000),
    (Event::DeliveryHeldBack, 20_000),
    (Event::CloseHeldBack, 40),
    (Event::EndCut, 50),
    (Event::HelloHeldBack, 150),
    (Event::RecordReadInPart, 300_000),
    (Event::RecordsReadAtOnce, 30_000),
    (Event::LostInTransport, 90),
];

/// The counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<Event, u64>);

impl Tally {
    pub(crate) fn note(&mut self, event: Event) {
        *self.0.entry(event).or_default() += 1;
    }

    pub(crate) fn count(&self, event: Event) -> u64 {
        self.0.get(&event).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        for (&event, count) in &other.0 {
            *self.0.entry(event).or_default() += count;
        }
    }
}
