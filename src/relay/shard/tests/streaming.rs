//! Members that read an event stream, beside members that read frames.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Messages go out in the turn in which they come.
fn at_once() -> Config {
    let mut config = Config::default();
    config.relay.coalesce = Duration::ZERO;
    config
}

/// Topics keep messages for an hour.
fn keeping() -> Config {
    let mut config = at_once();
    config.history.max_age = Duration::from_hours(1);
    config
}

fn events_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
}

/// A client that asks for the events of `path`.
fn listen(shard: &mut Driven, path: &str) -> ClientKey {
    let key = shard.accept();
    shard.sends(key, events_request(path).as_bytes());
    key
}

/// All that the client was sent.
fn sent(shard: &Driven, client: ClientKey) -> String {
    String::from_utf8(shard.writes_to(client).concat()).unwrap()
}

/// The same without the head of the response, and without the pause, which must be there.
fn body(shard: &Driven, client: ClientKey) -> String {
    let sent = sent(shard, client);
    let (head, body) = sent.split_once("\r\n\r\n").expect("a response");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let (pause, rest) = body.split_once('\n').expect("a line");
    let pause: u64 = pause.strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!((1000..5000).contains(&pause));
    rest.to_owned()
}

/// An event with the relay's own words, at a position in the epoch of tests.
fn words(number: u64, rest: &str) -> String {
    let at = format!("00000000000-{number}");
    format!("id: {at}\nevent: fanwire\ndata: {{\"at\":\"{at}\"{rest}}}\n\n")
}

fn event(number: u64, data: &str) -> String {
    format!("id: 00000000000-{number}\ndata: {data}\n\n")
}

#[test]
fn a_reader_of_events_is_told_where_it_begins_and_gets_each_message_with_its_position() {
    let mut shard = shard_with(&keeping());
    let member = join(&mut shard, "/", b"");
    let reader = listen(&mut shard, "/");
    turn(&mut shard, usize::MAX, None);
    assert_eq!(body(&shard, reader), words(0, ",\"lost\":0"));
    assert!(sent(&shard, reader).contains("\r\nFanwire-Position: 00000000000-0\r\n"));
    shard.forget_writes();
    shard.sends(member, &text(1).repeat(2));
    rest(&mut shard, None);
    let expected = [event(1, "x"), event(2, "x")].concat();
    assert_eq!(sent(&shard, reader), expected);
    assert_eq!(shard.writes_to(member).concat(), b"\x81\x01x\x81\x01x");
    let members = [Stat::MembersByFrames, Stat::MembersByEvents];
    assert_eq!(members.map(|stat| shard.stats.value(stat)), [1, 1]);
}

#[test]
fn without_a_history_events_have_no_positions() {
    let mut shard = shard_with(&Config::default());
    let member = join(&mut shard, "/", b"");
    let reader = listen(&mut shard, "/?since=e-3");
    turn(&mut shard, usize::MAX, None);
    assert_eq!(body(&shard, reader), "\n");
    shard.forget_writes();
    shard.sends(member, &text(1));
    rest(&mut shard, None);
    assert_eq!(sent(&shard, reader), "data: x\n\n");
}

#[test]
fn a_batch_has_events_only_while_somebody_reads_them() {
    let (mut shards, path) = two_shards(&at_once());
    let member = join(&mut shards[1], &path, b"");
    let other = join(&mut shards[0], &path, b"");
    turns(&mut shards);
    let has_events = |shards: &mut [Driven; 2]| {
        shards[0].sends(other, &text(1));
        turn(&mut shards[0], usize::MAX, None);
        let said = shards[0].take_said();
        let has = said.iter().any(|(_, mail)| {
            matches!(mail, Mail::Envelope(Envelope::Deliver { batch, .. }) if batch.has(Form::Events))
        });
        deliver(shards, said);
        turns(shards);
        has
    };
    assert!(!has_events(&mut shards));
    let reader = listen(&mut shards[1], &path);
    turns(&mut shards);
    assert!(has_events(&mut shards));
    shards[1].fails(reader);
    turns(&mut shards);
    assert!(!has_events(&mut shards));
    assert!(shards[1].clients.get(member).is_some());
}

