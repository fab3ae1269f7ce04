//! Tests of what a shard holds: who gives way, when those who send wait for it, and what counts.

use super::*;

/// A binary message of `len` bytes, 126 or more, masked with zeros.
fn binary(len: u16) -> Vec<u8> {
    let mut frame = vec![0x82, 0xfe];
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(8 + usize::from(len), b'x');
    frame
}

/// A shard with room for two lags of 16 kB of messages of up to 8 kB.
fn small_shard(policy: SlowConsumerPolicy, max_buffered_bytes: usize) -> Shard {
    let mut config = Config::default();
    config.limits.max_message_bytes = 8000;
    config.limits.max_buffered_bytes = max_buffered_bytes;
    config.slow_consumer.policy = policy;
    config.slow_consumer.max_lag_bytes = 16_000;
    shard_with(&config)
}

/// A turn in which each takes what `taken` says of what it is offered.
fn turn_in_which(shard: &mut Shard, taken: impl Fn(ClientKey, usize) -> usize) {
    shard.decide();
    while let Some(key) = shard.poll_flush() {
        let offered = shard.gather(key, &mut Slices::new());
        if offered > 0 {
            let taken = taken(key, offered).min(offered);
            shard.advance(key, Written::plain(taken, offered));
        }
    }
    shard.end_turn(shard.now);
    shard.begin_turn(shard.now);
    shard.check();
}

#[test]
fn topics_whose_members_took_half_a_message_do_not_shield_the_others() {
    for policy in [
        SlowConsumerPolicy::Disconnect,
        SlowConsumerPolicy::Drop,
        SlowConsumerPolicy::Backpressure,
    ] {
        let mut shard = small_shard(policy, 32_000);
        let limit = shard.settings.max_buffered_bytes;
        for n in 0..100 {
            let key = join(&mut shard, &format!("/{n}"), b"");
            turn(&mut shard, usize::MAX, None);
            let (len, taken) = if n < 8 { (7990, 5000) } else { (3500, 0) };
            shard.on_bytes(key, &mut binary(len));
            turn_in_which(&mut shard, |_, _| taken);
            let held = shard.stats.value(Stat::LogBytes) + shard.stats.value(Stat::CarriedBytes);
            assert!(held <= limit, "{policy:?}: {held} of {limit} after {n}");
        }
        let given_way =
            shard.stats.value(Stat::DisconnectedMemory) + shard.stats.value(Stat::Dropped);
        assert!(given_way > 80, "{policy:?}: {given_way}");
    }
}
