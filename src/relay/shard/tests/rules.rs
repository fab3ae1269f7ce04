//! Tests of topics with rules: the shards of a topic agree on its settings, and a topic keeps them for its life.

use super::*;

/// A configuration with rules over the defaults.
fn ruled(rules: &str) -> Config {
    Config::from_yaml(rules, "test.yaml").unwrap()
}

/// The first shard owns the topic of the path, and goes by `owner`. The second goes by `member`, as after a reload that only
/// it has heard of.
fn at_odds(owner: &Config, member: &Config) -> ([Driven; 2], String) {
    let router = Router::new(2, 0);
    let owned_by_first = |path: &String| router.owner(path) == ShardId(0);
    let path = (0..100)
        .map(|n| format!("/{n}"))
        .find(owned_by_first)
        .unwrap();
    let shards = [owner, member].map(|config| Settings::new(config, 2));
    let mut id = 0;
    let shards = shards.map(|settings| {
        let shard = Shard::new(ShardId(id), settings, router, Timestamp(1_000_000));
        id += 1;
        Driven::new(shard)
    });
    (shards, path)
}

/// All that was written to the client since the writes were forgotten.
fn written(shard: &Driven, client: ClientKey) -> String {
    String::from_utf8_lossy(&shard.writes_to(client).concat()).into_owned()
}

#[test]
fn a_member_is_judged_by_the_settings_that_the_owner_knows() {
    let small = "limits: {max_message_bytes: 125}\n";
    let drop = ruled(&format!(
        "{small}topics: [{{match: /*, slow_consumer: {{policy: drop, max_lag_bytes: 4KiB}}}}]"
    ));
    let keep = ruled(&format!(
        "{small}slow_consumer: {{policy: backpressure, max_lag_bytes: 4KiB}}"
    ));
    for (owner, member, dropped) in [(&drop, &keep, true), (&keep, &drop, false)] {
        let (mut shards, path) = at_odds(owner, member);
        let publisher = join(&mut shards[1], &path, b"");
        let stuck = join(&mut shards[1], &path, b"");
        turns(&mut shards);
        for _ in 0..200 {
            if !shards[1].has_unread(publisher) {
                shards[1].sends(publisher, &text(100));
            }
            for shard in 0..2 {
                turn(&mut shards[shard], usize::MAX, Some(stuck));
                let said = shards[shard].take_said();
                deliver(&mut shards, said);
                shards[shard].pass(Duration::from_millis(10));
            }
        }
        assert_eq!(shards[1].stats.value(Stat::Dropped) > 0, dropped);
        assert_eq!(is_parked(&shards[1], publisher), !dropped);
    }
}

#[test]
fn a_topic_keeps_its_settings_until_it_is_forgotten() {
    let mut shard = shard_with(&Config::default());
    let first = join(&mut shard, "/a", b"");
    rest(&mut shard, None);
    let silent = ruled("topics: [{match: /a, echo: false}]");
    let conducts = Conducts::new(&silent, 1).after(shard.settings.conducts());
    shard.set_conducts(&Arc::new(conducts));
    let second = join(&mut shard, "/a", b"");
    rest(&mut shard, None);
    let hears_itself = |shard: &mut Driven, client: ClientKey| {
        shard.forget_writes();
        shard.sends(client, &text(1));
        shard.sleep(Duration::from_millis(10), &mut taking_all);
        !shard.writes_to(client).is_empty()
    };
    for client in [first, second] {
        assert!(hears_itself(&mut shard, client), "the topic lives");
        shard.fails(client);
    }
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::OwnedTopics), 0);
    let third = join(&mut shard, "/a", b"");
    let other = join(&mut shard, "/b", b"");
    rest(&mut shard, None);
    assert!(!hears_itself(&mut shard, third), "it is a new life");
    assert!(hears_itself(&mut shard, other));
    // And back: the settings of a life in which there is no echo stay, too.
    let conducts = Conducts::new(&Config::default(), 1).after(shard.settings.conducts());
    shard.set_conducts(&Arc::new(conducts));
    assert!(!hears_itself(&mut shard, third));
}

#[test]
fn the_relays_own_words_are_spoken_if_the_owner_keeps_messages_whatever_the_port_thinks() {
    let kept = ruled("history: {max_age: 1m}");
    let plain = Config::default();
    let offer = "Sec-WebSocket-Protocol: fanwire.v1, fanwire\r\n\r\n";
    for (owner, port, is_kept) in [(&kept, &plain, true), (&plain, &kept, false)] {
        let (mut shards, path) = at_odds(owner, port);
        let client = shards[1].accept();
        let head = request(&format!("{path}?last=9")).replace("\r\n\r\n", &format!("\r\n{offer}"));
        shards[1].sends(client, head.as_bytes());
        turns(&mut shards);
        let answer = written(&shards[1], client);
        let name = if is_kept { "fanwire.v1" } else { "fanwire" };
        assert!(
            answer.contains(&format!("Sec-WebSocket-Protocol: {name}\r\n")),
            "{answer}"
        );
        assert_eq!(answer.contains("\0{\"at\":"), is_kept, "{answer}");
        // Nobody may speak in the relay's name where it speaks.
        shards[1].sends(client, &[0x81, 0x82, 0, 0, 0, 0, 0, b'x']);
        turns(&mut shards);
        assert_eq!(shards[1].stats.value(Stat::Messages), u64::from(!is_kept));
    }
}

#[test]
fn a_client_that_only_publishes_is_bound_by_the_rule_of_its_topic() {
    let config = ruled(
        "access: {subscribe: token, grants_header: true}\nserver: {trusted_proxies: [127.0.0.1]}\n\
         topics:\n- {match: /small, max_message_bytes: 125}\n- {match: /kept, history: {max_age: 1m}}\n",
    );
    let mut shard = shard_with(&config);
    let mut large = vec![0x82, 0xfe, 0, 126, 0, 0, 0, 0];
    large.resize(8 + 126, 0);
    let reserved = [0x81, 0x82, 0, 0, 0, 0, 0, b'x'];
    for (path, frame, is_taken) in [
        ("/small", &large[..], false),
        ("/kept", &large, true),
        ("/kept", &reserved, false),
        ("/small", &reserved, true),
    ] {
        let before = shard.stats.value(Stat::Messages);
        let source = join(&mut shard, path, b"");
        rest(&mut shard, None);
        shard.sends(source, frame);
        rest(&mut shard, None);
        assert_eq!(
            shard.stats.value(Stat::Messages) > before,
            is_taken,
            "{path}"
        );
    }
}
