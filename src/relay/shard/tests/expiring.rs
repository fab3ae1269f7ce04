//! The end of tokens: no client is closed while its token would still be accepted, and each is soon after.

use super::*;
use crate::access::keys::Keys;
use crate::access::signing::{SECRET, Signer};
use crate::config::{TokenAlgorithm, TokenKey};
use crate::time::WallTime;
use serde_json::json;

/// The time of day at the beginning of each test.
const NOW: u64 = 1_800_000_000;

/// A configuration with one key for tokens, and the keys.
fn with_key() -> (Config, Arc<Keys>) {
    let mut config = Config::default();
    config.access.keys = vec![TokenKey {
        alg: TokenAlgorithm::HS256,
        file: "token.key".into(),
        kid: None,
    }];
    let mut keys = Keys::new();
    keys.add_file(TokenAlgorithm::HS256, None, SECRET).unwrap();
    (config, Arc::new(keys))
}

fn shard_of(config: &Config, keys: Arc<Keys>) -> Driven {
    let mut shard = shard_with(config);
    shard.set_keys(keys);
    shard.set_wall_time(WallTime(Duration::from_secs(NOW)));
    shard
}

/// A client whose token ends so many seconds after the beginning.
fn join_until(shard: &mut Driven, exp: u64, frames: &[u8]) -> ClientKey {
    let token = Signer::hs256(SECRET)
        .token(&json!({"exp": NOW + exp, "subscribe": ["/**"], "publish": ["/**"]}));
    let key = shard.accept();
    let field = format!("\r\nAuthorization: Bearer {token}\r\n\r\n");
    let request = request("/").replace("\r\n\r\n", &field);
    shard.sends(key, &[request.as_bytes(), frames].concat());
    key
}

fn answer_pings(shard: &mut Driven, clients: &[ClientKey]) {
    for &client in clients {
        let has_ping = shard
            .writes_to(client)
            .concat()
            .windows(2)
            .any(|part| part == [0x89, 0]);
        if has_ping {
            shard.sends(client, &[0x8a, 0x80, 0, 0, 0, 0]);
        }
    }
    shard.forget_writes();
    rest(shard, None);
}

fn expired(shard: &Driven) -> u64 {
    shard.stats.value(Stat::DisconnectedExpired)
}

#[test]
fn clients_whose_tokens_end_together_are_closed_between_30_and_60_seconds_later() {
    let (config, keys) = with_key();
    let mut shard = shard_of(&config, keys);
    let mut clients: Vec<_> = (0..600).map(|_| join_until(&mut shard, 100, b"")).collect();
    clients.push(join(&mut shard, "/", b""));
    rest(&mut shard, None);
    let mut per_second = Vec::new();
    for second in 1..=165 {
        let before = expired(&shard);
        shard.sleep(Duration::from_secs(1), &mut taking_all);
        answer_pings(&mut shard, &clients);
        let closed = expired(&shard) - before;
        assert!(
            closed == 0 || (130..=160).contains(&second),
            "{closed} in second {second}"
        );
        per_second.push(closed);
    }
    assert_eq!(expired(&shard), 600);
    assert!(
        per_second.iter().all(|&closed| closed < 60),
        "{per_second:?}"
    );
    assert_eq!(
        shard.stats.value(Stat::ConnectedClients),
        1,
        "no token, no end"
    );
}

#[test]
fn the_close_names_the_code_the_reason_and_the_place_to_go_on() {
    let (mut config, keys) = with_key();
    for (history, end) in [(0, ""), (600, "-2")] {
        config.history.max_age = Duration::from_secs(history);
        let mut shard = shard_of(&config, keys.clone());
        let client = join_until(&mut shard, 0, &[text(1), text(1)].concat());
        rest(&mut shard, None);
        shard.forget_writes();
        shard.sleep(Duration::from_secs(61), &mut taking_all);
        let sent = shard.writes_to(client).concat();
        let close = sent.iter().position(|&byte| byte == 0x88).expect("a Close");
        assert_eq!(sent[close + 2..close + 4], 3000_u16.to_be_bytes());
        let told = String::from_utf8_lossy(&sent[close + 4..]);
        let (reason, place) = told.split_once("; at ").unwrap_or((&told, ""));
        assert_eq!(reason, "the token has expired");
        assert_eq!(place.is_empty(), end.is_empty());
        assert!(place.ends_with(end), "{told}");
    }
}