#[test]
fn a_reader_resumes_where_a_laggard_keeps_batches_that_nobody_read_as_events() {
    for owner in [0, 1] {
        let (mut shards, path) = two_shards(&keeping());
        let here = 1 - owner;
        let laggard = join(&mut shards[here], &path, b"");
        turns(&mut shards);
        for _ in 0..3 {
            shards[here].sends(laggard, &text(1));
            // The laggard takes nothing.
            for _ in 0..3 {
                for shard in 0..2 {
                    turn(&mut shards[shard], usize::MAX, Some(laggard));
                    let said = shards[shard].take_said();
                    deliver(&mut shards, said);
                }
            }
        }
        assert!(shards[here].stats.value(Stat::LogBytes) > 0);
        let before = shards[here].stats.value(Stat::LogBytes);
        let reader = listen(&mut shards[here], &format!("{path}?since=00000000000-1"));
        turn(&mut shards[here], usize::MAX, Some(reader));
        let said = shards[here].take_said();
        deliver(&mut shards, said);
        turn(&mut shards[0], usize::MAX, Some(reader));
        let said = shards[0].take_said();
        deliver(&mut shards, said);
        turn(&mut shards[here], usize::MAX, Some(reader));
        // The gauge is right, or the check after the turn fails.
        assert!(shards[here].stats.value(Stat::LogBytes) > before);
        shards[here].accepts(reader);
        shards[here].accepts(laggard);
        turns(&mut shards);
        let expected = [words(1, ",\"lost\":0"), event(2, "x"), event(3, "x")].concat();
        assert_eq!(body(&shards[here], reader), expected);
        assert_eq!(
            shards[here].writes_to(laggard).concat(),
            b"\x81\x01x".repeat(3)
        );
        assert_eq!(shards[here].stats.value(Stat::LogBytes), 0);
    }
}

