//! Tokens with grants over real sockets: an independent client presents them, in every place where a token may be.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use fanwire::config::{Access, Config, Publish, Subscribe, TokenAlgorithm, TokenKey};
use fanwire::server::Stat;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use self::signing::{SECRET, Signer};
use crate::metrics::{case, scrape};
use crate::program::Program;
use crate::support::{PATIENCE, World, config, eventually};
use crate::wire::{Answer, FIN, TEXT, Wire, frame, request};

mod posts;
#[path = "../../src/access/tests/signing.rs"]
mod signing;
mod streams;

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Claims for `/room` in both directions, which end so many seconds from now.
fn claims(seconds: i64) -> Value {
    let exp = now().checked_add_signed(seconds).unwrap();
    json!({"exp": exp, "sub": "42", "subscribe": ["/room"], "publish": ["/room"]})
}

/// A relay where all rights need a token of one of the signers.
struct Strict {
    world: World,
    folder: TempDir,
}

impl Strict {
    fn with(signers: &[Signer], change: impl FnOnce(&mut Config)) -> Strict {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(2);
        config.access = access(&folder, signers);
        change(&mut config);
        let world = World::with(&config);
        Strict { world, folder }
    }

    fn start() -> Strict {
        Strict::with(&[Signer::hs256(SECRET)], |_| {})
    }

    /// The answer to an upgrade request with more header lines.
    fn ask(&self, path: &str, fields: &str) -> (Answer, Wire) {
        let mut wire = self.world.dial();
        wire.send(request(path).replace("\r\n\r\n", &format!("\r\n{fields}\r\n")));
        (wire.answer(), wire)
    }

    fn join(&self, path: &str, fields: &str) -> Wire {
        let (answer, wire) = self.ask(path, fields);
        assert_eq!(answer.status, 101, "{fields}: {}", answer.body);
        wire
    }

    fn connect(&self, token: &str, protocols: &str) -> Client {
        connect(&self.world, token, protocols)
    }
}

/// The section with the keys of the signers in files of the folder.
fn access(folder: &TempDir, signers: &[Signer]) -> Access {
    let keys = signers.iter().map(|signer| {
        let file = folder.path().join(signer.alg);
        fs::write(&file, &signer.file).unwrap();
        let alg = match signer.alg {
            "HS256" => TokenAlgorithm::HS256,
            "RS256" => TokenAlgorithm::RS256,
            "PS256" => TokenAlgorithm::PS256,
            "ES256" => TokenAlgorithm::ES256,
            _ => TokenAlgorithm::EdDSA,
        };
        let kid = signer.kid.map(str::to_owned);
        TokenKey { alg, file, kid }
    });
    Access {
        subscribe: Subscribe::Token,
        publish: Publish::Token,
        keys: keys.collect(),
        ..Access::default()
    }
}

type Client = WebSocket<TcpStream>;

