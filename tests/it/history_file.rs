//! A history that survives the process, in the program as it is: ended by a signal, and started again.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;
use tungstenite::Message;

use crate::program::{Program, failed_start};
use crate::resume::Counting;
use crate::shutdown::reserved_port;
use crate::support::eventually;

/// A place for a history, and the configuration of a relay that uses it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("history")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("history.{ending}"))
    }

    fn config(&self, workers: usize, port: u16, sections: &str) -> String {
        let file = self.file();
        format!(
            "server: {{host: 127.0.0.1, port: {port}, workers: {workers}, fill_workers_to: 0}}\n\
             metrics: {{port: 0}}\nhistory: {{max_age: 1h, file: '{}'}}\n{sections}\n",
            file.display()
        )
    }

    fn start(&self, workers: usize) -> Program {
        self.start_with(workers, "")
    }

    fn start_with(&self, workers: usize, sections: &str) -> Program {
        Program::spawn(&self.config(workers, 0, sections), program())
    }

    /// The names of the files that are there.
    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The file of a relay in which `/room` has the messages 0 to 9, and their epoch.
    fn with_history() -> (Place, String) {
        let place = Place::new();
        let program = place.start(2);
        let mut client = Counting::dial(program.address, "/room");
        say(&mut client, 0..10);
        let epoch = client.epoch.clone();
        drop(client);
        program.end_well();
        (place, epoch)
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fanwire"))
}

/// Sends numbers and gets them back.
fn say(client: &mut Counting, numbers: std::ops::Range<u64>) {
    for number in numbers {
        client.client.say(number.to_string());
        assert_eq!(client.hear(), number.to_string());
    }
}

fn hear(client: &mut Counting, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(client.hear(), number.to_string());
    }
}

fn resume(program: &Program, path: &str, at: &str) -> Counting {
    Counting::dial(program.address, &format!("{path}?since={at}"))
}

#[test]
fn clients_go_on_over_restarts_with_any_number_of_workers() {
    const TOPICS: usize = 6;
    let place = Place::new();
    let mut places: Vec<String> = Vec::new();
    let mut epochs = Vec::new();
    for (round, workers) in [2, 3, 1, 4].into_iter().enumerate() {
        let round = round as u64;
        let mut program = place.start(workers);
        if round > 0 {
            assert_eq!(place.files(), ["history.lock"], "it is used once");
        }
        let mut quiet = match epochs.first() {
            None => Counting::dial(program.address, "/quiet"),
            Some(epoch) => resume(&program, "/quiet", &format!("{epoch}-0")),
        };
        assert_eq!((quiet.number, &*quiet.lost), (0, "0"), "round {round}");
        for topic in 0..TOPICS {
            let path = format!("/{topic}");
            let mut client = match places.get(topic) {
                None => Counting::dial(program.address, &path),
                Some(at) => resume(&program, &path, at),
            };
            assert_eq!(client.lost, "0");
            // The second half of the last round was not seen.
            let missed = (10 * round).saturating_sub(5)..10 * round;
            hear(&mut client, missed);
            say(&mut client, 10 * round..10 * round + 5);
            let at = client.at();
            assert_eq!(client.probe(), at);
            say(&mut client, 10 * round + 5..10 * round + 10);
            places.truncate(topic.max(places.len()));
            match places.get_mut(topic) {
                Some(place) => *place = at,
                None => places.push(at),
            }
            epochs.push(client.epoch);
        }
        program.signal(Signal::TERM);
        quiet.client.expect_close();
        program.await_log("the history is written");
        assert_eq!(program.end().0, Some(0));
        assert_eq!(place.files(), ["history", "history.lock"]);
        let mode = place.file().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "one epoch for all");
}

#[test]
fn a_relay_that_is_killed_leaves_no_file_and_its_numbers_are_not_used_again() {
    let (place, epoch) = Place::with_history();
    let mut second = place.start(2);
    let mut client = resume(&second, "/room", &format!("{epoch}-10"));
    assert_eq!(client.lost, "0");
    say(&mut client, 10..20);
    second.signal(Signal::KILL);
    second.await_exit();
    assert_eq!(place.files(), ["history.lock"]);
    let third = place.start(2);
    let again = resume(&third, "/room", &client.at());
    assert_eq!((again.number, &*again.lost), (0, "null"));
    assert_ne!(again.epoch, epoch);
}