#[test]
fn a_reader_of_a_large_history_gets_it_in_parts_and_misses_nothing() {
    const MESSAGES: u64 = 12;
    let mut config = keeping();
    config.history.max_bytes = 64 << 20;
    let (mut shards, path) = two_shards(&config);
    let member = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    let len = config.limits.max_message_bytes;
    for n in 0..MESSAGES {
        let mut frame = vec![0x81, 0xff];
        frame.extend((len as u64).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(vec![b'a' + n as u8; len]);
        shards[1].sends(member, &frame);
        turns(&mut shards);
    }
    let reader = listen(&mut shards[1], &format!("{path}?last=1h"));
    turns(&mut shards);
    let body = body(&shards[1], reader);
    let mut rest = body
        .strip_prefix(&*words(0, ",\"lost\":0"))
        .expect("a hello");
    for n in 0..MESSAGES {
        let data = char::from(b'a' + n as u8).to_string().repeat(len);
        rest = rest
            .strip_prefix(&*event(n + 1, &data))
            .expect("the next event");
    }
    assert_eq!(rest, "");
    assert!(
        shards[1].clients[reader].member.is_some(),
        "it has caught up"
    );
    let stats = [Stat::Offered, Stat::Delivered].map(|stat| shards[1].stats.value(stat));
    assert_eq!(stats, [2 * MESSAGES; 2]);
}

#[test]
fn a_quiet_stream_is_kept_alive_by_comments_and_needs_no_answer() {
    let config = Config::default();
    let mut shard = shard_with(&config);
    let reader = listen(&mut shard, "/");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    for _ in 0..10 {
        shard.sleep(config.keepalive.ping_interval, &mut taking_all);
    }
    let comments = shard.writes_to(reader);
    assert!((9..=21).contains(&comments.len()), "{}", comments.len());
    assert!(comments.iter().all(|comment| comment == b":\n\n"));
    assert_eq!(shard.stats.value(Stat::Disconnections), 0);
}

#[test]
fn a_stream_with_messages_gets_no_comments() {
    let mut shard = shard_with(&Config::default());
    let member = join(&mut shard, "/", b"");
    let reader = listen(&mut shard, "/");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    for _ in 0..120 {
        shard.sends(member, &text(1));
        shard.sleep(SECOND, &mut taking_all);
    }
    assert_eq!(sent(&shard, reader), "data: x\n\n".repeat(120));
}

#[test]
fn a_reader_that_accepts_nothing_has_stalled() {
    let config = Config::default();
    let mut shard = shard_with(&config);
    let member = join(&mut shard, "/", b"");
    let reader = listen(&mut shard, "/");
    turn(&mut shard, usize::MAX, None);
    shard.sends(member, &text(1));
    let mut takes = taking_all_but(Some(reader));
    shard.sleep(config.slow_consumer.stall_timeout + 2 * SECOND, &mut takes);
    assert_eq!(shard.stats.value(Stat::DisconnectedStall), 1);
    shard.forget_writes();
    shard.accepts(reader);
    rest(&mut shard, None);
    let reason = "{\"code\":1013,\"reason\":\"slow consumer: accepts nothing\"}";
    assert_eq!(
        sent(&shard, reader),
        format!("event: fanwire\ndata: {reason}\n\n")
    );
}

#[test]
fn what_a_reader_sends_behind_its_request_is_thrown_away_within_bounds() {
    let mut shard = shard_with(&Config::default());
    let reader = shard.accept();
    let pipelined = [events_request("/"), events_request("/other")].concat();
    shard.sends(reader, pipelined.as_bytes());
    rest(&mut shard, None);
    assert_eq!(body(&shard, reader), "\n");
    for _ in 0..20 {
        shard.sends(reader, &text(100));
        rest(&mut shard, None);
    }
    assert_eq!(shard.stats.value(Stat::Disconnections), 0);
    assert_eq!(shard.stats.value(Stat::Messages), 0);
    shard.forget_writes();
    for _ in 0..5_000 {
        shard.sends(reader, &text(100));
        shard.run(usize::MAX, &mut taking_all);
    }
    assert_eq!(shard.stats.value(Stat::DisconnectedControlRate), 1);
    let reason = "{\"code\":1008,\"reason\":\"too much behind the request\"}";
    assert_eq!(
        sent(&shard, reader),
        format!("event: fanwire\ndata: {reason}\n\n")
    );
}

#[test]
fn a_reader_that_ends_its_side_gets_what_it_is_owed_and_then_the_end() {
    let mut shard = shard_with(&keeping());
    let member = join(&mut shard, "/", b"");
    let reader = listen(&mut shard, "/");
    turn(&mut shard, usize::MAX, None);
    shard.sends(member, &text(9));
    shard.run(usize::MAX, &mut |client, offered| {
        let taken = if client == reader { 7 } else { offered };
        Written::plain(taken.min(offered), offered)
    });
    shard.ends(reader);
    shard.run(usize::MAX, &mut taking_all_but(Some(reader)));
    shard.accepts(reader);
    shard.forget_writes();
    rest(&mut shard, None);
    let end = words(1, ",\"code\":1000,\"reason\":\"you ended the connection\"");
    let expected = [&event(1, "xxxxxxxxx")[7..], &end].concat();
    assert_eq!(sent(&shard, reader), expected);
    assert!(shard.clients.get(reader).is_none());
    assert_eq!(shard.stats.value(Stat::DisconnectedByClient), 1);
}

#[test]
fn a_drain_ends_a_stream_with_its_position_and_a_pause() {
    let mut shard = shard_with(&keeping());
    let member = join(&mut shard, "/", &text(1));
    let reader = listen(&mut shard, "/");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    shard.sends(member, &text(1));
    shard.gets(Mail::Drain);
    rest(&mut shard, None);
    let sent = sent(&shard, reader);
    let (_, end) = sent.rsplit_once("retry: ").expect("a pause");
    let (pause, end) = end.split_once('\n').unwrap();
    assert!((1000..5000).contains(&pause.parse::<u64>().unwrap()));
    let last = sent.matches("data: x\n\n").count() as u64;
    let at = last + 1;
    let expected = words(
        at,
        &format!(",\"code\":1001,\"reason\":\"going away\",\"retry\":{pause}"),
    );
    assert_eq!(end, expected);
}

#[test]
fn a_reader_that_is_made_to_skip_is_told_how_much_and_where_it_is() {
    for has_history in [true, false] {
        let mut config = if has_history {
            keeping()
        } else {
            Config::default()
        };
        config.slow_consumer.policy = SlowConsumerPolicy::Drop;
        config.limits.max_message_bytes = 1 << 10;
        config.slow_consumer.max_lag_bytes = 2 << 10;
        let mut shard = shard_with(&config);
        let member = join(&mut shard, "/", b"");
        let reader = listen(&mut shard, "/");
        turn(&mut shard, usize::MAX, None);
        for _ in 0..20 {
            shard.sends(member, &text(100));
            turn(&mut shard, usize::MAX, Some(reader));
        }
        rest(&mut shard, Some(reader));
        shard.sleep(SECOND, &mut taking_all_but(Some(reader)));
        let dropped = shard.stats.value(Stat::Dropped);
        assert!(dropped > 0);
        shard.accepts(reader);
        shard.forget_writes();
        rest(&mut shard, None);
        let told = if has_history {
            words(dropped, &format!(",\"lost\":{dropped}"))
        } else {
            format!("event: fanwire\ndata: {{\"lost\":{dropped}}}\n\n")
        };
        assert!(
            sent(&shard, reader).starts_with(&told),
            "{}",
            sent(&shard, reader)
        );
    }
}

#[test]
fn a_stream_that_is_refused_for_now_is_a_200_and_others_get_the_503() {
    let mut shard = shard_with(&Config::default());
    let [stream, upgrade, silent, ended, half] = [(); 5].map(|()| shard.accept());
    shard.sends(half, &events_request("/").as_bytes()[..20]);
    turn(&mut shard, usize::MAX, None);
    shard.gets(Mail::Drain);
    rest(&mut shard, None);
    let late = shard.accept();
    shard.sends(stream, events_request("/").as_bytes());
    shard.sends(late, events_request("/").as_bytes());
    shard.sends(half, &events_request("/").as_bytes()[20..]);
    shard.sends(upgrade, request("/").as_bytes());
    shard.ends(ended);
    rest(&mut shard, None);
    for client in [stream, late, half] {
        let body = body(&shard, client);
        assert!(
            body.starts_with("event: fanwire\ndata: {\"status\":503,"),
            "{body}"
        );
    }
    for client in [upgrade, ended] {
        assert!(sent(&shard, client).starts_with("HTTP/1.1 503 "));
    }
    assert_eq!(sent(&shard, silent), "");
    shard.sleep(SECOND + Duration::from_millis(100), &mut taking_all);
    assert!(sent(&shard, silent).starts_with("HTTP/1.1 503 "));
    assert_eq!(shard.stats.value(Stat::HandshakeShutdown), 6);
    assert_eq!(shard.stats.value(Stat::HandshakeLost), 0);
    shard.sleep(3 * SECOND, &mut taking_all);
    assert!(shard.is_drained());
}

#[test]
fn a_stream_that_moves_during_a_drain_is_refused_for_now_as_well() {
    let (mut shards, path) = two_shards(&Config::default());
    listen(&mut shards[1], &path);
    shards[1].set_home(ShardId(0));
    turn_and_deliver(&mut shards, 1);
    shards[0].begin_drain();
    turn(&mut shards[0], usize::MAX, None);
    let &[client] = shards[0].moved_in() else {
        panic!("one client has moved");
    };
    assert!(body(&shards[0], client).starts_with("event: fanwire\ndata: {\"status\":503,"));
    assert_eq!(shards[0].stats.value(Stat::HandshakeShutdown), 1);
}

#[test]
fn half_a_request_that_names_events_is_cut_and_not_refused_when_memory_is_short() {
    let mut config = Config::default();
    config.limits.max_header_bytes = 64 << 10;
    config.limits.max_message_bytes = 125;
    config.slow_consumer.max_lag_bytes = 1 << 10;
    config.limits.max_buffered_bytes = 4 << 10;
    let mut shard = shard_with(&config);
    let [stream, other] = [(); 2].map(|()| shard.accept());
    let half = |accept: &str| {
        format!(
            "GET / HTTP/1.1\r\nAccept: {accept}\r\nX: {}",
            "x".repeat(5_000)
        )
    };
    shard.sends(stream, half("text/event-stream").as_bytes());
    shard.run(usize::MAX, &mut taking_all);
    shard.sends(other, half("*/*").as_bytes());
    rest(&mut shard, None);
    assert_eq!(sent(&shard, stream), "");
    assert!(shard.clients.get(stream).is_none());
    assert!(sent(&shard, other).starts_with("HTTP/1.1 503 "));
    assert_eq!(shard.stats.value(Stat::HandshakeCapacity), 2);
}