/// A client of a library that offers its token beside a name, as a browser does. It refuses a server that selects no name.
fn connect(world: &World, token: &str, protocols: &str) -> Client {
    let url = format!("ws://{}/room", world.relay.address());
    let mut request = url.into_client_request().unwrap();
    let offer = format!("{protocols}, bearer.{token}");
    let offer = HeaderValue::try_from(offer).unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", offer);
    let stream = TcpStream::connect(world.relay.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (client, response) = tungstenite::client(request, stream).unwrap();
    let selected = &response.headers()["sec-websocket-protocol"];
    assert_eq!(selected, protocols.split(',').next().unwrap());
    assert!(
        !format!("{response:?}").contains(token),
        "it is not sent back"
    );
    client
}

fn hear(client: &mut Client) -> String {
    loop {
        match client.read().unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) => {}
            other => panic!("text was expected, and {other:?} came"),
        }
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn clients_with_tokens_of_every_algorithm_meet() {
    let signers = Signer::all();
    let strict = Strict::with(&signers, |_| {});
    let mut clients: Vec<Client> = signers
        .iter()
        .map(|signer| strict.connect(&signer.token(&claims(60)), "fanwire"))
        .collect();
    for n in 0..clients.len() {
        clients[n].send(Message::text(n.to_string())).unwrap();
        for client in &mut clients {
            assert_eq!(hear(client), n.to_string());
        }
    }
    drop(clients);
    strict.world.end();
}

#[test]
fn a_browser_has_the_words_of_the_relay_and_a_token_at_once() {
    let strict = Strict::with(&[Signer::hs256(SECRET)], |config| {
        config.history.max_age = Duration::from_mins(1);
        config.server.subprotocols = vec![fanwire::config::Subprotocol::Any];
    });
    let token = Signer::hs256(SECRET).token(&claims(60));
    let mut client = strict.connect(&token, "fanwire.v1, fanwire");
    assert!(hear(&mut client).starts_with("\0{\"at\":\""));
    let mut plain = strict.connect(&token, "fanwire");
    plain.send(Message::text("hello")).unwrap();
    assert_eq!(hear(&mut client), "hello");
    // A name that is a token is never selected, not by an asterisk either.
    let offer = format!("Sec-WebSocket-Protocol: bearer.{token}\r\n");
    let (answer, wire) = strict.ask("/room", &offer);
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, None)
    );
    drop((client, plain, wire));
    strict.world.end();
}

#[test]
fn without_history_the_plain_name_is_selected_all_the_same() {
    let world = World::start();
    let client = connect(&world, "not-looked-at", "fanwire");
    drop(client);
    world.end();
}

#[test]
fn grants_decide_who_hears_and_who_is_heard() {
    let strict = Strict::start();
    let token = |claims: Value| Signer::hs256(SECRET).token(&claims);
    let exp = now() + 60;
    let mut listener = strict.join(
        "/room",
        &bearer(&token(json!({"exp": exp, "subscribe": ["/*"]}))),
    );
    let mut source = strict.join(
        "/room",
        &bearer(&token(json!({"exp": exp, "publish": ["/room"]}))),
    );
    let mut member = strict.join("/room", &bearer(&token(claims(60))));
    source.send(frame(FIN | TEXT, b"one"));
    assert_eq!(listener.hear(), "one");
    assert_eq!(member.hear(), "one");
    member.send(frame(FIN | TEXT, b"two"));
    assert_eq!(listener.hear(), "two");
    // The first that the source hears is the answer to its Close.
    source.send(frame(FIN | 8, &[0x03, 0xe8]));
    assert_eq!(source.close(), (1000, String::new()));
    listener.send(frame(FIN | TEXT, b"three"));
    assert_eq!(listener.close().0, 1008);
    drop((listener, source, member));
    strict.world.end();
}

#[test]
fn a_refused_token_is_answered_with_its_reason_and_counted() {
    let strict = Strict::start();
    let signer = Signer::hs256(SECRET);
    let other = Signer::hs256(b"another secret of 32 characters.");
    let cases = [
        ("", 401, "Bearer", Stat::HandshakeUnauthorized),
        (
            &bearer(&other.token(&claims(60))),
            401,
            "invalid_token",
            Stat::HandshakeToken,
        ),
        (
            &bearer(&signer.token(&claims(-60))),
            401,
            "invalid_token",
            Stat::HandshakeTokenExpired,
        ),
        (
            &bearer(&signer.token(&json!({"exp": now() + 9}))),
            403,
            "insufficient_scope",
            Stat::HandshakeForbidden,
        ),
    ];
    for (fields, status, error, stat) in cases {
        let (mut answer, mut wire) = strict.ask("/room", fields);
        wire.expect_end();
        assert_eq!(answer.status, status);
        let challenge = answer.header("www-authenticate").unwrap().to_owned();
        assert!(
            challenge.starts_with("Bearer") && challenge.contains(error),
            "{challenge}"
        );
        assert!(answer.body.pop() == Some('\n') && !answer.body.contains('\n'));
        strict.world.await_total(stat, 1);
    }
    let scrape = scrape(&strict.world);
    for reason in [
        "unauthorized",
        "invalid_token",
        "token_expired",
        "forbidden",
    ] {
        assert_eq!(
            case(&scrape, "fanwire_failed_handshakes_total", "reason", reason) as i64,
            1
        );
    }
    strict.world.end();
}

