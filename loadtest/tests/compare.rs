//! Short comparisons, plain and over TLS: servers that take part, are absent or fail, and no server is left behind.

#![allow(clippy::unwrap_used, reason = "a test may panic where it stands")]
#![allow(unreachable_pub, reason = "modules of a test are its own")]

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use loadtest::compare::peers::certificate::Certificate;
use loadtest::compare::peers::{PEERS, Peer, Started};
use loadtest::report::{Compared, Comparison, Report};
use servers::{SHORT, floor, loadtest, places};
use silent::Silent;
use tempfile::TempDir;

mod servers;
mod silent;

fn compare(arguments: &[&str]) -> (Output, Option<Comparison>) {
    let all = [&["compare", "--json", "-"], &SHORT[..], arguments].concat();
    let output = loadtest(&all);
    let comparison = serde_json::from_slice(&output.stdout).ok();
    (output, comparison)
}

fn compared(arguments: &[&str]) -> Comparison {
    let (output, comparison) = compare(arguments);
    comparison.unwrap_or_else(|| panic!("{output:?}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn servers_run_in_turns_and_are_measured_by_the_floor() {
    // The kernel counts CPU time in steps of 10 ms, and on a busy machine a short run may have none.
    let long = ["--subscribers", "10", "--duration", "1500ms"];
    let servers = ["--servers", "floor,floor-frame", "--repeats", "2"];
    let output = loadtest(&[&["compare", "--json", "-"], &long[..], &servers].concat());
    let compared: Comparison = serde_json::from_slice(&output.stdout).unwrap();
    assert!(compared.passed);
    assert_eq!(compared.floor.as_deref(), Some("floor"));
    let [floor, frame] = &compared.servers[..] else {
        panic!("two servers")
    };
    assert_eq!((floor.runs.len(), frame.runs.len()), (2, 2));
    let summary = floor.summary.as_ref().unwrap();
    assert_eq!(summary.passed_runs, 2);
    assert!((summary.cpu_of_floor.unwrap() - 1.0).abs() < 1e-9);
    let cpu = summary.cpu_ns_per_delivery.unwrap();
    assert!(cpu.min <= cpu.median && cpu.median <= cpu.max && cpu.max > 0.0);
    // The second round begins with the second server: the floor is the first and the last.
    let began = |run: &Report| run.started_unix_seconds;
    assert!(began(&floor.runs[0]) <= began(&frame.runs[0]));
    assert!(began(&frame.runs[1]) <= began(&floor.runs[1]));
}

#[test]
fn the_server_and_the_generator_have_processors_of_their_own() {
    let compared = compared(&["--servers", "floor", "--repeats", "1"]);
    let run = &compared.servers[0].runs[0];
    assert_eq!(compared.server_cpus.len(), 1);
    assert_eq!(run.machine.cpus, compared.generator_cpus.len());
    let several = std::thread::available_parallelism().unwrap().get() > 1;
    assert!(!several || !compared.generator_cpus.contains(&compared.server_cpus[0]));
}

#[test]
fn a_broken_url_is_refused_before_anything_starts_and_its_secrets_are_not_shown() {
    for server in [
        "wrong=ws://me:hunter2@127.0.0.1:9/",
        "wrong=ws://127.0.0.1:hunter2#x@h/",
        "wrong=http://127.0.0.1:9/?token=hunter2",
        "wrong=ws://127.0.0.1:9/?key=a b#hunter2",
        "ws://127.0.0.1:9/?token=hunter2",
        "=ws://me:hunter2@127.0.0.1:9/",
        "me:hunter2@127.0.0.1:9",
    ] {
        let (output, comparison) = compare(&["--servers", "floor", "--server", server]);
        assert_eq!(output.status.code(), Some(2), "{server}");
        assert!(comparison.is_none());
        let said = stderr(&output);
        assert!(said.contains("--server "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let (output, _) = compare(&["ws://me:hunter2@127.0.0.1:9/"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!stderr(&output).contains("hunter2"), "{output:?}");
}

#[test]
fn secrets_are_in_nothing_that_is_shown_or_written() {
    let floor = floor();
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let server = format!("here=ws://{}/?token=hunter2", floor.address);
    let silent = Silent::new();
    let gone = format!("gone=ws://{}/?token=hunter2", silent.address());
    let servers = ["--server", &server, "--server", &gone, "--repeats", "1"];
    let html = ["--html", page.to_str().unwrap()];
    let (output, comparison) = compare(&[&servers[..], &html].concat());
    let comparison = comparison.unwrap();
    assert_eq!(comparison.servers[0].runs.len(), 1);
    assert_eq!(comparison.servers[1].errors.len(), 1);
    let page = fs::read_to_string(page).unwrap();
    let all = [&output.stdout[..], &output.stderr[..], page.as_bytes()].concat();
    let all = String::from_utf8_lossy(&all);
    assert!(all.contains("token=…") && !all.contains("hunter2"), "{all}");
}

#[test]
fn a_server_that_is_not_installed_is_reported_and_fails_only_if_it_was_named() {
    let nowhere = tempfile::tempdir().unwrap();
    let peers = ["--peers", nowhere.path().to_str().unwrap()];
    let (output, comparison) =
        compare(&[&["--servers", "floor,bun", "--repeats", "1"], &peers[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let comparison = comparison.unwrap();
    let bun = &comparison.servers[1];
    let absent = bun.absent.as_ref().unwrap();
    assert!(
        absent.starts_with("not installed: ") && absent.contains("loadtest/peers/install bun"),
        "{absent}"
    );
    assert!(bun.runs.is_empty() && comparison.servers[0].summary.is_some());
    // Of all known servers, only our own programs are where they should be.
    let (output, comparison) = compare(&[&["--repeats", "1"], &peers[..]].concat());
    let comparison = comparison.unwrap();
    assert_eq!(comparison.servers.len(), PEERS.len());
    assert!(
        comparison
            .servers
            .iter()
            .any(|server| server.absent.is_some())
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_server_that_runs_elsewhere_takes_part() {
    let running = floor();
    let url = format!("ws://{}/it", running.address);
    let named = format!("mine={url}");
    let compared = compared(&["--server", &named, "--servers", "floor", "--repeats", "1"]);
    assert!(compared.passed);
    let mine = &compared.servers[1];
    assert_eq!(mine.name, "mine");
    assert_eq!(mine.runs[0].configuration.url, url);
}

/// A server that accepts connections and answers every request with 404.
fn no_relay() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // It does not matter whether the client hears it.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        }
    });
    url
}

#[test]
fn a_server_that_fails_is_shown_as_such_and_the_others_go_on() {
    let named = format!("liar={}", no_relay());
    let (output, comparison) =
        compare(&["--server", &named, "--servers", "floor", "--repeats", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let comparison = comparison.unwrap();
    let [floor, liar] = &comparison.servers[..] else {
        panic!("two servers")
    };
    assert_eq!((floor.runs.len(), liar.runs.len()), (2, 0));
    assert_eq!(
        liar.errors.len(),
        1,
        "it is not tried again: {:?}",
        liar.errors
    );
    assert!(!comparison.passed);
}

#[test]
fn the_table_shows_every_server_and_why_one_failed() {
    let named = format!("liar={}", no_relay());
    let folder = TempDir::new().unwrap();
    let markdown = folder.path().join("table.md");
    let all = [
        &[
            "compare",
            "--server",
            &named,
            "--servers",
            "floor",
            "--repeats",
            "1",
            "--markdown",
            markdown.to_str().unwrap(),
        ],
        &SHORT[..],
    ]
    .concat();
    let output = loadtest(&all);
    let table = String::from_utf8(output.stdout).unwrap();
    let line = |start: &str| {
        table
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("{table}"))
    };
    assert!(line("server ").contains("CPU per delivery"));
    // A machine that is busy with other tests is the limit of the generator.
    let verdicts = ["passed", "generator at its limit"];
    assert!(
        verdicts
            .iter()
            .any(|verdict| line("floor ").contains(verdict))
            && line("floor ").contains("1.00 ×"),
        "{table}"
    );
    assert!(line("liar ").contains("FAILED"));
    assert!(line("liar: ").contains("404"), "{table}");
    let table = fs::read_to_string(markdown).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    let cells = |line: &str| line.matches(" | ").count();
    assert!(lines[0].starts_with("| server | CPU per delivery | of floor |"));
    assert_eq!(cells(lines[0]), cells(lines[1]), "{table}");
    assert!(lines[2].starts_with("| floor | ") && lines[2].contains(" | 1.00 × | "));
    assert!(lines[3].starts_with("| liar | – | "), "{table}");
    assert!(lines[5].starts_with("- liar: ") && lines[5].contains("404"));
}

#[test]
fn nonsense_on_the_command_line_is_refused_with_the_reason() {
    for (arguments, reason) in [
        (
            &["--servers", "nginks"][..],
            "nginks is not known; the known servers are floor, fanwire",
        ),
        (&["--servers", "floor,floor"], "named twice"),
        (
            &["--url", "ws://127.0.0.1:1/"],
            "--url has no meaning in a comparison",
        ),
        (&["--server-cpus", "4-1"], "names no processor"),
        (&["--server", "ws://127.0.0.1:1/"], "it must be NAME=URL"),
        (
            &["idle", "--servers", "floor", "--rate", "5"],
            "no meaning in the scenario idle",
        ),
    ] {
        let (output, _) = compare(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(
            stderr(&output).contains(reason),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn no_server_outlives_its_turn() {
    let started = floor();
    let process = format!("/proc/{}", started.pid());
    assert!(Path::new(&process).exists());
    drop(started);
    assert!(!Path::new(&process).exists());
}

/// Every peer that is installed relays text and binary messages, small and large. CI has all peers.
#[test]
fn every_peer_that_is_installed_passes() {
    for load in [
        &["chat", "--text", "--topics", "2"][..],
        &["fanout", "--size", "100KB", "--window", "4"],
    ] {
        let compared = compared(&[load, &["--repeats", "1"]].concat());
        for server in &compared.servers {
            if server.name.contains("deflate") {
                assert_eq!(server.absent.as_deref(), Some(NO_OFFER), "{}", server.name);
                continue;
            }
            passes_if_it_is_there(server, load);
        }
    }
}

/// Nobody compresses without being asked, and those that can do it for clients that offer it.
#[test]
fn every_peer_that_compresses_passes_when_clients_offer_it() {
    let load = ["fanout", "--payload", "depth", "--window", "4", "--deflate"];
    let compared = compared(&[&load[..], &["--repeats", "1"]].concat());
    assert_eq!(compared.servers.len(), PEERS.len());
    for server in &compared.servers {
        passes_if_it_is_there(server, &load);
        let compresses = server.name.contains("deflate");
        for run in &server.runs {
            let deflate = run.deflate.as_ref().expect("it was offered");
            // nchan agrees in any case.
            assert!(deflate.agreed > 0 || !compresses, "{}", server.name);
            if !server.name.starts_with("fanwire") {
                assert_eq!(deflate.compressed > 0, compresses, "{}", server.name);
            }
        }
    }
}

fn passes_if_it_is_there(server: &Compared, load: &[&str]) {
    let failures = server.runs.iter().flat_map(|run| &run.failures);
    let failures: Vec<_> = failures.chain(&server.errors).collect();
    let name = &server.name;
    assert!(failures.is_empty(), "{name} with {load:?}: {failures:?}");
    let Some(absent) = &server.absent else {
        assert_eq!(server.runs.len(), 1);
        // It says where its counters are, in the line with its address.
        let counters = server.runs[0].counters.as_ref();
        let checks = counters.map_or(0, |counters| counters.checks.len());
        assert_eq!(checks > 0, name.starts_with("fanwire"), "{name}");
        return;
    };
    // Not captured, so that the skip is seen.
    let _ = writeln!(io::stderr(), "skipped: {name} is {absent}");
    // The tests of the whole workspace build fanwire, but not those of this package alone.
    let must_be_there = std::env::var_os("CI").is_some() && !name.starts_with("fanwire");
    assert!(!must_be_there, "{name} is {absent}");
}

const NO_TLS: &str = "has no TLS here";

/// The reason of a server that compresses, if nobody offers that.
const NO_OFFER: &str = "compresses for clients that offer it: add --deflate";

#[test]
fn every_peer_that_is_installed_passes_over_tls_except_the_floors_which_have_none() {
    let load = ["chat", "--topics", "2", "--tls"];
    let compared = compared(&[&load[..], &["--repeats", "1"]].concat());
    assert_eq!(compared.servers.len(), PEERS.len());
    for server in &compared.servers {
        if server.name.starts_with("floor") {
            assert_eq!(server.absent.as_deref(), Some(NO_TLS), "{}", server.name);
            continue;
        }
        if server.name.contains("deflate") {
            assert_eq!(server.absent.as_deref(), Some(NO_OFFER), "{}", server.name);
            continue;
        }
        passes_if_it_is_there(server, &load);
        let urls = server.runs.iter().map(|run| &run.configuration.url);
        for url in urls {
            assert!(url.starts_with("wss://"), "{}: {url}", server.name);
        }
    }
    assert!(compared.passed);
}

#[test]
fn a_server_without_tls_fails_a_comparison_over_tls_in_which_it_is_named() {
    let running = floor();
    let named = format!("mine=ws://{}/", running.address);
    let (output, comparison) = compare(&[
        "--tls",
        "--servers",
        "floor",
        "--server",
        &named,
        "--repeats",
        "1",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let comparison = comparison.unwrap();
    let [floor, mine] = &comparison.servers[..] else {
        panic!("two servers")
    };
    assert_eq!(floor.absent.as_deref(), Some(NO_TLS));
    assert!(floor.runs.is_empty());
    // A server that runs already is reached as its URL says.
    assert_eq!((mine.runs.len(), mine.runs[0].passed), (1, true));
    let listed = loadtest(&["compare", "--list", "--tls"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let line = listed.lines().find(|line| line.starts_with("floor "));
    assert!(line.unwrap().ends_with("(has no TLS here)"), "{listed}");
}

/// A folder of peers with a script in place of Bun.
fn with_a_bun_that(script: &str) -> TempDir {
    let peers = tempfile::tempdir().unwrap();
    let bun = peers.path().join("bun");
    fs::create_dir(&bun).unwrap();
    let program = bun.join("bun");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    peers
}

/// On a busy machine, another program took the port that a server was told to use.
#[test]
fn a_server_is_loaded_where_it_says_that_it_listens_even_if_a_stranger_listens_elsewhere() {
    let floor = env!("CARGO_BIN_EXE_floor");
    // A stranger listens first. It ends with the server, as both are in one process group.
    let stranger =
        "{floor} --port $PORT >$0.stranger & while ! grep -q ready $0.stranger; do :; done";
    let script = format!("{stranger}; exec {{floor}} --port $PORT").replace("{floor}", floor);
    let peers = with_a_bun_that(&script);
    let folder = ["--peers", peers.path().to_str().unwrap()];
    let compared = compared(&[&["--servers", "bun", "--repeats", "1"], &folder[..]].concat());
    let bun = &compared.servers[0];
    assert!(compared.passed, "{:?}", bun.errors);
    let stranger = fs::read_to_string(peers.path().join("bun/bun.stranger")).unwrap();
    let stranger = stranger.trim().strip_prefix("ready ").unwrap();
    assert!(!bun.runs[0].configuration.url.contains(stranger));
}

/// Fanwire and bun, if they are installed.
fn that_speak_tls() -> impl Iterator<Item = &'static Peer> {
    let peers = ["fanwire", "bun"].map(|name| Peer::named(name).unwrap());
    peers.into_iter().filter(|peer| {
        let missing = peer.missing(&places());
        if let Some(missing) = &missing {
            let _ = writeln!(io::stderr(), "skipped: {} is {missing}", peer.name);
        }
        missing.is_none()
    })
}

/// A folder of peers in which fanwire has the certificate of another server.
fn impostor(other: &Started) -> TempDir {
    let shown = other.certificate.as_ref().unwrap();
    let key = shown.with_file_name("key.pem");
    let (shown, key) = (shown.display(), key.display());
    let tls = format!("tls: {{ enabled: true, cert_file: '{shown}', key_file: '{key}' }}");
    let config = "fanwire/config.yaml";
    let config_text = fs::read_to_string(places().peers.join(config)).unwrap();
    let peers = tempfile::tempdir().unwrap();
    fs::create_dir(peers.path().join("fanwire")).unwrap();
    fs::write(
        peers.path().join(config),
        config_text.replace("{tls}", &tls),
    )
    .unwrap();
    peers
}

#[test]
fn a_server_that_shows_another_certificate_is_not_trusted() {
    for peer in that_speak_tls().filter(|peer| peer.name == "fanwire") {
        let certificate = Certificate::make().unwrap();
        let other = peer.start(&places(), 1, Some(&certificate)).unwrap();
        let peers = impostor(&other);
        // `--insecure` is for servers that run already.
        let insecure = [
            "--servers",
            "fanwire",
            "--tls",
            "--insecure",
            "--repeats",
            "1",
        ];
        let (output, comparison) =
            compare(&[&insecure[..], &["--peers", peers.path().to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1));
        let comparison = comparison.unwrap();
        let [error] = &comparison.servers[0].errors[..] else {
            panic!("an error")
        };
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
}

#[test]
fn certificate_and_key_are_gone_with_the_comparison() {
    for peer in that_speak_tls() {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["compare", "--tls", "--quiet", "--repeats", "1"])
            .args(["--servers", peer.name])
            .args(SHORT)
            .env("TMPDIR", folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {output:?}", peer.name);
        let left: Vec<_> = folder.path().read_dir().unwrap().collect();
        assert!(left.is_empty(), "{}: {left:?}", peer.name);
    }
}
