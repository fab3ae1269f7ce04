//! The link and its commands, with answers written by hand. `tests/cluster` has a whole engine.

use bytes::Bytes;

use super::*;
use crate::cluster::batch::VERSION;
use crate::cluster::hello::Shared;
use crate::cluster::place::NodeId;
use crate::cluster::reply::Reply;

/// A message of a byte.
#[derive(Debug, PartialEq)]
struct Letter;

impl Parcel for Letter {
    fn messages(&self) -> u32 {
        1
    }

    fn len_bytes(&self) -> usize {
        3
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&[0x82, 1, 7][..])
    }
}

/// An engine, and the time in milliseconds.
struct Rig {
    engine: Engine<Letter>,
    ms: u64,
}

impl Rig {
    fn new() -> Self {
        let seconds = Duration::from_secs;
        let node = NodeId(1);
        let settings = EngineSettings {
            worker: 0,
            link: LinkSettings {
                connect_timeout: seconds(1),
                io_timeout: seconds(2),
                probe_interval: seconds(1),
            },
            topic: TopicSettings {
                node,
                max_batch_bytes: 1_000,
                max_pending_bytes: 1_000,
                outage_timeout: seconds(10),
                topic_ttl: seconds(3_600),
                linger: seconds(5),
            },
            hello: Hello {
                version: VERSION,
                node,
                shared: Shared {
                    engines: 1,
                    prefix: "p".into(),
                    topics: "path".into(),
                    history: true,
                    echo: true,
                    max_message_bytes: 1_000,
                },
            },
            history_bytes: 1_000,
            history_ttl: seconds(60),
            audit_rate: 0,
            pending_bytes: 100_000,
        };
        Rig {
            engine: Engine::new(settings, 7, Timestamp(0)),
            ms: 0,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.ms * 1_000)
    }

    /// Lets time pass, and does what is due.
    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.ms += ms;
        self.engine.handle_timeout(self.now());
        self.engine.take_actions()
    }

    fn answer(&mut self, lane: Lane, reply: &Reply) -> Vec<Action> {
        self.engine.on_reply(lane, reply, self.now());
        self.engine.take_actions()
    }

    /// Opens a connection to a server, up to the last part of its greeting.
    fn greet(&mut self, lane: Lane, run_id: &str) -> Vec<Action> {
        self.engine.on_connected(lane, self.now());
        self.engine.take_actions();
        let mut actions = self.answer(lane, &info(run_id, "master"));
        match lane {
            Lane::Publisher => {
                for digest in ["sync", "pub", "probe"] {
                    actions.extend(self.answer(lane, &bulk(digest)));
                }
            }
            Lane::Subscriber => {
                for channel in ["p!0000000000000001.0", "p!hello"] {
                    actions.extend(self.answer(lane, &pushed("subscribe", channel)));
                }
            }
        }
        actions
    }

    fn up() -> Self {
        let mut rig = Rig::new();
        let both = LANES.map(Action::Connect);
        assert_eq!(rig.after(0), both);
        for lane in LANES {
            rig.greet(lane, "run");
        }
        assert!(rig.engine.is_up());
        rig
    }
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

fn info(run_id: &str, role: &str) -> Reply {
    bulk(&format!(
        "run_id:{run_id}\r\nrole:{role}\r\nmaster_replid:id\r\n"
    ))
}

fn pushed(kind: &str, channel: &str) -> Reply {
    Reply::Array(vec![bulk(kind), bulk(channel), Reply::Integer(1)])
}

/// The names of the commands that go out on a lane.
fn sent(actions: &[Action], lane: Lane) -> Vec<String> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(on, command) if *on == lane => {
            Some(String::from_utf8_lossy(&command.args[0]).into_owned())
        }
        _ => None,
    });
    sent.collect()
}

/// The connections that are closed, and why.
fn closed(actions: &[Action]) -> Vec<(Lane, Reason)> {
    let closed = actions.iter().filter_map(|action| match action {
        Action::Close(lane, reason) => Some((*lane, *reason)),
        _ => None,
    });
    closed.collect()
}

fn both(reason: Reason) -> Vec<(Lane, Reason)> {
    LANES.map(|lane| (lane, reason)).to_vec()
}

#[test]
fn two_connections_to_different_servers_are_no_link() {
    let mut rig = Rig::new();
    rig.after(0);
    rig.greet(Lane::Publisher, "one");
    let actions = rig.greet(Lane::Subscriber, "other");
    assert_eq!(closed(&actions), both(Reason::Apart));
    assert!(!rig.engine.is_up());
}

#[test]
fn a_server_that_cannot_serve_is_refused() {
    let mut rig = Rig::new();
    rig.after(0);
    rig.engine.on_connected(Lane::Publisher, rig.now());
    let actions = rig.answer(Lane::Publisher, &info("run", "slave"));
    let reason = Reason::Unfit(crate::cluster::info::Unfit::IsReplica);
    assert_eq!(closed(&actions), [(Lane::Publisher, reason)]);
}

#[test]
fn a_lost_connection_is_tried_again_later_and_later() {
    let mut rig = Rig::new();
    rig.after(0);
    for most in [50, 100, 200, 400, 800, 1_600, 2_000, 2_000] {
        rig.engine.on_closed(Lane::Publisher, rig.now());
        let mut waited = 0;
        while rig.after(1) != [Action::Connect(Lane::Publisher)] {
            waited += 1;
        }
        assert!(
            waited <= most && waited + 1 >= most / 2,
            "{waited} of {most}"
        );
    }
}

