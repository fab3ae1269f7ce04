//! Tests of requests that are no upgrades: they are answered in order, when their messages are numbered.

use std::time::Duration;

use super::*;
use crate::config::Page;
use crate::port::topic_name::TopicName;
use crate::relay::envelope::Hold;
use crate::ws::handshake::Refusal;

/// A connection that has sent these bytes. The next turn reads them.
fn dial(shard: &mut Driven, bytes: impl AsRef<[u8]>) -> ClientKey {
    let key = shard.accept();
    shard.sends(key, bytes.as_ref());
    key
}

fn post(path: &str, body: &str) -> String {
    post_with(path, body, "")
}

fn post_with(path: &str, body: &str, fields: &str) -> String {
    let len = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n{fields}\r\n{body}")
}

/// All but the last byte of a request.
fn cut(request: &str) -> &str {
    &request[..request.len() - 1]
}

/// The statuses and bodies of the answers that the client was sent.
fn answers(shard: &Driven, client: ClientKey) -> Vec<(u16, String)> {
    let text = String::from_utf8(shard.writes_to(client).concat()).unwrap();
    let mut rest = &text[..];
    let mut answers = Vec::new();
    while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
        let len = head.split("Content-Length: ").nth(1);
        let len = len.map_or(0, |len| len.split("\r\n").next().unwrap().parse().unwrap());
        let (body, next) = behind.split_at(len);
        answers.push((head[9..12].parse().unwrap(), body.to_owned()));
        rest = next;
    }
    assert_eq!(rest, "");
    answers
}

fn statuses(shard: &Driven, client: ClientKey) -> Vec<u16> {
    let answers = answers(shard, client).into_iter();
    answers.map(|(status, _)| status).collect()
}

fn at(next: u64, members: u32) -> String {
    format!("{{\"at\":\"00000000000-{next}\",\"members\":{members}}}\n")
}

fn hold(shards: &mut [Driven; 2], path: &str, is_held: bool) {
    let (topic, from): (TopicName, _) = (path.into(), ShardId(0));
    shards[0].hears(if is_held {
        Envelope::Hold {
            topic,
            from,
            hold: Hold::Open,
        }
    } else {
        Envelope::Release {
            topic,
            from,
            in_vain: false,
        }
    });
}

#[test]
fn a_post_is_answered_with_its_position_once_it_is_numbered() {
    let (mut shards, path) = two_shards(&Config::default());
    let member = join(&mut shards[0], &path, b"");
    turns(&mut shards);
    let client = dial(&mut shards[1], post(&path, "hello"));
    turn_and_deliver(&mut shards, 1);
    assert!(shards[1].writes_to(client).is_empty(), "it is not numbered");
    more_turns(&mut shards);
    assert_eq!(answers(&shards[1], client), [(202, at(1, 1))]);
    assert_eq!(
        shards[0].writes_to(member).last().unwrap(),
        b"\x81\x05hello"
    );
    assert_eq!(shards[1].stats.value(Stat::ConnectedClients), 0);
}

#[test]
fn requests_on_one_connection_are_answered_in_order_and_an_upgrade_may_follow() {
    let (mut shards, path) = two_shards(&Config::default());
    let all = [
        post(&path, "a"),
        format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
        post(&path, "b"),
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n"),
        request(&path),
    ];
    let frames = text(1);
    let bytes = [all.concat().as_bytes(), &frames].concat();
    for piece in [1, 7, 50, bytes.len()] {
        let client = shards[0].accept();
        turns(&mut shards);
        for piece in bytes.chunks(piece) {
            shards[0].sends(client, piece);
            more_turns(&mut shards);
        }
        more_turns(&mut shards);
        let sent = shards[0].writes_to(client).concat();
        let text = String::from_utf8_lossy(&sent);
        let found: Vec<&str> = text
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|one| &one[..3])
            .collect();
        assert_eq!(found, ["202", "200", "202", "200", "101"]);
        assert!(sent.ends_with(b"\r\n\r\n\x81\x01x"), "the frame is a frame");
        shards[0].fails(client);
        turns(&mut shards);
    }
}

