//! Closing by hand: the clients of a topic, or of a subject, and nobody else.

use super::super::closing::Whom;
use super::super::phase::Phase;
use super::*;
use crate::access::keys::Keys;
use crate::access::signing::{SECRET, Signer};
use crate::config::{TokenAlgorithm, TokenKey};
use crate::time::WallTime;
use serde_json::json;

const NOW: u64 = 1_800_000_000;

fn shard() -> Driven {
    let mut config = Config::default();
    config.access.keys = vec![TokenKey {
        alg: TokenAlgorithm::HS256,
        file: "token.key".into(),
        kid: None,
    }];
    let mut keys = Keys::new();
    keys.add_file(TokenAlgorithm::HS256, None, SECRET).unwrap();
    let mut shard = shard_with(&config);
    shard.set_keys(Arc::new(keys));
    shard.set_wall_time(WallTime(Duration::from_secs(NOW)));
    shard
}

/// A client with a token of this subject, which asks for `path` with these more fields.
fn join_as(shard: &mut Driven, sub: &str, path: &str) -> ClientKey {
    let token = Signer::hs256(SECRET)
        .token(&json!({"exp": NOW + 60, "sub": sub, "subscribe": ["/**"], "publish": ["/**"]}));
    let key = shard.accept();
    let field = format!("\r\nAuthorization: Bearer {token}\r\n\r\n");
    shard.sends(key, request(path).replace("\r\n\r\n", &field).as_bytes());
    key
}

/// A reader of the topic's event stream.
fn read(shard: &mut Driven, path: &str) -> ClientKey {
    let key = shard.accept();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    shard.sends(key, request.as_bytes());
    key
}

fn is_open(shard: &Driven, key: ClientKey) -> bool {
    let client = shard.clients.get(key);
    client.is_some_and(|client| client.phase() == Phase::Open)
}

fn said(shard: &Driven, key: ClientKey) -> String {
    String::from_utf8_lossy(&shard.writes_to(key).concat()).into_owned()
}

#[test]
fn a_topic_is_closed_for_members_and_readers_and_others_go_on() {
    let mut shard = shard();
    let (member, other) = (
        join(&mut shard, "/room", b""),
        join(&mut shard, "/other", b""),
    );
    let reader = read(&mut shard, "/room");
    rest(&mut shard, None);
    shard.forget_writes();
    shard.close_by_hand(&Whom::Topic("/room".into()));
    rest(&mut shard, None);
    assert!(!is_open(&shard, member) && !is_open(&shard, reader));
    assert!(is_open(&shard, other));
    for key in [member, reader] {
        let said = said(&shard, key);
        assert!(said.contains("closed by the operator"), "{said:?}");
    }
    assert_eq!(shard.stats().value(Stat::DisconnectedByHand), 2);
}

#[test]
fn a_client_that_only_publishes_belongs_to_its_topic() {
    let mut shard = shard();
    let token = Signer::hs256(SECRET).token(&json!({"exp": NOW + 60, "publish": ["/**"]}));
    let mut config = Config::default();
    config.access.subscribe = crate::config::Subscribe::Token;
    config.access.keys = vec![TokenKey {
        alg: TokenAlgorithm::HS256,
        file: "token.key".into(),
        kid: None,
    }];
    let mut keys = Keys::new();
    keys.add_file(TokenAlgorithm::HS256, None, SECRET).unwrap();
    shard.reconfigure(Settings::new(&config, 1).with_keys(Arc::new(keys)));
    let key = shard.accept();
    let field = format!("\r\nAuthorization: Bearer {token}\r\n\r\n");
    shard.sends(key, request("/room").replace("\r\n\r\n", &field).as_bytes());
    rest(&mut shard, None);
    assert!(is_open(&shard, key));
    shard.close_by_hand(&Whom::Topic("/elsewhere".into()));
    assert!(is_open(&shard, key));
    shard.close_by_hand(&Whom::Topic("/room".into()));
    rest(&mut shard, None);
    assert_eq!(shard.stats().value(Stat::DisconnectedByHand), 1);
}

#[test]
fn a_subject_is_closed_in_all_its_topics_and_nobody_with_another_name() {
    let mut shard = shard();
    let meant = ["/a", "/b"].map(|path| join_as(&mut shard, "42", path));
    let others = [
        join_as(&mut shard, "4", "/a"),
        join_as(&mut shard, "421", "/a"),
        join(&mut shard, "/a", b""),
    ];
    rest(&mut shard, None);
    shard.close_by_hand(&Whom::Subject("42".into()));
    rest(&mut shard, None);
    assert!(meant.iter().all(|&key| !is_open(&shard, key)));
    assert!(others.iter().all(|&key| is_open(&shard, key)));
    // The next tenant of a slot does not inherit the name.
    for key in meant {
        shard.fails(key);
    }
    rest(&mut shard, None);
    let newcomer = join(&mut shard, "/a", b"");
    rest(&mut shard, None);
    shard.close_by_hand(&Whom::Subject("42".into()));
    rest(&mut shard, None);
    assert!(is_open(&shard, newcomer));
    assert_eq!(shard.stats().value(Stat::DisconnectedByHand), 2);
}

#[test]
fn a_client_that_is_just_joining_is_cut() {
    let ([mut owner, mut shard], path) = two_shards(&Config::default());
    let key = join(&mut shard, &path, b"");
    turn(&mut shard, usize::MAX, None);
    assert_eq!(shard.clients[key].phase(), Phase::Joining);
    shard.close_by_hand(&Whom::Topic(path.as_str().into()));
    assert!(shard.clients.get(key).is_none());
    // The owner's answer finds nobody.
    let said = shard.take_said();
    deliver(std::slice::from_mut(&mut owner), said);
    turn(&mut owner, usize::MAX, None);
    assert_eq!(shard.stats().value(Stat::HandshakeLost), 1);
}
