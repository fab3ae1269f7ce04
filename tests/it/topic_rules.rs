//! Rules for topics, in the relay and in the program: who may do what, what is kept, and what an operator is told.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Command;

use fanwire::config::Config;

use super::program::Program;
use super::resume::Counting;
use super::support::{World, config};

const RULES: &str = "\
topics:
- {match: /private/**, publish: nobody}
- {match: /small, max_message_bytes: 200}
- {match: /silent, echo: false}
- {match: /kept/*, history: {max_age: 1h}}
";

/// A relay with rules over the usual configuration of a test.
fn world(workers: usize, rules: &str) -> World {
    let rules = Config::from_yaml(rules, "rules.yaml").unwrap();
    let mut config = config(workers);
    config.topics = rules.topics;
    World::with(&config)
}

/// The status line of the answer to a request, and its body.
fn ask(world: &World, head: &str, body: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(world.relay.address()).unwrap();
    let length = body.len();
    write!(
        stream,
        "{head}\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn a_rule_says_who_may_publish_by_websocket_and_by_post() {
    let world = world(3, RULES);
    let mut client = world.connect("/private/a");
    client.say("x");
    assert_eq!(u16::from(client.expect_close().code), 1008);
    let (status, _) = ask(&world, "POST /private/a HTTP/1.1", "x");
    assert_eq!(status, "HTTP/1.1 403 Forbidden");
    let mut other = world.connect("/privately");
    other.say("x");
    assert_eq!(other.hear(), "x");
    let (status, body) = ask(
        &world,
        "POST / HTTP/1.1\r\nContent-Type: application/vnd.fanwire+ndjson",
        &format!(
            "{{\"topic\":\"/private\",\"text\":\"y\"}}\n{{\"topic\":\"/privately\",\"text\":\"y\"}}\n\
             {{\"topic\":\"/small\",\"text\":\"{}\"}}\n",
            "z".repeat(201)
        ),
    );
    assert_eq!(status, "HTTP/1.1 200 OK");
    let lines: Vec<&str> = body.lines().collect();
    assert!(lines[0].starts_with("{\"status\":403,"), "{body}");
    assert!(lines[1].starts_with("{\"at\":"), "{body}");
    assert!(lines[2].starts_with("{\"status\":413,"), "{body}");
    assert_eq!(other.hear(), "y");
    drop((client, other));
    world.end();
}

#[test]
fn a_rule_bounds_messages_and_keeps_senders_from_hearing_themselves() {
    let world = world(2, RULES);
    let mut small = world.connect("/small");
    small.say("x".repeat(200));
    assert_eq!(small.hear(), "x".repeat(200));
    small.say("x".repeat(201));
    assert_eq!(u16::from(small.expect_close().code), 1009);
    let (status, _) = ask(&world, "POST /small HTTP/1.1", &"x".repeat(201));
    assert!(status.starts_with("HTTP/1.1 413 "), "{status}");

    let mut clients = world.connect_many("/silent", 2);
    clients[0].say("from 0");
    assert_eq!(clients[1].hear(), "from 0");
    clients[1].say("from 1");
    assert_eq!(clients[0].hear(), "from 1");
    let mut echoing = world.connect("/loud");
    echoing.say("own");
    assert_eq!(echoing.hear(), "own");
    drop((small, clients, echoing));
    world.end();
}

#[test]
fn a_rule_keeps_the_messages_of_its_topics_alone() {
    let world = world(3, RULES);
    let address = world.relay.address();
    let mut first = Counting::dial(address, "/kept/a");
    first.client.say("1");
    assert_eq!(first.hear(), "1");
    let at = format!("{}-0", first.epoch);
    let mut again = Counting::dial(address, &format!("/kept/a?since={at}"));
    assert_eq!((again.hear().as_str(), again.lost.as_str()), ("1", "0"));
    // Elsewhere, the relay's own words are not spoken.
    let mut wire = world.dial();
    wire.send(
        b"GET /kept HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: fanwire.v1, fanwire\r\n\r\n",
    );
    let head = wire.head();
    assert_eq!(head.header("sec-websocket-protocol"), Some("fanwire"));
    assert_eq!(head.header("fanwire-position"), None);
    drop((first, again, wire));
    world.end();
}

#[test]
fn a_topic_of_an_earlier_process_has_the_rule_of_the_new_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history");
    let start = |rules: &str| {
        let text = format!(
            "server: {{host: 127.0.0.1, port: 0, workers: 2}}\nmetrics: {{port: 0}}\nhistory: {{file: '{}'}}\n{rules}\n",
            file.display()
        );
        Program::spawn(&text, Command::new(env!("CARGO_BIN_EXE_fanwire")))
    };
    let program = start("topics: [{match: /kept/*, history: {max_age: 1h}}]");
    let mut epoch = String::new();
    for path in ["/kept/a", "/kept/b"] {
        let mut client = Counting::dial(program.address, path);
        for text in ["1", "2", "3"] {
            client.client.say(text);
            assert_eq!(client.hear(), text);
        }
        epoch = client.epoch;
    }
    program.end_well();
    let program = start(
        "topics: [{match: /kept/b, history: {max_age: 0s}}, {match: /kept/*, history: {max_age: 1h}}]",
    );
    let mut back = Counting::dial(program.address, &format!("/kept/a?since={epoch}-1"));
    assert_eq!((back.hear(), back.hear()), ("2".into(), "3".into()));
    let mut other = program.connect("/kept/b?last=9");
    other.say("4");
    assert_eq!(other.hear(), "4", "nothing is kept any more");
    program.end_well();
}

/// Runs the program with this configuration. Returns its exit code, standard output and standard error.
fn run(text: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .current_dir(folder.path())
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_program_explains_which_rule_a_topic_has() {
    let text = "topics:\n- {match: /caf%C3%A9/*, publish: nobody}\n";
    for path in ["/caf%C3%A9/a", "/café/a?token=x", "/caf%c3%a9%2Fa"] {
        let (code, out, _) = run(text, &["--explain", path]);
        assert_eq!(code, Some(0));
        assert!(
            out.starts_with("# `/café/a`: topics[0] applies, the rule for `/caf%C3%A9/*`\n")
                && out.contains("\npublish: nobody  # topics[0]\n")
                && out.contains("\nsubscribe: everyone\n"),
            "{out}"
        );
    }
    let (code, out, _) = run(text, &["--explain", "/other"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("no rule has it, so the general settings apply\n"),
        "{out}"
    );
    for (path, problem) in [
        ("café", "the path does not begin with `/`"),
        ("/%zz", "`%` is not followed by two hexadecimal digits"),
        ("/%ff", "is not UTF-8"),
    ] {
        let (code, _, error) = run(text, &["--explain", path]);
        assert_eq!(code, Some(2), "{path}");
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn a_check_warns_of_rules_without_effect() {
    let (code, out, error) = run(
        "server: {host: 127.0.0.1}\ntopics:\n- match: /a/**\n- match: /b\n  publish: nobody\n- match: /a/b\n- match: /b\n",
        &["--check"],
    );
    assert_eq!(code, Some(0));
    assert!(out.contains("the configuration is valid"), "{out}");
    for line in [
        "fanwire: warning: config.yaml:6: topics[2]: the rule for `/a/b` has no effect: topics[0] (`/a/**`), which comes first, \
         has all its topics; remove it, or move it up\n",
        "fanwire: warning: config.yaml:7: topics[3]: the rule for `/b` has no effect: topics[1] (`/b`), which comes first,",
    ] {
        assert!(error.contains(line), "{error}");
    }
    assert!(
        !error.contains("topics[0]:") && !error.contains("topics[1]:"),
        "{error}"
    );
}

/// So many rules, with a general one at the end.
fn many_rules(count: usize) -> String {
    let mut text = String::from("server: {host: 127.0.0.1}\ntopics:\n");
    for number in 1..count {
        writeln!(
            text,
            "- match: /tenants/tenant-{number}/**\n  publish: nobody\n  history: {{max_age: 5m, max_bytes: 64KiB}}\n  \
             slow_consumer: {{policy: drop, max_lag_bytes: 8MiB}}"
        )
        .unwrap();
    }
    text + "- match: /**\n"
}

#[test]
fn ten_thousand_rules_are_loaded_and_one_more_is_refused() {
    let (code, out, error) = run(
        &many_rules(10_000),
        &["--explain", "/tenants/tenant-9999/a"],
    );
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.contains("topics[9998] applies") && out.contains("publish: nobody  #"),
        "{out}"
    );
    let (code, _, error) = run(&many_rules(10_001), &["--check"]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("topics: the list has 10001 rules; use at most 10000"),
        "{error}"
    );
}

#[test]
fn a_wrong_rule_is_refused_with_its_place_and_a_remedy() {
    for (rules, expected) in [
        (
            "- {match: /a*}",
            "config.yaml:2: topics[0].match: found `/a*`, which has `*` beside other characters of a segment; use a pattern",
        ),
        (
            "- {match: a}",
            "topics[0].match: found `a`, which does not begin with `/`; use a pattern such as",
        ),
        (
            "- {match: /a%zz}",
            "topics[0].match: found `/a%zz`, which is not percent-encoded text; use",
        ),
        (
            "- {match: 3}",
            "topics[0].match: found integer `3`; use a pattern such as",
        ),
        (
            "- {publish: nobody}",
            "topics[0]: `match` is missing; add it",
        ),
        (
            "- {match: /a}\n- {match: /b, publsh: nobody}",
            "config.yaml:3: topics[1].publsh: unknown key; did you mean `publish`?",
        ),
        (
            "- {match: /a, history: {max_aeg: 1m}}",
            "config.yaml:2: topics[0].history.max_aeg: unknown key; did you mean `max_age`?",
        ),
        (
            "- {match: /a, keepalive: {}}",
            "topics[0].keepalive: unknown key; use one of match, subscribe, publish, echo, coalesce, max_message_bytes, \
             history, compression, slow_consumer",
        ),
        (
            "- {match: /a, publish: nobdy}",
            "topics[0].publish: found `nobdy`; did you mean `nobody`?",
        ),
        (
            "- {match: /a, match: /b}",
            "config.yaml:2: topics[0].match: given twice; keep one",
        ),
        (
            "- /a",
            "topics[0]: found a text that is not shown; use a mapping such as `{match: /prices/**, publish: token}`",
        ),
        (
            "  match: /a",
            "topics: found map; use a list such as `[{match: /prices/**, publish: token}]`",
        ),
        (
            "- {match: /a}\n- match: /b\n  echo: false\n  history: {max_age: 1m}",
            "config.yaml:4: topics[1].echo: in the rule for `/b`: false, but history.max_age is not 0",
        ),
        (
            "- {match: /a, echo: true}\n- {match: /b, history: {max_age: 1m}}\nrelay: {echo: false}",
            "config.yaml:3: topics[1]: in the rule for `/b`: relay.echo: false, but history.max_age is not 0",
        ),
        (
            "- {match: /a, subscribe: token}",
            "config.yaml:2: topics[0].subscribe: in the rule for `/a`: it is token, but there are no keys for tokens",
        ),
        (
            "- {match: /a, publish: token}",
            "topics[0].publish: in the rule for `/a`: it is token, but there are no keys for tokens and no relay.publish_tokens",
        ),
        (
            "- {match: /a, slow_consumer: {max_lag_bytes: 1MiB}}",
            "topics[0].slow_consumer.max_lag_bytes: in the rule for `/a`: 1MiB is too small; use 2MiB to 1GiB",
        ),
        (
            "- {match: /a, slow_consumer: {policy: backpressure}}\ncluster: {engines: [{name: a, url: redis://127.0.0.1}]}",
            "topics[0].slow_consumer.policy: in the rule for `/a`: it is backpressure, and cluster.engines are set",
        ),
        (
            "- {match: /a, max_message_bytes: 4MiB}",
            "topics[0]: in the rule for `/a`: slow_consumer.max_lag_bytes: 4MiB is too small; use 8MiB",
        ),
        (
            "- {match: /a, slow_consumer: {max_lag_bytes: 1GiB}}\nlimits: {max_buffered_bytes: 1GiB}",
            "topics[0]: in the rule for `/a`: limits.max_buffered_bytes: 1GiB is too small; use 2GiB",
        ),
        (
            "- {match: /a, history: {max_age: 1ms}}",
            "topics[0].history.max_age: in the rule for `/a`: 1ms is too small; use 1s to",
        ),
        (
            "- {match: /a, history: {max_messages: 5}}",
            "topics[0].history.max_messages: in the rule for `/a`: it has no effect, because history.max_age is 0s here",
        ),
        (
            "- {match: /a, coalesce: 1m}",
            "topics[0].coalesce: in the rule for `/a`: 1m is too large; use",
        ),
    ] {
        let (code, _, error) = run(&format!("topics:\n{rules}\n"), &["--check"]);
        assert_eq!(code, Some(2), "{rules}");
        assert!(error.contains(expected), "{rules}: {error}");
    }
    let long = format!("topics: [{{match: '/{}'}}]\n", "x".repeat(512));
    let (_, _, error) = run(&long, &["--check"]);
    assert!(
        error.contains("topics[0].match: found a pattern of 513 bytes; use at most 512 bytes"),
        "{error}"
    );
    // A list in a variable is checked as one in the file.
    let output = Command::new(env!("CARGO_BIN_EXE_fanwire"))
        .env("FANWIRE__TOPICS", "[{match: /a, echo: 1}]")
        .current_dir(tempfile::tempdir().unwrap().path())
        .arg("--check")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("FANWIRE__TOPICS: topics[0].echo: found integer `1`; use true or false"),
        "{error}"
    );
}

#[test]
fn a_flood_of_new_topics_under_ten_thousand_rules_leaves_the_relay_as_it_was() {
    let text = many_rules(10_000).replace(
        "{host: 127.0.0.1}",
        "{host: 127.0.0.1, port: 0, workers: 2}",
    );
    let program = Program::spawn(
        &(text + "metrics: {port: 0}\n"),
        Command::new(env!("CARGO_BIN_EXE_fanwire")),
    );
    let mut other = program.connect("/other");
    let mut body = String::new();
    for number in 0..5_000 {
        writeln!(
            body,
            "{{\"topic\":\"/tenants/tenant-{number}/{number}\",\"text\":\"x\"}}"
        )
        .unwrap();
    }
    let mut stream = std::net::TcpStream::connect(program.address).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/vnd.fanwire+ndjson\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    other.say("x");
    assert_eq!(other.hear(), "x");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let refused = answer.matches("{\"status\":403,").count();
    let taken = answer.matches("{\"at\":").count();
    assert_eq!(
        (taken, refused),
        (1, 4_999),
        "only one line is for a topic without a rule"
    );
    program.end_well();
}