#[test]
fn a_damaged_file_is_set_aside_and_begins_a_new_epoch() {
    let (place, epoch) = Place::with_history();
    let mut bytes = fs::read(place.file()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(place.file(), &bytes).unwrap();
    let program = place.start(1);
    let log = &program.beginning;
    assert!(
        log.contains("WARN") && log.contains("is set aside"),
        "{log}"
    );
    let client = resume(&program, "/room", &format!("{epoch}-10"));
    assert_eq!((client.number, &*client.lost), (0, "null"));
    assert_ne!(client.epoch, epoch);
    assert_eq!(place.files(), ["history.damaged", "history.lock"]);
    assert_eq!(fs::read(place.beside("damaged")).unwrap(), bytes);
    drop(client);
    program.end_well();
}

#[test]
fn limits_of_the_new_process_drop_the_oldest_messages_and_say_how_many() {
    let (place, epoch) = Place::with_history();
    let config = place
        .config(2, 0, "")
        .replace("max_age: 1h", "max_age: 1h, max_messages: 3");
    let program = Program::spawn(&config, self::program());
    assert!(
        program.beginning.contains("dropped_messages=7"),
        "{}",
        program.beginning
    );
    let mut client = resume(&program, "/room", &format!("{epoch}-2"));
    assert_eq!((client.number, &*client.lost), (7, "5"));
    hear(&mut client, 7..10);
    drop(client);
    program.end_well();
}

#[test]
fn a_check_leaves_the_file_alone_and_finds_what_would_keep_it_from_being_written() {
    let (place, _) = Place::with_history();
    let before = fs::read(place.file()).unwrap();
    let folder = place.folder.path();
    let check = |config: &str| {
        fs::write(folder.join("config.yaml"), config).unwrap();
        let output = program()
            .arg("--check")
            .current_dir(folder)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let config = place.config(2, 0, "");
    assert_eq!(check(&config).0, Some(0));
    assert_eq!(fs::read(place.file()).unwrap(), before);
    assert_eq!(place.files(), ["config.yaml", "history", "history.lock"]);
    symlink(place.file(), folder.join("link")).unwrap();
    for (file, problem) in [
        ("absent/history", "No such file"),
        ("history/history", "is not a folder"),
        ("link", "is a link"),
        (".", "is a folder"),
        ("./", "does not name a file"),
    ] {
        let other = config.replace("/history'", &format!("/{file}'"));
        let (code, said) = check(&other);
        assert_eq!(code, Some(2), "{file}: {said}");
        assert!(
            said.contains("history.file: ") && said.contains(problem),
            "{said}"
        );
    }
}

#[test]
fn a_folder_that_takes_no_files_is_a_wrong_configuration() {
    let place = Place::new();
    let file = format!("'{}'", place.file().display());
    // Nobody may make files there, not even root.
    let config = place.config(1, 0, "").replace(&file, "/proc/fanwire");
    let (code, log) = failed_start(&config, program());
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("history.file: "), "{log}");
}

/// The next process starts as soon as the port is free, while the old one still closes its clients and relays between them.
#[test]
fn a_relay_waits_until_its_predecessor_has_written_everything() {
    let place = Place::new();
    let (port, _reserved) = reserved_port();
    let config = place.config(2, port, "shutdown: {spread: 2s, timeout: 20s}");
    // Some thousand messages go round in that time.
    let config = config.replace("max_age: 1h", "max_age: 1h, max_bytes: 256MiB");
    let mut old = Program::spawn(&config, program());
    let mut clients: Vec<_> = (0..6)
        .map(|topic| Counting::dial(old.address, &format!("/{topic}")))
        .collect();
    for client in &mut clients {
        say(client, 0..5);
    }
    old.signal(Signal::TERM);
    eventually("the port is closed", || {
        TcpStream::connect(old.address).is_err()
    });
    let starting = thread::spawn(move || Program::spawn(&config, program()));
    eventually("the next process listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    // They publish until their Closes come, and each message that comes back has its number.
    let mut left: Vec<_> = clients.iter_mut().collect();
    while !left.is_empty() {
        left.retain_mut(|client| {
            let text = client.number.to_string();
            client.client.say(text.clone());
            match client.client.next() {
                Message::Text(heard) => {
                    assert_eq!(heard, text);
                    client.number += 1;
                    true
                }
                Message::Close(_) => {
                    client.client.expect_end();
                    false
                }
                other => panic!("{other:?}"),
            }
        });
    }
    old.await_log("the history is written");
    let next = starting.join().unwrap();
    let log = &next.beginning;
    assert!(log.contains("another process has the file"), "{log}");
    assert!(clients.iter().any(|client| client.number > 5));
    for (topic, client) in clients.iter().enumerate() {
        let at = format!("{}-5", client.epoch);
        let mut again = resume(&next, &format!("/{topic}"), &at);
        assert_eq!((again.number, &*again.lost), (5, "0"));
        hear(&mut again, 5..client.number);
        assert_eq!(again.probe(), client.at());
    }
    assert_eq!(old.end().0, Some(0));
    next.end_well();
}

#[test]
fn a_relay_that_waits_in_vain_begins_a_new_epoch_and_leaves_the_file_alone() {
    let (place, epoch) = Place::with_history();
    let before = fs::read(place.file()).unwrap();
    let other = File::open(place.beside("lock")).unwrap();
    other.lock().unwrap();
    let mut program = place.start_with(2, "shutdown: {timeout: 500ms}");
    let log = &program.beginning;
    assert!(
        log.contains("WARN") && log.contains("another process still has"),
        "{log}"
    );
    let client = resume(&program, "/room", &format!("{epoch}-10"));
    assert_eq!(client.lost, "null");
    drop(client);
    program.signal(Signal::TERM);
    program.await_log("the history cannot be written");
    assert_eq!(program.end().0, Some(0));
    assert_eq!(fs::read(place.file()).unwrap(), before);
}

#[test]
fn a_client_that_does_not_take_its_close_keeps_nobody_from_the_history() {
    let place = Place::new();
    let mut program = place.start_with(2, "shutdown: {timeout: 10m}");
    let mute = program.join("/room");
    let mut client = Counting::dial(program.address, "/room");
    say(&mut client, 0..3);
    program.signal(Signal::TERM);
    program.await_log("the history is written");
    // The old process is still there, and waits for its client.
    let next = place.start(2);
    let again = resume(&next, "/room", &format!("{}-3", client.epoch));
    assert_eq!(again.lost, "0");
    assert!(program.child.try_wait().unwrap().is_none());
    drop((mute, client, again));
    assert_eq!(program.end().0, Some(0));
    next.end_well();
}

#[test]
fn a_shutdown_that_is_cut_short_leaves_no_file_and_says_so() {
    let place = Place::new();
    let mut program = place.start_with(2, "shutdown: {spread: 5m, timeout: 10m}");
    // Of many, some are closed only at the end of the spread.
    let _clients: Vec<_> = (0..12)
        .map(|_| Counting::dial(program.address, "/room"))
        .collect();
    program.signal(Signal::TERM);
    program.await_log("shutting down");
    program.signal(Signal::TERM);
    program.await_log("history.file is not written");
    assert_eq!(program.end().0, Some(0));
    assert_eq!(place.files(), ["history.lock"]);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_behind() {
    let place = Place::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 64 && exec \"$0\""]);
    shell.arg(env!("CARGO_BIN_EXE_fanwire"));
    let mut program = Program::spawn(&place.config(2, 0, ""), shell);
    let mut client = Counting::dial(program.address, "/room");
    let large = "x".repeat(200 << 10);
    client.client.say(large.clone());
    assert_eq!(client.hear(), large);
    drop(client);
    program.signal(Signal::TERM);
    let line = program.await_log("the history cannot be written");
    assert!(
        line.contains("WARN") && line.contains("too large"),
        "{line}"
    );
    assert_eq!(program.end().0, Some(0));
    assert_eq!(place.files(), ["history.lock"]);
}

#[test]
fn a_link_in_the_place_of_the_file_is_replaced_and_its_target_is_not_touched() {
    let place = Place::new();
    let target = place.folder.path().join("precious");
    fs::write(&target, "precious").unwrap();
    let mut program = place.start(1);
    for ending in ["", ".tmp"] {
        symlink(
            &target,
            place.folder.path().join(format!("history{ending}")),
        )
        .unwrap();
    }
    program.signal(Signal::TERM);
    program.await_log("the history is written");
    assert_eq!(program.end().0, Some(0));
    assert!(place.file().symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert_eq!(place.files(), ["history", "history.lock", "precious"]);
    // At the start it is a mistake.
    fs::remove_file(place.file()).unwrap();
    symlink(&target, place.file()).unwrap();
    let (code, log) = failed_start(&place.config(1, 0, ""), self::program());
    assert_eq!(code, Some(2), "{log}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}
