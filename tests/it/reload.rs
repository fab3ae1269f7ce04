//! Reloads of the whole configuration: by SIGHUP from the file, and by the library's user. All or nothing, and under load.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fanwire::config::Config;
use fanwire::server::Stat;

use crate::metrics::{case, scrape};
use crate::program::Program;
use crate::support::{World, config, eventually};
use crate::wire::{FIN, TEXT, Wire, frame, request};

/// A configuration on free ports, with more sections.
fn yaml(sections: &str) -> String {
    format!(
        "server: {{host: 127.0.0.1, port: 0, workers: 2, fill_workers_to: 0}}\nmetrics: {{port: 0}}\n{sections}\n"
    )
}

fn start(sections: &str) -> Program {
    Program::spawn(&yaml(sections), Command::new(env!("CARGO_BIN_EXE_fanwire")))
}

fn reloads(program: &Program, result: &str) -> i64 {
    let name = format!("fanwire_config_reloads_total{{result=\"{result}\"}}");
    program.metric(&name) as i64
}

const SUCCESS: &str = "fanwire_config_last_reload_success_timestamp_seconds";

/// The status of a request to join.
fn status(mut wire: Wire) -> u16 {
    wire.send(request("/room"));
    wire.answer().status
}

#[test]
fn sighup_puts_a_new_file_in_force_and_the_log_says_what_has_changed() {
    let mut program = start("");
    let mut member = program.join("/room");
    program.assert_metric(SUCCESS, 0);

    program.reload(&yaml(
        "limits: {max_message_bytes: 200}\nrelay: {publish: nobody, topics: single}\nlog: {level: debug}",
    ));
    for (key, rest) in [
        ("relay.topics", "from=path to=single"),
        ("relay.publish", "from=everyone to=nobody"),
        ("limits.max_message_bytes", "from=1MiB to=200"),
        ("log.level", "from=info to=debug"),
    ] {
        let line = program.await_log(key);
        assert!(line.contains(rest), "{line}");
        assert_eq!(line.contains("needs a restart"), key == "relay.topics");
    }
    let line = program.await_log("is reloaded");
    assert!(
        line.contains("changed=3") && line.contains("need_a_restart=1"),
        "{line}"
    );
    assert_eq!(
        (reloads(&program, "ok"), reloads(&program, "failed")),
        (1, 0)
    );
    assert!(program.metric(SUCCESS) > 1.7e9);

    // A client that is connected keeps its right to publish, and its topic keeps its limit.
    member.send(frame(FIN | TEXT, &[b'a'; 201]));
    assert_eq!(member.hear().len(), 201);
    let mut newcomer = program.join("/room");
    newcomer.send(frame(FIN | TEXT, b"no"));
    assert_eq!(newcomer.close().0, 1008);
    // A line at debug level.
    program.await_log("a client is disconnected");
    program.end_well();
}

#[test]
fn a_file_that_is_wrong_half_written_empty_or_gone_changes_nothing() {
    let mut program = start("limits: {max_message_bytes: 200}");
    let mut member = program.join("/room");
    let whole = yaml("limits: {max_message_bytes: 300}");
    for (text, reason) in [
        ("limits: {max_message_bytes: 1}", "limits.max_message_bytes"),
        ("limits: {max_mess", "config.yaml"),
        ("", "the file is empty"),
        // Each key is fine, but not with the old value of one that needs a restart.
        (
            "server: {unix_socket: s, trusted_proxies: [unix]}",
            "restart the relay",
        ),
        (
            "access: {subscribe: token, jwks_file: none.json}",
            "access.jwks_file",
        ),
        (
            "server: {tls: {enabled: true, cert_file: a.pem, key_file: b.pem}}",
            "server.tls.cert_file",
        ),
    ] {
        program.reload(text);
        let line = program.await_log("nothing has changed");
        assert!(line.contains("WARN") && line.contains(reason), "{line}");
    }
    assert_eq!(
        (reloads(&program, "ok"), reloads(&program, "failed")),
        (0, 6)
    );
    program.assert_metric(SUCCESS, 0);
    member.send(frame(FIN | TEXT, &[b'a'; 200]));
    assert_eq!(member.hear().len(), 200);
    member.send(frame(FIN | TEXT, &[b'a'; 201]));
    assert_eq!(member.close().0, 1009);
    program.reload(&whole);
    program.await_log("is reloaded");
    let mut member = program.join("/room");
    member.send(frame(FIN | TEXT, &[b'a'; 201]));
    assert_eq!(member.hear().len(), 201);
    program.end_well();
}

