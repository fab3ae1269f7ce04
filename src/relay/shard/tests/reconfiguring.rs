//! Other settings while clients are connected: what lives, and what is new.

use super::*;

/// Puts another configuration in force.
fn reconfigure(shard: &mut Driven, config: &Config) {
    shard.reconfigure(Settings::new(config, 1));
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

#[test]
fn another_rate_begins_with_a_whole_burst_for_those_who_are_connected() {
    let rate = |rate, burst| {
        config(|config| {
            config.limits.messages_per_second = rate;
            config.limits.burst = burst;
        })
    };
    let mut shard = shard_with(&rate(10, 100));
    let client = join(&mut shard, "/", &[]);
    rest(&mut shard, None);
    shard.sends(client, &text(1).repeat(100));
    rest(&mut shard, None);
    reconfigure(&mut shard, &rate(1, 2));
    shard.sends(client, &text(1).repeat(2));
    rest(&mut shard, None);
    assert_eq!(shard.stats().value(Stat::Disconnections), 0);
    shard.sends(client, &text(1));
    rest(&mut shard, None);
    assert_eq!(shard.stats().value(Stat::Disconnections), 1);
    assert_eq!(shard.stats().value(Stat::Messages), 102);
}

#[test]
fn the_same_rate_read_again_gives_nobody_a_new_burst() {
    let limited = config(|config| {
        config.limits.messages_per_second = 1;
        config.limits.burst = 1;
    });
    let mut shard = shard_with(&limited);
    let client = join(&mut shard, "/", &text(1));
    rest(&mut shard, None);
    reconfigure(&mut shard, &limited);
    shard.sends(client, &text(1));
    rest(&mut shard, None);
    assert_eq!(shard.stats().value(Stat::Disconnections), 1);
}

#[test]
fn pings_that_are_switched_on_reach_those_who_are_connected() {
    let mut shard = shard_with(&config(|config| {
        config.keepalive.ping_interval = Duration::ZERO;
    }));
    join(&mut shard, "/", &[]);
    rest(&mut shard, None);
    reconfigure(
        &mut shard,
        &config(|config| config.keepalive.ping_interval = Duration::from_secs(1)),
    );
    let due = shard.next_deadline().unwrap();
    assert!(due.since(shard.now()) <= Duration::from_secs(1), "{due:?}");
}

#[test]
fn a_topic_keeps_its_settings_for_its_life_and_the_next_life_has_the_new_ones() {
    let mut shard = shard_with(&Config::default());
    let client = join(&mut shard, "/", &[]);
    rest(&mut shard, None);
    reconfigure(
        &mut shard,
        &config(|config| config.limits.max_message_bytes = 125),
    );
    let mut long = vec![0x81, 0xfe, 0, 200, 0, 0, 0, 0];
    long.resize(208, b'x');
    shard.sends(client, &long);
    rest(&mut shard, None);
    assert_eq!(shard.stats().value(Stat::Messages), 1);
    shard.fails(client);
    rest(&mut shard, None);
    let client = join(&mut shard, "/", &[]);
    rest(&mut shard, None);
    shard.sends(client, &long);
    rest(&mut shard, None);
    assert_eq!(shard.stats().value(Stat::Messages), 1);
    assert_eq!(shard.stats().value(Stat::Disconnections), 2);
}