#[test]
fn bytes_behind_an_upgrade_are_never_a_request() {
    let mut shard = shard_with(&Config::default());
    let bytes = [request("/"), post("/", "x")].concat();
    let client = dial(&mut shard, bytes);
    rest(&mut shard, None);
    let sent = shard.writes_to(client).concat();
    assert!(sent.starts_with(b"HTTP/1.1 101 "));
    assert!(!sent.windows(4).any(|four| four == b" 202"));
    assert_eq!(shard.stats.value(Stat::PostedMessages), 0);
    assert_eq!(shard.stats.value(Stat::DisconnectedProtocol), 1);
}

#[test]
fn lines_are_messages_of_their_own_next_to_each_other() {
    let mut shard = shard_with(&Config::default());
    let member = join(&mut shard, "/a", b"");
    rest(&mut shard, None);
    let lines = "one\r\n\ntwo\nthree";
    let fields = "Content-Type: application/x-ndjson\r\n";
    let client = dial(&mut shard, post_with("/a", lines, fields));
    rest(&mut shard, None);
    assert_eq!(answers(&shard, client), [(202, at(3, 1))]);
    let sent = shard.writes_to(member).concat();
    assert!(sent.ends_with(b"\x81\x03one\x81\x03two\x81\x05three"));
}

#[test]
fn messages_to_many_topics_get_a_line_each_and_a_bad_line_spoils_its_topic_only() {
    let mut shard = shard_with(&Config::default());
    let member = join(&mut shard, "/b", b"");
    rest(&mut shard, None);
    let lines = [
        r#"{"topic":"/a","text":"1"}"#,
        r#"{"topic":"/b","text":"2"}"#,
        "nonsense",
        r#"{"topic":"/a","base64":"?"}"#,
        r#"{"topic":"/b","base64":"Aw=="}"#,
    ];
    let fields = "Content-Type: application/vnd.fanwire+ndjson\r\n";
    let client = dial(&mut shard, post_with("/", &lines.join("\n"), fields));
    rest(&mut shard, None);
    let answers = answers(&shard, client);
    assert_eq!(answers[0].0, 200);
    let lines: Vec<&str> = answers[0].1.lines().collect();
    assert!(
        lines[0].starts_with(r#"{"status":400,"error":"Another line"#),
        "{lines:?}"
    );
    assert_eq!(lines[1], r#"{"at":"00000000000-1"}"#);
    assert!(lines[2].starts_with(r#"{"status":400,"error":"A line must be"#));
    assert!(lines[3].starts_with(r#"{"status":400,"error":"The base64"#));
    assert_eq!(lines[4], r#"{"at":"00000000000-2"}"#);
    let sent = shard.writes_to(member).concat();
    assert!(sent.ends_with(b"\x81\x012\x82\x01\x03"));
    assert_eq!(shard.stats.value(Stat::PostedMessages), 2);
}

#[test]
fn ten_thousand_lines_for_as_many_topics_are_read_in_steps_and_answered_in_order() {
    let (mut shards, _) = two_shards(&Config::default());
    let lines: Vec<String> = (0..10_000)
        .map(|n| format!(r#"{{"topic":"/{}","text":"{n}"}}"#, n % 9_000))
        .collect();
    let fields = "Content-Type: application/vnd.fanwire+ndjson\r\n";
    let client = dial(&mut shards[0], post_with("/", &lines.join("\n"), fields));
    turns(&mut shards);
    let answers = answers(&shards[0], client);
    let told: Vec<&str> = answers[0].1.lines().collect();
    assert_eq!(told.len(), 10_000);
    for (n, line) in told.iter().enumerate() {
        let next = if n < 9_000 { 1 } else { 2 };
        assert_eq!(
            *line,
            format!("{{\"at\":\"00000000000-{next}\"}}"),
            "line {n}"
        );
    }
    let too_many = format!("{}\n{{}}", lines.join("\n"));
    let client = dial(&mut shards[0], post_with("/", &too_many, fields));
    turns(&mut shards);
    assert_eq!(statuses(&shards[0], client), [413]);
}

#[test]
fn a_post_to_a_held_topic_waits_and_is_published_when_the_hold_ends() {
    let (mut shards, path) = two_shards(&Config::default());
    let member = join(&mut shards[0], &path, b"");
    turns(&mut shards);
    hold(&mut shards, &path, true);
    turns(&mut shards);
    let client = dial(&mut shards[0], post(&path, "a"));
    turns(&mut shards);
    assert!(shards[0].writes_to(client).is_empty());
    assert!(shards[0].writes_to(member).is_empty());
    hold(&mut shards, &path, false);
    turns(&mut shards);
    assert_eq!(statuses(&shards[0], client), [202]);
    assert_eq!(shards[0].writes_to(member).concat(), b"\x81\x01a");
}

#[test]
fn a_post_that_has_waited_for_ten_seconds_is_answered_503_and_never_published() {
    let mut config = Config::default();
    config.keepalive.ping_interval = Duration::ZERO;
    let (mut shards, path) = two_shards(&config);
    let member = join(&mut shards[0], &path, b"");
    turns(&mut shards);
    hold(&mut shards, &path, true);
    turns(&mut shards);
    let client = dial(&mut shards[0], post(&path, "a"));
    turns(&mut shards);
    for shard in &mut shards {
        shard.pass(Duration::from_secs(10));
    }
    // The process seems to have stood still, which is excused once.
    turns(&mut shards);
    for shard in &mut shards {
        shard.sleep(Duration::from_secs(11), &mut |_, n| Written::plain(n, n));
    }
    assert_eq!(statuses(&shards[0], client), [503]);
    hold(&mut shards, &path, false);
    turns(&mut shards);
    assert!(shards[0].writes_to(member).is_empty());
    assert_eq!(shards[0].stats.value(Stat::PostedMessages), 0);
    // The connection goes on.
    shards[0].sends(client, post(&path, "b").as_bytes());
    turns(&mut shards);
    assert_eq!(statuses(&shards[0], client), [202]);
}

#[test]
fn a_client_that_goes_while_it_waits_is_not_published_and_one_that_goes_later_is() {
    let (mut shards, path) = two_shards(&Config::default());
    let member = join(&mut shards[0], &path, b"");
    turns(&mut shards);
    hold(&mut shards, &path, true);
    turns(&mut shards);
    let client = dial(&mut shards[0], post(&path, "a"));
    turns(&mut shards);
    shards[0].fails(client);
    turns(&mut shards);
    hold(&mut shards, &path, false);
    turns(&mut shards);
    assert!(shards[0].writes_to(member).is_empty());
    assert_eq!(shards[0].stats.value(Stat::PostsLost), 1);
    let client = dial(&mut shards[1], post(&path, "b"));
    turn_and_deliver(&mut shards, 1);
    shards[1].fails(client);
    turns(&mut shards);
    assert_eq!(shards[0].writes_to(member).concat(), b"\x81\x01b");
}

#[test]
fn a_client_that_goes_while_it_waits_does_not_keep_the_room_of_the_next() {
    let (mut shards, path) = two_shards(&Config::default());
    let window = shards[1].settings.conducts.general().policy.window_bytes as usize;
    let large = post(&path, &"x".repeat(window));
    // The first is on its way, and the others wait for it.
    let clients = [(); 3].map(|()| dial(&mut shards[1], &large));
    turn(&mut shards[1], usize::MAX, None);
    let said = shards[1].take_said();
    shards[1].fails(clients[1]);
    turn(&mut shards[1], usize::MAX, None);
    deliver(&mut shards, said);
    more_turns(&mut shards);
    assert_eq!(statuses(&shards[1], clients[0]), [202]);
    assert_eq!(statuses(&shards[1], clients[2]), [202]);
    assert_eq!(shards[1].stats.value(Stat::PostsLost), 1);
}

#[test]
fn a_drain_declines_what_waits_and_answers_what_was_offered_before_it_closes() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[0], &path, b"");
    turns(&mut shards);
    let idle = dial(&mut shards[1], post(&path, "a"));
    turns(&mut shards);
    let offered = dial(&mut shards[1], post(&path, "b"));
    turn_and_deliver(&mut shards, 1);
    let in_body = dial(&mut shards[1], cut(&post(&path, "c+")));
    turn(&mut shards[1], usize::MAX, None);
    for shard in &mut shards {
        shard.forget_writes();
        shard.gets(Mail::Drain);
    }
    more_turns(&mut shards);
    assert_eq!(statuses(&shards[1], offered), [202]);
    assert_eq!(statuses(&shards[1], in_body), [503]);
    assert!(
        shards[1].writes_to(idle).is_empty(),
        "it has asked for nothing"
    );
    let closing = String::from_utf8(shards[1].writes_to(offered).concat()).unwrap();
    assert!(closing.contains("\r\nConnection: close\r\n"));
    assert_eq!(shards[1].stats.value(Stat::PostedMessages), 2);
}

#[test]
fn a_drain_that_comes_before_all_lines_are_read_declines_the_request_as_a_whole() {
    let mut shard = shard_with(&Config::default());
    let lines: Vec<String> = (0..10_000)
        .map(|n| format!("{{\"topic\":\"/{n}\",\"text\":\"x\"}}"))
        .collect();
    let fields = "Content-Type: application/vnd.fanwire+ndjson\r\n";
    let client = shard.accept();
    let mut request = post_with("/", &lines.join("\n"), fields).into_bytes();
    // Between two steps of a turn.
    shard.on_bytes(client, &mut request);
    assert!(shard.offered_parts(client).is_some(), "lines are read");
    shard.begin_drain();
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, client), [503], "not some of the lines");
    assert_eq!(shard.stats.value(Stat::PostedMessages), 0);
    assert_eq!(shard.stats.value(Stat::PostsUnavailable), 1);
}

#[test]
fn a_request_behind_an_answer_that_leaves_in_a_drain_is_read_and_declined() {
    let mut shard = shard_with(&Config::default());
    let client = dial(&mut shard, [post("/", "a"), post("/", "b")].concat());
    // The answer to the first is made, and the socket is full.
    rest(&mut shard, Some(client));
    shard.gets(Mail::Drain);
    rest(&mut shard, Some(client));
    shard.accepts(client);
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, client), [202, 503]);
    assert_eq!(shard.stats.value(Stat::PostedMessages), 1);
}

#[test]
fn a_repeat_gets_the_first_answer_on_whatever_shard_it_comes() {
    let (mut shards, path) = two_shards(&Config::default());
    let member = join(&mut shards[0], &path, b"");
    turns(&mut shards);
    let keyed = |body| post_with(&path, body, "Idempotency-Key: k\r\n");
    let first = dial(&mut shards[0], keyed("a"));
    let under_way = dial(&mut shards[1], keyed("a"));
    turns(&mut shards);
    let later = dial(&mut shards[1], keyed("a"));
    let other = dial(&mut shards[1], keyed("b"));
    more_turns(&mut shards);
    assert_eq!(answers(&shards[0], first), [(202, at(1, 1))]);
    assert_eq!(answers(&shards[1], under_way), [(202, at(1, 1))]);
    assert_eq!(answers(&shards[1], later), [(202, at(1, 1))]);
    assert_eq!(statuses(&shards[1], other), [422]);
    assert_eq!(shards[0].writes_to(member).concat(), b"\x81\x01a");
    assert_eq!(shards[1].outside.bytes(&path), 0, "dropped bytes come back");
    // The topic dies, and its keys live on.
    shards[0].fails(member);
    turns(&mut shards);
    let late = dial(&mut shards[0], keyed("a"));
    turns(&mut shards);
    assert_eq!(answers(&shards[0], late), [(202, at(1, 1))]);
}

#[test]
fn a_repeat_to_a_held_topic_gets_the_first_answer_and_a_new_request_waits() {
    let mut config = Config::default();
    config.relay.coalesce = Duration::ZERO;
    let (mut shards, path) = two_shards(&config);
    let members = [0, 1].map(|shard| join(&mut shards[shard], &path, b""));
    turns(&mut shards);
    let keyed = |key: &str| post_with(&path, "a", &format!("Idempotency-Key: {key}\r\n"));
    let first = dial(&mut shards[0], keyed("k"));
    turns(&mut shards);
    assert_eq!(answers(&shards[0], first), [(202, at(1, 2))]);
    hold(&mut shards, &path, true);
    turns(&mut shards);
    for shard in [0, 1] {
        let repeat = dial(&mut shards[shard], keyed("k"));
        turns(&mut shards);
        assert_eq!(answers(&shards[shard], repeat), [(202, at(1, 2))]);
    }
    let news = [0, 1].map(|shard| dial(&mut shards[shard], keyed(&shard.to_string())));
    turns(&mut shards);
    for shard in [0, 1] {
        assert!(shards[shard].writes_to(news[shard]).is_empty());
    }
    hold(&mut shards, &path, false);
    turns(&mut shards);
    for shard in [0, 1] {
        assert_eq!(statuses(&shards[shard], news[shard]), [202]);
        let sent = shards[shard].writes_to(members[shard]).concat();
        assert!(sent.ends_with(b"\x81\x01a\x81\x01a"));
    }
}

#[test]
fn a_repeat_that_a_drain_finds_waiting_is_not_told_that_nothing_is_published() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[1], &path, b"");
    turns(&mut shards);
    let keyed = |key: &str| post_with(&path, "a", &format!("Idempotency-Key: {key}\r\n"));
    dial(&mut shards[1], keyed("k"));
    turns(&mut shards);
    hold(&mut shards, &path, true);
    turns(&mut shards);
    let repeat = dial(&mut shards[1], keyed("k"));
    let new = dial(&mut shards[1], keyed("l"));
    turn_and_deliver(&mut shards, 1);
    for shard in &mut shards {
        shard.gets(Mail::Drain);
    }
    turn_and_deliver(&mut shards, 1);
    more_turns(&mut shards);
    assert_eq!(answers(&shards[1], repeat), [(202, at(1, 1))]);
    assert_eq!(statuses(&shards[1], new), [503]);
    assert_eq!(shards[1].stats.value(Stat::PostedMessages), 1);
}

#[test]
fn small_posts_of_a_turn_are_one_draft_and_each_hears_its_own_position() {
    let (mut shards, path) = two_shards(&Config::default());
    let clients: Vec<ClientKey> = (0..5)
        .map(|n| dial(&mut shards[1], post(&path, &"x".repeat(n))))
        .collect();
    turn(&mut shards[1], usize::MAX, None);
    let said = shards[1].take_said();
    let posts = said
        .iter()
        .filter(|(_, mail)| matches!(mail, Mail::Envelope(Envelope::Post(_))));
    assert_eq!(posts.count(), 1);
    deliver(&mut shards, said);
    more_turns(&mut shards);
    let mut positions: Vec<String> = clients
        .iter()
        .map(|&client| answers(&shards[1], client)[0].1.clone())
        .collect();
    positions.sort();
    assert_eq!(positions, [1, 2, 3, 4, 5].map(|next| at(next, 0)));
}

#[test]
fn a_description_creates_nothing_and_says_what_the_owner_knows() {
    let mut config = Config::default();
    config.history.max_age = Duration::from_mins(1);
    let (mut shards, path) = two_shards(&config);
    let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
    let client = dial(&mut shards[1], &ask);
    turns(&mut shards);
    let nothing = "{\"members\":0,\"at\":null,\"oldest\":null,\"bytes\":0}\n";
    assert_eq!(answers(&shards[1], client), [(200, nothing.to_owned())]);
    assert_eq!(shards[0].stats.value(Stat::OwnedTopics), 0);
    join(&mut shards[0], &path, b"");
    for _ in 0..2 {
        dial(&mut shards[0], post(&path, "x"));
    }
    turns(&mut shards);
    let client = dial(&mut shards[1], &ask);
    turns(&mut shards);
    let told = &answers(&shards[1], client)[0].1;
    let expected =
        "{\"members\":1,\"at\":\"00000000000-2\",\"oldest\":\"00000000000-0\",\"bytes\":";
    assert!(told.starts_with(expected), "{told}");
    let head = format!("HEAD {path} HTTP/1.0\r\n\r\n");
    let client = dial(&mut shards[1], head);
    turns(&mut shards);
    let sent = String::from_utf8(shards[1].writes_to(client).concat()).unwrap();
    for field in [
        "Fanwire-Position: 00000000000-2",
        "Fanwire-Members: 1",
        "Vary: Accept, Origin",
        "Cache-Control: no-store",
        "Connection: close",
    ] {
        assert!(
            sent.contains(&format!("\r\n{field}\r\n")),
            "{field}: {sent}"
        );
    }
    assert!(sent.ends_with("\r\n\r\n"));
}

#[test]
fn a_client_that_waits_with_its_body_is_told_to_go_on_or_why_not() {
    let mut shard = shard_with(&Config::default());
    let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let client = dial(
        &mut shard,
        head("Content-Length: 1\r\nExpect: 100-continue\r\n"),
    );
    rest(&mut shard, None);
    assert_eq!(
        shard.writes_to(client).concat(),
        b"HTTP/1.1 100 Continue\r\n\r\n"
    );
    shard.forget_writes();
    shard.sends(client, b"x");
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, client), [202]);
    for (fields, status) in [
        ("Content-Length: 9999999\r\nExpect: 100-continue\r\n", 413),
        ("Content-Length: 1\r\nExpect: 200-ok\r\n", 417),
        (
            "Content-Length: 1\r\nContent-Type: a/b\r\nExpect: 100-continue\r\n",
            415,
        ),
    ] {
        let client = dial(&mut shard, head(fields));
        rest(&mut shard, None);
        assert_eq!(statuses(&shard, client), [status], "{fields}");
    }
    // It has not waited: no interim answer, or it would be taken for the last one.
    let both = head("Content-Length: 1\r\nExpect: 100-continue\r\n") + "x";
    let client = dial(&mut shard, both);
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, client), [202]);
}