#[test]
fn flags_and_variables_lie_over_the_new_file_as_they_did_over_the_old_one() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    command
        .args(["--set", "limits.max_message_bytes=200"])
        .env("FANWIRE__LOG__LEVEL", "debug");
    let mut program = Program::spawn(&yaml(""), command);
    program.reload(&yaml(
        "limits: {max_message_bytes: 300, max_header_bytes: 2KiB}\nlog: {level: error}",
    ));
    let line = program.await_log("the configuration has changed");
    assert!(line.contains("limits.max_header_bytes"), "{line}");
    let line = program.await_log("is reloaded");
    assert!(line.contains("changed=1"), "{line}");
    program.end_well();
}

#[test]
fn secrets_are_not_in_the_log_of_a_reload() {
    let tokens = |token: &str| {
        yaml(&format!(
            "relay: {{publish: token, publish_tokens: [{token}]}}"
        ))
    };
    let old = "secret-secret-secret-1";
    let mut program = Program::spawn(&tokens(old), Command::new(env!("CARGO_BIN_EXE_fanwire")));
    program.reload(&tokens("secret-secret-secret-2"));
    let line = program.await_log("relay.publish_tokens");
    assert!(!line.contains("secret-secret"), "{line}");
    let log = program.end_well();
    assert!(!log.contains("secret-secret"), "{log}");
}

// Limits on connections

#[test]
fn a_smaller_limit_on_connections_closes_nobody() {
    let mut limited = config(2);
    let world = World::with(&limited);
    let mut members = world.connect_many("/room", 3);
    limited.server.max_connections = 2;
    reconfigure(&world, &limited);
    assert_eq!(status(world.dial()), 503);
    members[0].say("hello");
    for member in &mut members {
        assert_eq!(member.hear(), "hello");
    }
    members.truncate(1);
    world.await_total(Stat::ConnectedClients, 1);
    eventually("there is room again", || status(world.dial()) == 101);
    drop(members);
    world.end();
}

#[test]
fn a_limit_on_connections_of_an_address_comes_and_goes() {
    let mut limited = config(2);
    let world = World::with(&limited);
    let uncounted = world.connect("/room");
    limited.server.max_connections_per_ip = 1;
    reconfigure(&world, &limited);
    let counted = world.connect("/room");
    assert_eq!(status(world.dial()), 429);
    limited.server.max_connections_per_ip = 0;
    reconfigure(&world, &limited);
    let free = world.connect("/room");
    drop((uncounted, counted, free));
    world.end();
}

/// Puts a configuration in force, and waits until new connections are judged by it.
fn reconfigure(world: &World, config: &Config) {
    let reloads = || {
        let scrape = scrape(world);
        case(&scrape, "fanwire_config_reloads_total", "result", "ok")
    };
    let before = reloads();
    world.relay.reconfigure(config);
    // A worker gets it before the connections that are accepted from now on.
    eventually("it is in force", || reloads() > before);
}

// Under load

/// The limits of the two configurations between which the relay is switched.
const LIMITS: [usize; 2] = [1000, 2000];

