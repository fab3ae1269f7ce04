//! The cases of which instructions are counted. Each does the same in every iteration, on input that never changes.
//!
//! `main` runs one of them in a process of its own.

use std::hint::black_box;
use std::time::Duration;

use fanwire::internals::mailbox::{Mailbox, Wake};
use fanwire::internals::port::{Epoch, Form};
use fanwire::internals::relay::{Audience, Batch, Coalesce, Draft, Log, OwnedTopic, Source};
use fanwire::internals::ws::{Decoder, Event, MessageKind};
use fanwire::internals::{ClientId, ClientKey, Seq, ShardId, Timestamp};

use crate::one_shard::OneShard;
use crate::streams::{BINARY, FIN, client_frame};

/// A case.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name, also in the file of expected counts.
    pub(crate) name: &'static str,
    /// The noun for an item.
    pub(crate) item: &'static str,
    /// Items in one iteration.
    pub(crate) items: usize,
    /// Iterations of a count. They are many, so that rare events, such as a table that grows, have the same share in every
    /// count.
    pub(crate) iterations: usize,
    /// Runs this number of iterations.
    pub(crate) run: fn(usize),
}

/// All cases.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "decode/text of 128 B",
        item: "message",
        items: MESSAGES,
        iterations: 200,
        run: |iterations| decode(iterations, &client_frame(FIN | TEXT, SMALL), WHOLE),
    },
    Case {
        name: "decode/binary of 16 KiB",
        item: "message",
        items: MESSAGES,
        iterations: 10,
        run: |iterations| decode(iterations, &client_frame(FIN | BINARY, LARGE), WHOLE),
    },
    Case {
        name: "decode/text in 4 fragments of 256 B",
        item: "message",
        items: MESSAGES,
        iterations: 50,
        run: |iterations| decode(iterations, &fragments(), WHOLE),
    },
    Case {
        name: "decode/text of 128 B in reads of 48 B",
        item: "message",
        items: MESSAGES,
        iterations: 50,
        run: |iterations| decode(iterations, &client_frame(FIN | TEXT, SMALL), 48),
    },
    Case {
        name: "sequence/64 messages in one draft",
        item: "message",
        items: MESSAGES,
        iterations: 200,
        run: |iterations| sequence(iterations, 1),
    },
    Case {
        name: "sequence/64 messages in 16 drafts",
        item: "message",
        items: MESSAGES,
        iterations: 200,
        run: |iterations| sequence(iterations, 16),
    },
    Case {
        name: "deliver/64 batches appended to a log",
        item: "batch",
        items: MESSAGES,
        iterations: 200,
        run: append,
    },
    Case {
        name: "coalesce/64 turns that wait, and a fan-out to 10",
        item: "turn",
        items: MESSAGES,
        iterations: 100,
        run: coalesce,
    },
    Case {
        name: "flush/1000 members, one slice each",
        item: "delivery",
        items: MEMBERS,
        iterations: 20,
        run: |iterations| turns(iterations, true, 1),
    },
    Case {
        name: "flush/1000 members, one slice each, without echo",
        item: "delivery",
        items: MEMBERS - 1,
        iterations: 20,
        run: |iterations| turns(iterations, false, 1),
    },
    Case {
        name: "flush/1000 members, one slice each in two writes",
        item: "delivery",
        items: MEMBERS,
        iterations: 20,
        run: turns_in_halves,
    },
    Case {
        name: "turn/64 messages to 1000 members",
        item: "turn",
        items: 1,
        iterations: 20,
        run: |iterations| turns(iterations, true, MESSAGES),
    },
    Case {
        name: "mailbox/64 items pushed and drained",
        item: "item",
        items: MESSAGES,
        iterations: 500,
        run: mailbox,
    },
];

/// The opcode of text.
const TEXT: u8 = 0x1;

/// Messages in one iteration.
const MESSAGES: usize = 64;

/// Members of a topic.
const MEMBERS: usize = 1000;

/// Members of a topic whose members are not counted.
const FEW: usize = 10;

/// The payload of a small message, in bytes.
const SMALL: usize = 128;

/// The payload of a large message, in bytes.
const LARGE: usize = 16 << 10;

/// The payload of a fragment, in bytes.
const FRAGMENT: usize = 256;

/// One read brings the whole stream.
const WHOLE: usize = usize::MAX;

/// The longest message, in bytes.
const LIMIT: usize = 1 << 20;

/// One message in four frames: one with the kind, and three that continue it.
fn fragments() -> Vec<u8> {
    [TEXT, 0, 0, FIN]
        .map(|first| client_frame(first, FRAGMENT))
        .concat()
}