#[test]
fn a_slow_body_and_an_idle_connection_end_and_only_the_first_is_told() {
    let mut config = Config::default();
    config.server.handshake_timeout = Duration::from_secs(10);
    let mut shard = shard_with(&config);
    let slow = dial(&mut shard, cut(&post("/", "slow")));
    let idle = dial(&mut shard, post("/", "x"));
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, idle), [202]);
    shard.forget_writes();
    let mut all = |_, n| Written::plain(n, n);
    for _ in 0..9 {
        shard.sleep(Duration::from_secs(1), &mut all);
        shard.sends(slow, b"");
    }
    assert!(shard.writes_to(slow).is_empty());
    shard.sleep(Duration::from_secs(3), &mut all);
    assert_eq!(statuses(&shard, slow), [408]);
    shard.sleep(Duration::from_secs(70), &mut all);
    assert!(shard.writes_to(idle).is_empty());
    assert!(shard.is_empty(), "an idle connection ends");
    assert_eq!(shard.stats.value(Stat::HandshakeTimeout), 0);
    assert_eq!(shard.stats.value(Stat::HandshakeLost), 0);
}

#[test]
fn a_subject_that_posts_too_much_is_told_when_to_come_back() {
    let mut config = Config::default();
    config.limits.messages_per_second = 1;
    config.limits.burst = 2;
    let mut shard = shard_with(&config);
    let client = dial(
        &mut shard,
        [post("/", "1"), post("/", "2"), post("/", "3")].concat(),
    );
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, client), [202, 202, 429]);
    let sent = String::from_utf8(shard.writes_to(client).concat()).unwrap();
    assert!(sent.contains("\r\nRetry-After: 1\r\n"), "{sent}");
    let fields = "Content-Type: application/x-ndjson\r\n";
    let client = dial(&mut shard, post_with("/", "1\n2\n3", fields));
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, client), [413]);
}