#[test]
fn a_quiet_link_is_probed_with_a_write_and_a_busy_one_with_a_question() {
    let mut rig = Rig::up();
    let actions = rig.after(1_000);
    let with_hello = ["INFO", "EVALSHA", "PUBLISH"];
    assert_eq!(sent(&actions, Lane::Publisher), with_hello);
    rig.answer(Lane::Publisher, &info("run", "master"));
    rig.answer(Lane::Publisher, &Reply::Integer(1));
    rig.answer(Lane::Publisher, &Reply::Integer(3));
    let own = bulk("p!0000000000000001.0");
    let token = Reply::Array(vec![bulk("message"), own, bulk("1")]);
    rig.answer(Lane::Subscriber, &token);
    assert_eq!(sent(&rig.after(1_000), Lane::Publisher), ["INFO"]);
}

#[test]
fn a_server_of_another_role_is_left() {
    let mut rig = Rig::up();
    rig.after(1_000);
    let actions = rig.answer(
        Lane::Publisher,
        &bulk("role:master\r\nmaster_replid:new\r\n"),
    );
    assert_eq!(closed(&actions), both(Reason::Role));
    let mut rig = Rig::up();
    rig.after(1_000);
    let error = Reply::Error("READONLY You can't write against a read only replica.".into());
    assert_eq!(
        closed(&rig.answer(Lane::Publisher, &error)),
        both(Reason::Role)
    );
}

#[test]
fn a_silent_server_is_left_unless_we_do_not_read() {
    let mut rig = Rig::up();
    rig.after(1_000);
    assert_eq!(closed(&rig.after(1_999)), []);
    assert_eq!(closed(&rig.after(1)), [(Lane::Publisher, Reason::Silent)]);
    let mut rig = Rig::up();
    rig.after(1_000);
    rig.engine.note_unread(Lane::Publisher, true, rig.now());
    assert_eq!(closed(&rig.after(60_000)), []);
    // A part of a reply is a sign of life.
    rig.engine.note_unread(Lane::Publisher, false, rig.now());
    rig.after(1_500);
    rig.engine.note_progress(Lane::Publisher, rig.now());
    assert_eq!(closed(&rig.after(1_500)), []);
}

/// P executes the probe, but nobody hears of it.
#[test]
fn a_subscription_that_does_not_bring_the_token_is_left() {
    let mut rig = Rig::up();
    rig.after(1_000);
    rig.answer(Lane::Publisher, &info("run", "master"));
    rig.answer(Lane::Publisher, &Reply::Integer(1));
    rig.after(1_999);
    // The next probes are answered, too.
    while rig.engine.requests.is_waiting() {
        rig.answer(Lane::Publisher, &info("run", "master"));
    }
    assert_eq!(closed(&rig.after(1)), [(Lane::Subscriber, Reason::Silent)]);
}

#[test]
fn thousands_of_topics_are_subscribed_together_and_asked_for_in_turn() {
    let mut rig = Rig::new();
    for topic in 0..2_000 {
        let key = rig.engine.topic(&format!("/{topic}"));
        rig.engine.on_members(key, 1, Timestamp(0));
    }
    rig.after(0);
    rig.greet(Lane::Publisher, "run");
    let actions = rig.greet(Lane::Subscriber, "run");
    let names: Vec<usize> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(Lane::Subscriber, command) => Some(command.args.len() - 1),
            _ => None,
        })
        .collect();
    assert_eq!(names, [512, 512, 512, 464]);
    let mut asked = 0;
    for topic in 0..2_000 {
        let channel = format!("p:{{/{topic}}}:c");
        let actions = rig.answer(Lane::Subscriber, &pushed("subscribe", &channel));
        asked += sent(&actions, Lane::Publisher).len();
    }
    assert_eq!(asked, crate::cluster::requests::MAX_OUTSTANDING);
    let numbers = [7, 0, 0, 0, 0].map(Reply::Integer).to_vec();
    let actions = rig.answer(Lane::Publisher, &Reply::Array(numbers));
    assert_eq!(sent(&actions, Lane::Publisher), ["EVALSHA"]);
}

#[test]
fn scripts_that_the_server_has_forgotten_are_loaded_before_the_next_question() {
    let mut rig = Rig::up();
    let key = rig.engine.topic("/a");
    rig.engine.on_members(key, 1, rig.now());
    rig.answer(Lane::Subscriber, &pushed("subscribe", "p:{/a}:c"));
    let error = Reply::Error("NOSCRIPT No matching script.".into());
    let actions = rig.answer(Lane::Publisher, &error);
    let expected = ["SCRIPT", "SCRIPT", "SCRIPT", "EVALSHA"];
    assert_eq!(sent(&actions, Lane::Publisher), expected);
}

#[test]
fn answers_that_make_no_sense_end_the_connection() {
    let mut rig = Rig::up();
    let actions = rig.answer(Lane::Publisher, &Reply::Integer(1));
    assert_eq!(closed(&actions), [(Lane::Publisher, Reason::Protocol)]);
    for reply in [
        Reply::Integer(1),
        pushed("pmessage", "x"),
        pushed("unsubscribe", "p:{/a}:c"),
        Reply::Error("NOPERM this user has no permissions".into()),
        Reply::Array(Vec::new()),
    ] {
        let mut rig = Rig::up();
        let key = rig.engine.topic("/a");
        rig.engine.on_members(key, 1, rig.now());
        let actions = rig.answer(Lane::Subscriber, &reply);
        let expected = [(Lane::Subscriber, Reason::Protocol)];
        assert_eq!(closed(&actions), expected, "{reply:?}");
    }
}