/// Decodes a stream of copies of `message`. Each read brings this number of bytes.
fn decode(iterations: usize, message: &[u8], read_bytes: usize) {
    let stream = message.repeat(MESSAGES);
    let mut scratch = stream.clone();
    let mut decoder = Decoder::default();
    let mut messages = 0;
    for _ in 0..iterations {
        // The decoder unmasks in place, so each round needs its own copy of the bytes.
        scratch.copy_from_slice(&stream);
        for mut input in scratch.chunks_mut(read_bytes.min(stream.len())) {
            while let Some(event) = decoder.decode(&mut input, LIMIT).expect("a legal stream") {
                messages += usize::from(matches!(event, Event::Message(_)));
                black_box(event);
            }
        }
    }
    assert_eq!(messages, iterations * MESSAGES);
}

/// Collects small messages in this number of `drafts`, each from another shard, and numbers them.
fn sequence(iterations: usize, drafts: u16) {
    let payload = [b'x'; SMALL];
    let coalesce = Coalesce::new(Duration::ZERO, LIMIT as u64);
    let now = Timestamp(1);
    let key = ClientKey {
        slot: 0,
        generation: 0,
    };
    let mut topic = OwnedTopic::new("/".into());
    let epoch = Epoch::from_bits(0);
    for shard in (0..drafts).map(ShardId) {
        topic.subscribe(shard, Audience::of(Form::Frames, 1));
    }
    let mut messages = 0;
    for _ in 0..iterations {
        for shard in (0..drafts).map(ShardId) {
            let mut draft = Draft::new(Source::Members(shard), now);
            for _ in 0..MESSAGES / usize::from(drafts) {
                let author = Some(ClientId { shard, key });
                draft.push(MessageKind::Binary, black_box(&payload), author);
            }
            topic.publish(draft, Audience::of(Form::Frames, 1));
        }
        let (batches, _) = topic.sequence(now, &coalesce, &epoch);
        messages += batches.iter().map(|batch| batch.len()).sum::<usize>();
        black_box(batches);
    }
    assert_eq!(messages, iterations * MESSAGES);
}

/// Appends batches of one small message to a log. Its one member gets them all.
fn append(iterations: usize) {
    let drafts = (0..MESSAGES).map(|_| {
        let mut draft = Draft::new(Source::Members(ShardId(0)), Timestamp(1));
        draft.push(MessageKind::Binary, &[b'x'; SMALL], None);
        draft
    });
    let batches = Batch::seal(Seq(0), drafts, Audience::of(Form::Frames, 1), None);
    let mut log = Log::default();
    for _ in 0..iterations {
        log.reset(Seq(0));
        let member = log.enter();
        for batch in black_box(&batches) {
            log.append(batch.clone());
        }
        let head = log.head();
        log.relocate(member, head);
        log.leave(head);
    }
    assert_eq!(log.kept_bytes(), 0);
}

/// Turns with one small message each, in which the topic waits, and the turn in which it is fanned out.
fn coalesce(iterations: usize) {
    let mut relay = OneShard::coalescing(FEW);
    let input = client_frame(FIN | BINARY, SMALL);
    for _ in 0..iterations {
        for _ in 0..MESSAGES {
            relay.turn([0], &input);
        }
        relay.turn_at_fan_out();
    }
    relay.assert_all_delivered();
}

/// Turns in which this number of small messages reach everybody. With one message, almost all instructions are the flush.
fn turns(iterations: usize, echo: bool, messages: usize) {
    let mut relay = OneShard::new(1, MEMBERS, echo);
    let input = client_frame(FIN | BINARY, SMALL).repeat(messages);
    for _ in 0..iterations {
        relay.turn([0], &input);
    }
    relay.assert_all_delivered();
}

/// Each member's socket accepts half of a message in one turn, and the rest in the next.
fn turns_in_halves(iterations: usize) {
    let mut relay = OneShard::new(1, MEMBERS, true);
    let input = client_frame(FIN | BINARY, SMALL);
    for _ in 0..iterations {
        relay.turn_in_halves([0], &input);
    }
    relay.assert_all_delivered();
}

/// The owner is awake. A wake would be the kernel's work, and is not counted.
struct Awake;

impl Wake for Awake {
    fn wake(&self) {
        black_box(self);
    }
}

/// One thread pushes the items of a turn, and takes them all out together.
fn mailbox(iterations: usize) {
    let inbox: Mailbox<[usize; 4], Awake> = Mailbox::new(Awake);
    for _ in 0..iterations {
        for _ in 0..MESSAGES {
            inbox.push(black_box([0; 4]), 64);
        }
        inbox.notify();
        inbox.open();
        while let Some(item) = inbox.pop() {
            black_box(item);
        }
    }
    assert!(inbox.is_empty());
}
