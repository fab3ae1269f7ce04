//! The program: its exit status, its output, its refusals, Ctrl-C.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use loadtest::report::Report;
use rustix::process::{Pid, Signal, kill_process};

use crate::relay::{Fate, TinyRelay};
use crate::silent::Silent;

fn program(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(line.split_whitespace());
    command
}

fn output(line: &str) -> Output {
    program(line).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_exit_status_says_how_it_went() {
    let relay = TinyRelay::start(|_, _| Fate::Pass);
    let run = "--warmup 0s --duration 1s --subscribers 4 --url";
    let right = output(&format!("{run} {}", relay.url()));
    assert_eq!(right.status.code(), Some(0), "{}", text(&right.stderr));
    let screen = text(&right.stdout);
    assert!(
        // A machine that is busy with other tests is the limit of the generator.
        screen.ends_with("PASSED: every delivery was right\n")
            || screen.contains("\nPASSED, BUT THE GENERATOR WAS THE LIMIT"),
        "{screen}"
    );
    assert!(screen.lines().count() <= 40);

    let faulty = TinyRelay::start(|delivery, _| {
        if delivery.number == 150 && delivery.receiver == 3 {
            Fate::Lose
        } else {
            Fate::Pass
        }
    });
    let wrong = output(&format!("{run} {}", faulty.url()));
    assert_eq!(wrong.status.code(), Some(1));
    let screen = text(&wrong.stdout);
    assert!(screen.contains("1 delivery was lost"), "{screen}");
    assert!(screen.ends_with("FAILED\n"), "{screen}");
}

#[test]
fn options_that_make_no_sense_are_refused_with_a_way_out() {
    for (line, words) in [
        ("", "--url"),
        ("--url http://localhost/", "ws:// or wss://"),
        ("--url ws://localhost/ --size 15", "16 bytes or more"),
        ("--url ws://localhost/ --text --size 21", "22 bytes or more"),
        (
            "--url ws://localhost/ --rate 5 --window 2",
            "cannot be used with",
        ),
        ("--url ws://localhost/ --rate 0", "--rate"),
        ("--url ws://localhost/ --window 0", "--window 0"),
        ("--url ws://localhost/ --publishers 0", "idle"),
        (
            "--url ws://localhost/ --window 100000000000",
            "100000000000 messages in flight",
        ),
        (
            "burst --url ws://localhost/ --burst 1000000000000",
            "1000000000000 messages in flight",
        ),
        (
            "--url ws://localhost/ --publishers 9000 --topics 9000 --subscribers 9000 --size 64MiB",
            "9000 publishers",
        ),
        (
            "--url ws://localhost/ --threads 18446744073709551615",
            "open files",
        ),
        ("--url ws://localhost/ --topics 200", "--topics 200"),
        ("--url ws://localhost/ --duration 0s", "--duration 0"),
        ("--url ws://localhost/ --active 2", "--active"),
        ("--url ws://localhost/ --source-ips 127.0.0.x", "127.0.0.x"),
        (
            "--url ws://localhost/ --source-ips 127.0.0.9-127.0.0.1",
            "must go up",
        ),
        ("--url ws://localhost/ --ca file.pem", "TLS"),
        (
            "--url ws://localhost/ --server-config nowhere.yaml",
            "nowhere.yaml",
        ),
        ("--url ws://localhost/ --metrics-url ftp://a", "http://"),
        (
            "--url ws://localhost/ --json nowhere/report.json",
            "nowhere",
        ),
        (
            "idle --url ws://localhost/ --rate 5",
            "no meaning in the scenario idle",
        ),
        (
            "chat --url ws://localhost/ --publishers 5",
            "no meaning in the scenario chat",
        ),
        ("slow --url ws://localhost/ --slow-share 1", "--slow-share"),
        (
            "burst --url ws://localhost/ --burst 2 --publishers 3",
            "--burst 2",
        ),
        (
            "reconnect --url ws://localhost/ --subscribers 1",
            "two or more",
        ),
        (
            "--url ws://localhost/ --subscribers 100000000",
            "open files",
        ),
        (
            "chat --url ws://localhost/ --subscribers 17000",
            "more --topics",
        ),
    ] {
        let refused = output(line);
        let complaint = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{line}: {complaint}");
        assert!(complaint.contains(words), "{line}: {complaint}");
    }
}

#[test]
fn a_server_that_is_not_there_is_a_failure_that_says_so() {
    let silent = Silent::new();
    let address = silent.address();
    for scenario in [
        "fanout",
        "idle --subscribers 3 --warmup 0s --duration 100ms",
    ] {
        let failed = output(&format!("{scenario} --url ws://{address}/"));
        let complaint = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains("Connection refused"), "{complaint}");
    }
}

#[test]
fn the_report_is_written_as_json_that_is_a_report() {
    let relay = TinyRelay::start(|_, _| Fate::Pass);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let run = "--warmup 200ms --duration 200ms --subscribers 4 --url";
    let status = program(&format!("{run} {} --json {}", relay.url(), file.display()))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let report: Report = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert!(report.passed);
    let warm_up = report.samples.first().unwrap();
    assert!(warm_up.at_seconds < 0.0, "{}", warm_up.at_seconds);

    let printed = output(&format!("{run} {} --json -", relay.url()));
    let report: Report = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(report.configuration.subscribers, 4);
}

#[test]
fn the_schemas_in_the_repository_are_those_of_the_types() {
    for (words, file) in [
        ("schema", "report.schema.json"),
        ("schema --compare", "comparison.schema.json"),
    ] {
        let printed = output(words);
        assert!(printed.status.success());
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let kept = fs::read_to_string(&kept).unwrap_or_default();
        assert!(
            kept == text(&printed.stdout),
            "loadtest/{file} is out of date: cargo run -p loadtest -- {words} > loadtest/{file}"
        );
    }
}

#[test]
fn ctrl_c_ends_a_run_early_and_shows_its_report() {
    let relay = TinyRelay::start(|_, _| Fate::Pass);
    let line = format!(
        "--warmup 0s --duration 60s --subscribers 4 --url {}",
        relay.url()
    );
    let mut run = program(&line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A thread goes on reading, as a terminal would.
    let mut progress = BufReader::new(run.stderr.take().unwrap()).lines();
    let mut lines = progress.by_ref().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("measuring")));
    let reader = std::thread::spawn(move || progress.for_each(drop));
    let pid = Pid::from_child(&run);
    kill_process(pid, Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    reader.join().unwrap();
    let screen = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{screen}");
    assert!(screen.contains("stopped early"), "{screen}");
    assert!(screen.contains("latency"), "{screen}");
}
