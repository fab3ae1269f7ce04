//! The phases of a client's life, and the steps between them.
//!
//! [`Phase::after`] is the table. [`Client::take`](super::client::Client::take) is the only function that changes a phase, and
//! it refuses a step that is not in the table.

/// A phase of a client's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The head of a request is arriving: the first one, or the next one behind an answer.
    Requesting,
    /// The request is no upgrade. Its body is arriving, it is acted on, or its answer is on its way. Another one may follow.
    Exchanging,
    /// The request is granted. The host has not said yet on which shard the client is to live.
    Placing,
    /// The topic's owner has been asked to confirm the subscription. The 101 waits for the answer.
    Joining,
    /// The client is a member of its topic.
    Open,
    /// We began the closing handshake and await the client's Close.
    Closing,
    /// Nothing follows the bytes that are queued.
    Finishing,
    /// Our side is shut, and we await the client's end. Until then its bytes are read and thrown away. If a socket is closed with
    /// unread input, the kernel resets the connection, and the reset can destroy our last words on their way.
    Lingering,
}

/// A step from one phase to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The request is granted.
    Grant,
    /// The request is no upgrade, and is to be answered.
    Exchange,
    /// The answer has left, and the connection waits for the next request.
    NextRequest,
    /// The client stays on this shard, and its topic's owner is asked.
    Place,
    /// The owner has confirmed.
    Join,
    /// We send Close first.
    BeginClose,
    /// We queue our last words: a refusal, or a Close that the client need not answer.
    QueueLast,
    /// The last byte has left, and our side is shut.
    ShutWrite,
}

impl Phase {
    /// The phase after `step`; `None` if the step cannot happen in this phase.
    pub(super) fn after(self, step: Step) -> Option<Phase> {
        let (from, to): (&[Phase], Phase) = match step {
            Step::Grant => (&[Phase::Requesting], Phase::Placing),
            Step::Exchange => (&[Phase::Requesting], Phase::Exchanging),
            Step::NextRequest => (&[Phase::Exchanging], Phase::Requesting),
            Step::Place => (&[Phase::Placing], Phase::Joining),
            Step::Join => (&[Phase::Joining], Phase::Open),
            Step::BeginClose => (&[Phase::Open], Phase::Closing),
            Step::QueueLast => (
                &[
                    Phase::Requesting,
                    Phase::Exchanging,
                    Phase::Joining,
                    Phase::Open,
                    Phase::Closing,
                ],
                Phase::Finishing,
            ),
            Step::ShutWrite => (&[Phase::Finishing], Phase::Lingering),
        };
        from.contains(&self).then_some(to)
    }

    /// Whether bytes may be written in this phase.
    pub(super) fn may_send(self) -> bool {
        match self {
            Phase::Requesting | Phase::Placing | Phase::Joining | Phase::Lingering => false,
            Phase::Exchanging | Phase::Open | Phase::Closing | Phase::Finishing => true,
        }
    }

    /// Whether frames from the client are decoded. In [`Phase::Closing`] its answer to our Close may be among them.
    pub(super) fn hears_frames(self) -> bool {
        match self {
            Phase::Open | Phase::Closing => true,
            Phase::Requesting
            | Phase::Exchanging
            | Phase::Placing
            | Phase::Joining
            | Phase::Finishing
            | Phase::Lingering => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 8] = [
        Phase::Requesting,
        Phase::Exchanging,
        Phase::Placing,
        Phase::Joining,
        Phase::Open,
        Phase::Closing,
        Phase::Finishing,
        Phase::Lingering,
    ];

    const STEPS: [Step; 8] = [
        Step::Grant,
        Step::Exchange,
        Step::NextRequest,
        Step::Place,
        Step::Join,
        Step::BeginClose,
        Step::QueueLast,
        Step::ShutWrite,
    ];

    #[test]
    fn each_step_happens_only_in_the_phases_that_allow_it() {
        let allowed = [
            (Phase::Requesting, Step::Grant, Phase::Placing),
            (Phase::Requesting, Step::Exchange, Phase::Exchanging),
            (Phase::Requesting, Step::QueueLast, Phase::Finishing),
            (Phase::Exchanging, Step::NextRequest, Phase::Requesting),
            (Phase::Exchanging, Step::QueueLast, Phase::Finishing),
            (Phase::Placing, Step::Place, Phase::Joining),
            (Phase::Joining, Step::Join, Phase::Open),
            (Phase::Joining, Step::QueueLast, Phase::Finishing),
            (Phase::Open, Step::BeginClose, Phase::Closing),
            (Phase::Open, Step::QueueLast, Phase::Finishing),
            (Phase::Closing, Step::QueueLast, Phase::Finishing),
            (Phase::Finishing, Step::ShutWrite, Phase::Lingering),
        ];
        let mut found = Vec::new();
        for phase in PHASES {
            for step in STEPS {
                if let Some(next) = phase.after(step) {
                    found.push((phase, step, next));
                }
            }
        }
        assert_eq!(found, allowed);
    }

    #[test]
    fn frames_are_heard_only_while_an_answer_can_be_sent() {
        for phase in PHASES {
            assert!(phase.may_send() || !phase.hears_frames(), "{phase:?}");
        }
    }
}