#[test]
fn a_body_that_waits_counts_as_memory_and_gives_way_with_an_answer() {
    let mut config = Config::default();
    config.limits.max_message_bytes = 1 << 20;
    config.slow_consumer.max_lag_bytes = 2 << 20;
    config.limits.max_buffered_bytes = 4 << 20;
    let mut shard = shard_with(&config);
    for _ in 0..8 {
        dial(&mut shard, cut(&post("/", &"x".repeat(1 << 20))));
        turn(&mut shard, usize::MAX, None);
    }
    rest(&mut shard, None);
    assert!(shard.stats.value(Stat::PartialBytes) <= 4 << 20);
    assert_eq!(shard.stats.value(Stat::PostsUnavailable), 5);
    assert_eq!(shard.stats.value(Stat::PostedMessages), 0);
}

#[test]
fn an_answer_is_cut_when_its_client_takes_nothing_and_not_while_it_takes_some() {
    for fields in ["", "Connection: close\r\n"] {
        let mut shard = shard_with(&Config::default());
        let client = dial(&mut shard, post_with("/", "x", fields));
        // Longer than a request may take, and than a client may take nothing.
        for _ in 0..40 {
            shard.accepts(client);
            shard.sleep(Duration::from_secs(1), &mut |_, n| Written::plain(1, n));
        }
        assert!(!shard.is_empty(), "it takes its answer");
        shard.sleep(Duration::from_secs(20), &mut |_, n| Written::plain(0, n));
        assert!(shard.is_empty(), "it takes nothing");
    }
}