#[test]
fn under_load_hundreds_of_reloads_lose_nothing_and_mix_nothing() {
    const RELOADS: usize = 300;
    let sections = |at: usize| {
        let limit = LIMITS[at];
        // The two values that a member sees always belong together: the limit on messages, and the limit on heads.
        let head = if at == 0 { "2KiB" } else { "4KiB" };
        yaml(&format!(
            "limits: {{max_message_bytes: {limit}, max_header_bytes: {head}}}\nhistory: {{max_age: {}m}}\n\
             slow_consumer: {{max_lag_bytes: {}MiB}}\nkeepalive: {{ping_interval: {}s}}\nlog: {{level: warn}}",
            1 + at,
            4 + at,
            20 + at
        ))
    };
    let program = start("history: {max_age: 1m}");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let talkers: Vec<_> = (0..2)
            .map(|talker| {
                let (program, done) = (&program, &done);
                let path = format!("/{talker}");
                let mut author = program.connect(&path);
                let mut listener = program.connect(&path);
                scope.spawn(move || {
                    let mut sent = 0;
                    while sent < 200 || !done.load(Ordering::Relaxed) {
                        // Within both limits, in a burst.
                        for n in sent..sent + 20 {
                            author.say(n.to_string());
                        }
                        for n in sent..sent + 20 {
                            assert_eq!(author.hear(), n.to_string());
                            assert_eq!(listener.hear(), n.to_string());
                        }
                        sent += 20;
                    }
                    (author, listener)
                })
            })
            .collect();
        let joiner = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut wire = program.dial();
                // Between the two limits on heads.
                let filler = format!("\r\nX-Filler: {}\r\n\r\n", "x".repeat(3000));
                wire.send(request("/join").replace("\r\n\r\n", &filler));
                match wire.answer().status {
                    // Its shard had the larger limits then.
                    101 => drop(wire),
                    431 => wire.expect_end(),
                    status => panic!("{status}"),
                }
            }
        });
        for n in 0..RELOADS {
            let (ok, failed) = (reloads(&program, "ok"), reloads(&program, "failed"));
            if n % 3 == 2 {
                // Half written.
                let whole = sections(n % 2);
                program.reload(&whole[..whole.len() / 2]);
                eventually("it is refused", || reloads(&program, "failed") > failed);
                assert_eq!(reloads(&program, "ok"), ok);
            } else {
                program.reload(&sections(n % 2));
                eventually("it is reloaded", || reloads(&program, "ok") > ok);
            }
        }
        done.store(true, Ordering::Relaxed);
        joiner.join().unwrap();
        for talker in talkers {
            drop(talker.join().unwrap());
        }
    });
    program.await_rest();
    program.end_well();
}

#[test]
fn each_request_is_judged_by_one_configuration_as_a_whole() {
    // One configuration refuses the page, and the other one lets everybody publish. By halves of both, the page would get in
    // and not be allowed to publish.
    let open = config(2);
    let mut closed = open.clone();
    closed.server.allowed_origins = vec!["a.example.org".parse().unwrap()];
    closed.relay.publish = fanwire::config::Publish::Nobody;
    let world = World::with(&open);
    thread::scope(|scope| {
        let switch = scope.spawn(|| {
            for _ in 0..100 {
                reconfigure(&world, &closed);
                reconfigure(&world, &open);
            }
        });
        while !switch.is_finished() {
            let mut wire = world.dial();
            let origin = "\r\nOrigin: http://b.example.org\r\n\r\n";
            wire.send(request("/room").replace("\r\n\r\n", origin));
            match wire.answer().status {
                101 => {
                    wire.send(frame(FIN | TEXT, b"hello"));
                    assert_eq!(wire.hear(), "hello");
                }
                403 => wire.expect_end(),
                status => panic!("{status}"),
            }
        }
    });
    world.end();
}

#[test]
fn a_reload_while_the_relay_ends_changes_nothing() {
    let mut program = start("shutdown: {delay: 600s}");
    program.signal(rustix::process::Signal::TERM);
    program.await_log("shutting down");
    program.reload(&yaml("shutdown: {delay: 0s}"));
    program.await_log("nothing is reloaded: the relay is ending");
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.end().0, Some(0));
}