#[test]
fn a_client_is_closed_when_its_token_is_not_accepted_any_more_and_goes_on_with_a_new_one() {
    const CLIENTS: usize = 60;
    let strict = Strict::with(&[Signer::hs256(SECRET)], |config| {
        config.history.max_age = Duration::from_mins(1);
    });
    // They are accepted for a second. Then they end within half a minute, so one of them ends soon.
    let signer = Signer::hs256(SECRET);
    let token = signer.token(&claims(-28));
    let mut clients: Vec<Wire> = (0..CLIENTS)
        .map(|_| strict.join("/room", &bearer(&token)))
        .collect();
    clients[0].send(frame(FIN | TEXT, b"kept"));
    for client in &mut clients {
        assert_eq!(client.hear(), "kept");
    }
    eventually("one of them has ended", || {
        strict.world.total(Stat::DisconnectedExpired) > 0
    });
    let (answer, _wire) = strict.ask("/room", &bearer(&token));
    assert_eq!(answer.status, 401, "it could not come back with this token");
    let close = clients.iter_mut().find_map(|client| {
        client.stream().set_nonblocking(true).unwrap();
        let has_close = client.stream().peek(&mut [0]).is_ok();
        client.stream().set_nonblocking(false).unwrap();
        has_close.then(|| client.close())
    });
    let (code, reason) = close.unwrap();
    assert_eq!(code, 3000);
    let position = reason.strip_prefix("the token has expired; at ").unwrap();
    assert!(position.ends_with("-1"), "{reason}");
    let resumed = strict.join(
        &format!("/room?since={position}"),
        &bearer(&signer.token(&claims(60))),
    );
    drop((clients, resumed));
    strict.world.end();
}

#[test]
fn a_cookie_of_an_allowed_page_is_a_token() {
    let strict = Strict::with(&[Signer::hs256(SECRET)], |config| {
        config.access.cookie = Some("session".into());
        config.server.allowed_origins = vec!["https://app.example".parse().unwrap()];
    });
    let cookie = format!(
        "Cookie: a=b; session={}\r\n",
        Signer::hs256(SECRET).token(&claims(60))
    );
    for (origin, status) in [("https://app.example", 101), ("https://evil.example", 403)] {
        let (answer, _wire) = strict.ask("/room", &format!("Origin: {origin}\r\n{cookie}"));
        assert_eq!(answer.status, status, "{origin}");
    }
    let (answer, _wire) = strict.ask("/room", &cookie);
    assert_eq!(answer.status, 401);
    strict.world.end();
}

// Grants of a proxy

fn grants(seconds: u64) -> String {
    format!(
        "Fanwire-Grants: subscribe=/room; publish=/room; exp={}\r\n",
        now() + seconds
    )
}