#[test]
fn a_half_closed_client_is_answered_and_one_that_ends_in_its_body_is_not() {
    let mut shard = shard_with(&Config::default());
    let whole = dial(&mut shard, post("/", "x"));
    shard.ends(whole);
    let three = dial(&mut shard, post("/", "x").repeat(3));
    shard.ends(three);
    let part = dial(&mut shard, cut(&post("/", "xyz")));
    shard.ends(part);
    rest(&mut shard, None);
    assert_eq!(statuses(&shard, whole), [202]);
    assert_eq!(statuses(&shard, three), [202; 3]);
    assert!(shard.writes_to(part).is_empty());
    assert!(shard.is_empty());
    assert_eq!(shard.stats.value(Stat::PostsLost), 1);
}

#[test]
fn a_request_that_is_refused_for_now_is_answered_and_counted_as_what_it_is() {
    let mut shard = shard_with(&Config::default());
    let json = "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n";
    let requests = [
        post_with("/", "x", "Origin: https://a.example\r\n"),
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        json.to_owned(),
        "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        request("/"),
    ];
    let clients = requests.map(|request| {
        let key = shard.accept();
        shard.refuse(key, Refusal::CAPACITY);
        shard.sends(key, request.as_bytes());
        (key, request)
    });
    // One says nothing, one says half of its request and goes, and one is cut.
    let silent = shard.accept();
    let [half, gone] = [(); 2].map(|()| dial(&mut shard, cut(json)));
    for key in [silent, half, gone] {
        shard.refuse(key, Refusal::CAPACITY);
    }
    shard.ends(half);
    shard.fails(gone);
    rest(&mut shard, None);
    for (key, request) in clients {
        let sent = String::from_utf8(shard.writes_to(key).concat()).unwrap();
        let (head, body) = sent.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{request}: {head}");
        for field in [
            "Retry-After: 10",
            "Access-Control-Allow-Origin: *",
            "Connection: close",
        ] {
            assert!(head.contains(field), "{request}: {head}");
        }
        assert_eq!(
            body.is_empty(),
            request.starts_with("HEAD"),
            "{request}: {body}"
        );
    }
    shard.sleep(Duration::from_secs(2), &mut taking_all);
    let counts = [Stat::PostsUnavailable, Stat::HandshakeCapacity];
    assert_eq!(counts.map(|stat| shard.stats.value(stat)), [1, 7]);
    assert_eq!(shard.stats.value(Stat::HandshakeLost), 0);
}

#[test]
fn a_page_that_is_on_its_way_is_counted_once_and_counts_as_memory() {
    let mut config = Config::default();
    config.http.page = Page::On;
    let mut shard = shard_with(&config);
    let browser = dial(
        &mut shard,
        "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n",
    );
    rest(&mut shard, Some(browser));
    assert!(shard.stats.value(Stat::CarriedBytes) > 10_000);
    assert_eq!(shard.stats.value(Stat::Pages), 1);
    shard.accepts(browser);
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::CarriedBytes), 0);
}
