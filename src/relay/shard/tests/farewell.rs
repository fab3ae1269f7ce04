//! The words to clients that are closed, and the time that they have to take them.

use super::*;

/// The code and the reason of the Close that was written to the client, and nothing else was.
fn close(shard: &Driven, client: ClientKey) -> (u16, String) {
    let sent = shard.writes_to(client).concat();
    let [0x88, len, high, low, reason @ ..] = &sent[..] else {
        panic!("{sent:?} is no Close");
    };
    assert_eq!(usize::from(*len), 2 + reason.len());
    let reason = String::from_utf8(reason.to_vec()).unwrap();
    (u16::from_be_bytes([*high, *low]), reason)
}

#[test]
fn a_client_that_does_not_answer_pings_is_told_so_in_a_code_of_its_own() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    shard.sleep(Duration::from_secs(26), &mut taking_all);
    assert_eq!(shard.writes_to(client), [[0x89, 0]]);
    shard.forget_writes();
    shard.sleep(Duration::from_secs(21), &mut taking_all);
    assert_eq!(close(&shard, client), (3008, "no pong in time".into()));
}

#[test]
fn a_client_has_the_configured_time_to_take_its_close() {
    let mut config = Config::default();
    config.slow_consumer.close_timeout = Duration::from_secs(12);
    let mut shard = shard_with(&config);
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.sends(client, &UNMASKED);
    let mut takes = taking_all_but(Some(client));
    shard.sleep(Duration::from_secs(11), &mut takes);
    assert_eq!(shard.len(), 1);
    shard.sleep(Duration::from_secs(2), &mut takes);
    assert_eq!(shard.len(), 0);
}

#[test]
fn a_violation_right_behind_the_request_is_told_as_what_it_is() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", &[&text(1)[..], &UNMASKED].concat());
    rest(&mut shard, None);
    shard.sleep(Duration::from_millis(10), &mut taking_all);
    let sent = shard.writes_to(client).concat();
    let told = b"\x81\x01x\x88";
    let at = sent.windows(told.len()).position(|part| part == told);
    let at = at.expect("its message, and then a Close");
    assert_eq!(sent[at + 5..at + 7], 1002_u16.to_be_bytes());
}