#[test]
fn the_words_of_a_proxy_count_by_the_peer_of_the_socket_alone() {
    let relay = |server: &str| {
        let text = format!(
            "server: {{{server}}}\naccess: {{subscribe: token, publish: token, grants_header: true}}\n"
        );
        let loaded = Config::from_yaml(&text, "test.yaml").unwrap();
        Strict::with(&[], |config| {
            config.access = loaded.access;
            config.server.trusted_proxies = loaded.server.trusted_proxies;
            config.server.proxy_protocol = loaded.server.proxy_protocol;
        })
    };
    let claim = "PROXY TCP4 10.0.0.1 127.0.0.1 1000 80\r\n";
    let forwarded = "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n";
    for (server, preface, fields, status) in [
        ("trusted_proxies: [127.0.0.1]", "", "", 101),
        ("trusted_proxies: [10.0.0.1]", "", "", 401),
        ("trusted_proxies: [10.0.0.1]", "", forwarded, 401),
        (
            "trusted_proxies: [10.0.0.1], proxy_protocol: {from: [127.0.0.1]}",
            claim,
            "",
            401,
        ),
        (
            "trusted_proxies: [127.0.0.1], proxy_protocol: {from: [127.0.0.1]}",
            claim,
            "",
            101,
        ),
    ] {
        let strict = relay(server);
        let mut wire = strict.world.dial();
        let fields = format!("\r\n{fields}{}\r\n", grants(60));
        wire.send(preface.to_owned() + &request("/room").replace("\r\n\r\n", &fields));
        assert_eq!(wire.answer().status, status, "{server} {preface} {fields}");
        drop(wire);
        strict.world.end();
    }
}

#[test]
fn the_words_of_a_proxy_that_come_twice_or_too_late_are_refused_and_counted() {
    let strict = Strict::with(&[Signer::hs256(SECRET)], |config| {
        config.access.grants_header = true;
        let text = "server: {trusted_proxies: [127.0.0.1]}";
        config.server.trusted_proxies =
            Config::from_yaml(text, "t").unwrap().server.trusted_proxies;
    });
    let late = "Fanwire-Grants: subscribe=/room; exp=1\r\n".to_owned();
    for (nth, fields) in [grants(60).repeat(2), late].into_iter().enumerate() {
        let (answer, _wire) = strict.ask("/room", &fields);
        assert_eq!(answer.status, 401, "{fields}");
        strict
            .world
            .await_total(Stat::HandshakeGrants, nth as u64 + 1);
    }
    let (answer, wire) = strict.ask("/room", &grants(60));
    assert_eq!(answer.status, 101);
    drop(wire);
    strict.world.end();
}

// Keys