#[test]
fn a_stream_ends_with_an_event_that_has_the_code_the_reason_and_the_place() {
    let (mut config, keys) = with_key();
    for (history, place) in [
        (0, String::new()),
        (600, "\"at\":\"00000000000-2\",".to_owned()),
    ] {
        config.history.max_age = Duration::from_secs(history);
        let mut shard = shard_of(&config, keys.clone());
        let token = Signer::hs256(SECRET).token(&json!({"exp": NOW, "subscribe": ["/*"]}));
        let reader = shard.accept();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        shard.sends(reader, request.as_bytes());
        join_until(&mut shard, 1000, &text(1).repeat(2));
        rest(&mut shard, None);
        shard.forget_writes();
        shard.sleep(Duration::from_secs(29), &mut taking_all);
        assert_eq!(expired(&shard), 0, "the token would still be accepted");
        shard.sleep(Duration::from_secs(32), &mut taking_all);
        let sent = String::from_utf8(shard.writes_to(reader).concat()).unwrap();
        let end = format!(
            "event: fanwire\ndata: {{{place}\"code\":3000,\"reason\":\"the token has expired\"}}\n\n"
        );
        assert!(sent.ends_with(&end), "{sent}");
        assert_eq!(sent.contains("id: 00000000000-2\nevent"), history > 0);
        assert_eq!(expired(&shard), 1);
        assert_eq!(shard.stats.value(Stat::MembersByEvents), 0);
    }
}

#[test]
fn a_clock_that_is_set_back_gives_the_token_more_time_and_one_that_is_set_forward_less() {
    let (config, keys) = with_key();
    let mut shard = shard_of(&config, keys);
    let client = join_until(&mut shard, 0, b"");
    rest(&mut shard, None);
    shard.set_wall_time(WallTime(Duration::from_secs(NOW - 100)));
    for _ in 0..120 {
        shard.sleep(Duration::from_secs(1), &mut taking_all);
        answer_pings(&mut shard, &[client]);
    }
    assert_eq!(expired(&shard), 0, "the token would still be accepted");
    shard.set_wall_time(WallTime(Duration::from_secs(NOW + 60)));
    shard.sleep(Duration::from_secs(25), &mut taking_all);
    assert_eq!(expired(&shard), 1);
}

#[test]
fn a_tenant_of_a_slot_does_not_inherit_the_end_of_the_last_one() {
    let (config, keys) = with_key();
    let mut shard = shard_of(&config, keys);
    let first = join_until(&mut shard, 0, b"");
    rest(&mut shard, None);
    shard.fails(first);
    rest(&mut shard, None);
    let second = join(&mut shard, "/", b"");
    rest(&mut shard, None);
    assert_eq!(second.slot, first.slot);
    for _ in 0..120 {
        shard.sleep(Duration::from_secs(1), &mut taking_all);
        answer_pings(&mut shard, &[second]);
    }
    assert_eq!(shard.stats.value(Stat::ConnectedClients), 1);
}

#[test]
fn a_token_without_an_end_that_fits_does_not_end() {
    let (config, keys) = with_key();
    let mut shard = shard_of(&config, keys);
    join_until(&mut shard, u64::MAX / 2, b"");
    rest(&mut shard, None);
    shard.sleep(Duration::from_secs(40), &mut taking_all);
    assert_eq!(
        (shard.stats.value(Stat::Connections), expired(&shard)),
        (1, 0)
    );
}

#[test]
fn without_a_time_of_day_no_token_is_believed() {
    let (config, keys) = with_key();
    let mut shard = shard_with(&config);
    shard.set_keys(keys);
    join_until(&mut shard, 1000, b"");
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::HandshakeTokenExpired), 1);
}

#[test]
fn keys_that_are_replaced_count_for_new_requests_only() {
    let (config, keys) = with_key();
    let mut shard = shard_of(&config, keys);
    join_until(&mut shard, 100, b"");
    rest(&mut shard, None);
    shard.set_keys(Arc::new(Keys::new()));
    join_until(&mut shard, 100, b"");
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::ConnectedClients), 1);
    assert_eq!(shard.stats.value(Stat::HandshakeToken), 1);
}

#[test]
fn requests_that_may_bring_a_token_wait_behind_members() {
    let (config, keys) = with_key();
    let mut shard = shard_of(&config, keys);
    let key = shard.accept();
    shard.make_ready(key);
    assert_eq!(
        [false, true].map(|is_heavy| shard.ready_len(is_heavy)),
        [0, 1]
    );
    join_until(&mut shard, 100, b"");
    rest(&mut shard, None);
    let member = join_until(&mut shard, 100, b"");
    rest(&mut shard, None);
    shard.make_ready(member);
    assert_eq!(shard.ready_len(false), 1, "a member does not");
}