#[test]
fn sighup_reads_the_keys_again_and_a_broken_file_leaves_the_old_ones_in_force() {
    let (old, new) = (Signer::es256().named("old"), Signer::eddsa().named("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let write = |keys: &[&Signer]| {
        let keys: Vec<Value> = keys.iter().map(|signer| signer.jwk()).collect();
        fs::write(&path, json!({"keys": keys}).to_string()).unwrap();
    };
    write(&[&old]);
    let section =
        format!("access: {{subscribe: token, jwks_file: {path:?}}}\nlog: {{level: debug}}\n");
    let mut program = Program::with(&section);
    let (old_token, new_token) = (old.token(&claims(60)), new.token(&claims(60)));
    let ask = |program: &Program, token: &str| {
        let mut wire = program.dial();
        wire.send(request("/room").replace("\r\n\r\n", &format!("\r\n{}\r\n", bearer(token))));
        (wire.answer().status, wire)
    };
    let (status, mut member) = ask(&program, &old_token);
    assert_eq!((status, ask(&program, &new_token).0), (101, 401));

    fs::write(&path, "{\"keys\": [").unwrap();
    program.signal(Signal::HUP);
    let line = program.await_log("certificate and keys stay in force");
    assert!(
        line.contains("WARN") && line.contains("access.jwks_file") && line.contains("line 1"),
        "{line}"
    );
    assert_eq!(
        (ask(&program, &old_token).0, ask(&program, &new_token).0),
        (101, 401)
    );

    write(&[&new]);
    program.signal(Signal::HUP);
    let line = program.await_log("keys for tokens read again");
    assert!(line.contains("keys=1"), "{line}");
    assert_eq!(
        (ask(&program, &old_token).0, ask(&program, &new_token).0),
        (401, 101)
    );
    member.send(frame(FIN | TEXT, b"still here"));
    assert_eq!(member.hear(), "still here");

    let metrics = program.scrape();
    for result in ["ok", "failed"] {
        let line = format!("fanwire_token_key_reloads_total{{result=\"{result}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    program.signal(Signal::TERM);
    let (code, log) = program.end();
    assert_eq!(code, Some(0));
    let parts = old_token.split('.').chain(new_token.split('.'));
    for part in parts {
        assert!(
            !log.contains(part) && !metrics.contains(part),
            "a part of a token is shown: {log}"
        );
    }
}

#[test]
fn a_check_finds_what_is_wrong_with_a_key_and_shows_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token.key"), "secret-4711").unwrap();
    fs::write(
        folder.path().join("keys.json"),
        "{\"keys\": \"secret-4711\"}",
    )
    .unwrap();
    let check = |access: &str| {
        fs::write(
            folder.path().join("config.yaml"),
            format!("access:\n{access}\n"),
        )
        .unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_fanwire"))
            .arg("--check")
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    for (access, expected) in [
        (
            "  keys:\n  - {alg: HS256, file: token.key}",
            "config.yaml:2: access.keys[0].file: `token.key` has 11 bytes, and HS256 needs a secret of at least 32; \
             use a file with a random secret, such as the output of `openssl rand -base64 48`",
        ),
        (
            "  keys:\n  - {alg: ES256, file: token.key}",
            "config.yaml:2: access.keys[0].file: `token.key` has no public key; \
             use the PEM file of a public key, such as the output of `openssl pkey -in KEY -pubout`",
        ),
        (
            "  keys:\n  - {alg: ES256, file: absent.pem}",
            "config.yaml:2: access.keys[0].file: `absent.pem` cannot be read: No such file or directory (os error 2); \
             name a readable file",
        ),
        (
            "  keys:\n  - {alg: ES256, file: .}",
            "config.yaml:2: access.keys[0].file: `.` cannot be read: it is not a regular file; name a readable file",
        ),
        (
            "  jwks_file: keys.json",
            "config.yaml:2: access.jwks_file: `keys.json` is not a JSON Web Key Set (line 1, column 22); \
             use the JSON of a JWK Set, as in `{\"keys\": [...]}`",
        ),
    ] {
        let said = check(access);
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("4711"), "{said}");
    }
}

// Making a token, as the page says

/// Runs the snippet of a language on the page, in a folder with the secret. `None` if the language is not installed.
fn mint(language: &str, file: &str, command: &[&str]) -> Option<String> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/access.md")).unwrap();
    let (_, section) = page.split_once("\n### Making a token\n").unwrap();
    let (_, rest) = section.split_once(&format!("```{language}\n")).unwrap();
    let (snippet, _) = rest.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(file), snippet).unwrap();
    fs::write(folder.path().join("token.key"), [SECRET, b"\n"].concat()).unwrap();
    let output = Command::new(command[0])
        .args(&command[1..])
        .arg(file)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        // The output of a macro is shown only if the test fails.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {} is not installed",
            command[0]
        );
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{language}: {errors}");
    Some(
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned(),
    )
}

#[test]
fn a_token_that_is_made_as_the_page_says_is_good() {
    let signers = [Signer::hs256(SECRET)];
    let strict = Strict::with(&signers, |config| {
        let file = &config.access.keys[0].file;
        fs::write(file, [SECRET, b"\n"].concat()).unwrap();
    });
    for (language, file, command) in [
        ("python", "mint.py", &["python3"][..]),
        ("javascript", "mint.js", &["node"]),
        ("go", "mint.go", &["go", "run"]),
        ("sh", "mint.sh", &["sh"]),
    ] {
        let Some(token) = mint(language, file, command) else {
            continue;
        };
        let (answer, wire) = strict.ask("/room/1", &bearer(&token));
        assert_eq!(answer.status, 101, "{language}: {}", answer.body);
        let (answer, _) = strict.ask("/other", &bearer(&token));
        assert_eq!(answer.status, 403, "{language}");
        wire.reset();
    }
    assert!(strict.folder.path().exists());
    strict.world.end();
}
