//! The documents and the program agree: links lead somewhere, tables are what the code says, configurations are valid, and
//! the quick start does what it promises.
//!
//! Every Markdown page of the repository is read. Commands of the quick start that would build the program are not run, because
//! cargo has built it for this test. [`Step`] maps a command to what is run. `tests/proxies` has the configurations of proxies.

// Everything here is a test: a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use fanwire::config::Config;
use fanwire::internals::metrics;
use fanwire::internals::port::Fault;
use fanwire::internals::relay::close_frames;
use fanwire::internals::ws::Refusal;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The most lines that the README may have: it is for somebody who decides in two minutes.
const README_LINES: usize = 200;

/// The page that explains what clients are told.
const CLIENTS: &str = "docs/clients.md";

/// The page that explains what clients are told that use HTTP.
const HTTP: &str = "docs/http.md";

/// The longest wait for a program before a test fails. A loaded machine needs far less.
const PATIENCE: Duration = Duration::from_secs(20);

const PROGRAM: &str = env!("CARGO_BIN_EXE_fanwire");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: impl AsRef<Path>) -> String {
    let path = root().join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown pages, by their path from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let found = tracked_pages().unwrap_or_else(|| {
        let mut found = Vec::new();
        pages_below(root(), &mut found);
        found
    });
    assert!(found.len() > 10, "only {found:?} were found");
    let page = |path: PathBuf| (path.clone(), read(&path));
    found.into_iter().map(page).collect()
}

/// The pages that git knows, less those that are deleted; `None` if this is not a checkout.
fn tracked_pages() -> Option<Vec<PathBuf>> {
    if !root().join(".git").exists() {
        return None;
    }
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--", "*.md"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|listed| listed.status.success())?;
    let names = String::from_utf8(listed.stdout).unwrap();
    let paths = names.split_terminator('\0').map(PathBuf::from);
    Some(paths.filter(|path| root().join(path).exists()).collect())
}

/// Without git: every page below `folder`, but nothing that was built or downloaded.
fn pages_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            let is_foreign = matches!(
                name,
                "target" | "node_modules" | ".git" | ".venv" | "venv" | "vendor"
            );
            if !is_foreign && !path.join("CACHEDIR.TAG").exists() {
                pages_below(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
}

/// The blocks of code in `page` that are marked as `language`.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let behind = page.split(fence.as_str()).skip(1);
    behind
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// The text between a heading of the second level and the next one.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let begin = format!("\n## {heading}\n");
    let (_, rest) = page
        .split_once(&begin)
        .unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap()
}

#[test]
fn the_readme_can_be_read_in_two_minutes() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines");
}

#[test]
fn the_page_of_metrics_has_them_all() {
    let page = read("docs/metrics.md");
    let (_, rest) = page.split_once("<!-- metrics:begin -->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- metrics:end -->").unwrap();
    let table = metrics::markdown_table();
    assert!(
        shown.trim() == table.trim(),
        "between its markers, docs/metrics.md should have exactly:\n\n{table}"
    );
}

#[test]
fn the_page_of_the_configuration_has_every_key_with_its_variable() {
    let page = read("docs/configuration.md");
    let (_, rest) = page.split_once("<!-- keys:begin -->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- keys:end -->").unwrap();
    let table = fanwire::config::markdown_table();
    assert!(
        shown.trim() == table.trim(),
        "between its markers, docs/configuration.md should have exactly:\n\n{table}"
    );
}

#[test]
fn the_page_on_operations_says_of_every_key_what_a_reload_does() {
    let page = read("docs/operations.md");
    let (_, rest) = page.split_once("<!-- reload:begin -->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- reload:end -->").unwrap();
    let table = fanwire::config::reload_table();
    assert!(
        shown.trim() == table.trim(),
        "between its markers, docs/operations.md should have exactly:\n\n{table}"
    );
}

// Links

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut dead = Vec::new();
    for (path, text) in pages() {
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                root().join(&path)
            } else {
                root().join(&path).parent().unwrap().join(file)
            };
            let is_alive = target.exists() && (anchor.is_empty() || has_heading(&target, anchor));
            if !is_alive {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

/// The links of a page that stay in the repository.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let prose = page.split("```").step_by(2);
    let targets = prose.flat_map(|prose| prose.split("](").skip(1));
    targets
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

fn has_heading(page: &Path, anchor: &str) -> bool {
    let Ok(text) = fs::read_to_string(page) else {
        return false;
    };
    let mut seen = HashMap::<String, usize>::new();
    text.split("```")
        .step_by(2)
        .flat_map(str::lines)
        .any(|line| {
            let title = line.trim_start_matches('#');
            if title.len() == line.len() {
                return false;
            }
            let name = anchor_of(title.trim());
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            let name = if *count == 1 {
                name
            } else {
                format!("{name}-{}", *count - 1)
            };
            name == anchor
        })
}

/// The anchor of a heading: small letters, hyphens for spaces, and no other punctuation.
fn anchor_of(title: &str) -> String {
    let kept = title
        .chars()
        .filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c })
        .collect::<String>()
        .to_lowercase()
}

#[test]
fn headings_are_linked_as_forges_do_it() {
    assert_eq!(
        anchor_of("From 64 at once (`from-64`)"),
        "from-64-at-once-from-64"
    );
    assert_eq!(anchor_of("The client's address"), "the-clients-address");
}

// Texts for clients

/// The numbers and texts of the tables in a section: a number in the first column, texts between backticks in the second.
fn told(page: &str, heading: &str) -> BTreeSet<(u16, String)> {
    let text = read(page);
    let mut told = BTreeSet::new();
    for row in section(&text, heading).lines() {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let Some(number) = cells.next().and_then(|cell| cell.parse().ok()) else {
            continue;
        };
        let texts = cells.next().unwrap().split('`').skip(1).step_by(2);
        for text in texts {
            let is_new = told.insert((number, text.to_owned()));
            assert!(is_new, "{page} has {number} {text:?} twice");
        }
    }
    told
}

/// Asserts that the table has exactly what the code says.
fn assert_told(page: &str, heading: &str, said: impl Iterator<Item = (u16, impl AsRef<str>)>) {
    let said: BTreeSet<_> = said
        .map(|(number, text)| (number, text.as_ref().trim_end().to_owned()))
        .collect();
    let told = told(page, heading);
    let missing: Vec<_> = said.difference(&told).collect();
    let stale: Vec<_> = told.difference(&said).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "{page}, {heading}: not on the page: {missing:?}; not in the code: {stale:?}"
    );
}

#[test]
fn the_page_has_exactly_the_close_codes_and_reasons_of_the_code() {
    assert_told(CLIENTS, "Close codes", close_frames().into_iter());
}

#[test]
fn the_page_has_exactly_the_statuses_and_texts_of_the_code() {
    let said = Refusal::ALL.iter();
    assert_told(
        CLIENTS,
        "HTTP statuses",
        said.map(|refusal| (refusal.code(), refusal.text())),
    );
}

#[test]
fn the_page_about_http_has_exactly_the_faults_of_the_code() {
    let said = Fault::ALL.iter();
    assert_told(
        HTTP,
        "Statuses",
        said.map(|fault| (fault.code(), fault.text())),
    );
}

// Configurations

#[test]
fn the_configurations_on_the_pages_are_valid() {
    let mut checked = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "yaml") {
            let output = Command::new(PROGRAM)
                .arg("--check")
                .current_dir(folder_with(block).path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{}: {said}\n{block}",
                path.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} were found");
}

/// A folder whose `config.yaml` is `text`, and that has the files which TLS and tokens need. It stands for the folder of the
/// unit.
fn folder_with(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    fs::write(folder.path().join("token.pem"), key.public_key_pem()).unwrap();
    fs::write(
        folder.path().join("token.key"),
        "0123456789abcdef".repeat(2),
    )
    .unwrap();
    let here = folder.path().to_str().unwrap();
    let text = text.replace("/var/lib/fanwire", here);
    fs::write(folder.path().join("config.yaml"), text).unwrap();
    folder
}

// The quick start

/// The meaning of a line of the quick start.
#[derive(Debug, PartialEq)]
enum Step {
    /// The program is built. Cargo has done that.
    Build,
    /// The tests are run, of which this is one.
    Test,
    /// The program, with these arguments.
    Program(Vec<String>),
}

impl Step {
    fn of(line: &str) -> Step {
        let command = line.split(" #").next().unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        let program = |arguments: &[&str]| {
            Step::Program(arguments.iter().map(|&word| word.to_owned()).collect())
        };
        match words.as_slice() {
            ["cargo", "build", "--release"] => Step::Build,
            ["cargo", "test", "--workspace"] => Step::Test,
            ["cargo", "run", "--release", "--", rest @ ..]
            | ["target/release/fanwire", rest @ ..] => program(rest),
            _ => panic!("the quick start has a command that is not known here: {line}"),
        }
    }
}

/// The relay or a client, running. Killed when the test forgets it.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    errors: Receiver<String>,
}

impl Running {
    fn start(folder: &Path, arguments: &[String]) -> Running {
        Running::start_printing_to(Stdio::piped(), folder, arguments)
    }

    fn start_printing_to(output: Stdio, folder: &Path, arguments: &[String]) -> Running {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running {
            input: child.stdin.take(),
            output: child.stdout.take().map_or_else(|| mpsc::channel().1, lines),
            errors: lines(child.stderr.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line on standard output.
    fn hear(&mut self) -> String {
        self.output.recv_timeout(PATIENCE).expect("a line in time")
    }

    /// The next line on standard error that contains `text`.
    fn await_error(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(why) => panic!("{text:?} was not said: {why}"),
            }
        }
    }

    /// Waits for the end: the exit code, and what was still said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(left) {
                Ok(line) => said.extend([&line, "\n"]),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end, and said: {said}"),
            }
        }
        // Standard error is closed, so it ends now.
        (self.child.wait().unwrap().code(), said)
    }
}

/// The lines of `source`, read by a thread so that a test can wait for one with a deadline.
fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map(Result::unwrap) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the relay in `folder`, and says where it listens.
fn start_relay(folder: &Path) -> (Running, SocketAddr) {
    let mut relay = Running::start(folder, &[]);
    let ready = relay.await_error("ready");
    let address = ready
        .split_whitespace()
        .find_map(|word| word.strip_prefix("address="));
    (relay, address.unwrap().parse().unwrap())
}

#[test]
fn the_quick_start_does_what_it_says() {
    let readme = read("README.md");
    let blocks = blocks(section(&readme, "Quick start"), "sh");
    let lines = blocks.iter().flat_map(|block| block.lines());
    let steps: Vec<Step> = lines
        .filter(|line| !line.is_empty())
        .map(Step::of)
        .collect();
    let [
        Step::Build,
        Step::Program(relay),
        Step::Program(client),
        Step::Test,
    ] = steps.as_slice()
    else {
        panic!("another quick start needs another test: {steps:?}");
    };
    assert!(relay.is_empty(), "the relay is started as it is");
    let defaults = Config::default();
    assert_eq!((defaults.server.port, defaults.metrics.port), (8443, 9090));

    // The only differences: the ports are free ones, and nobody else can connect.
    let folder = folder_with("server: {host: 127.0.0.1, port: 0}\nmetrics: {port: 0}\n");
    let (relay, address) = start_relay(folder.path());
    let arguments: Vec<String> = client
        .iter()
        .map(|word| word.replace("127.0.0.1:8443", &address.to_string()))
        .collect();
    assert_ne!(
        arguments, *client,
        "the client connects to the default port"
    );
    let mut terminals = [(); 2].map(|()| Running::start(folder.path(), &arguments));
    for terminal in &mut terminals {
        terminal.await_error("connected to");
    }
    for (from, line) in [(0, "typed in one"), (1, "typed in the other")] {
        terminals[from].say(line);
        for terminal in &mut terminals {
            assert_eq!(terminal.hear(), line);
        }
    }
    // Ctrl-C.
    kill_process(Pid::from_child(&relay.child), Signal::INT).unwrap();
    for terminal in terminals {
        let (code, said) = terminal.end();
        assert_eq!(code, Some(0));
        let farewell = "closed by the relay: 1001 going away; retry ";
        assert!(said.trim().starts_with(farewell), "{said}");
    }
    assert_eq!(relay.end().0, Some(0));
}

// The client

/// Connects the client to a relay with this configuration, sends a line, and returns the client's exit code and standard error.
fn client_says(config: &str, query: &str) -> (Option<i32>, String) {
    let folder = folder_with(&format!(
        "server: {{host: 127.0.0.1, port: 0}}\nmetrics: {{enabled: false}}\n{config}"
    ));
    let (_relay, address) = start_relay(folder.path());
    let url = format!("ws://{address}/room{query}");
    let mut client = Running::start(folder.path(), &["client".into(), url]);
    // A client that is refused does not read it.
    let _ = writeln!(client.input.as_mut().unwrap(), "hello");
    client.end()
}

/// A relay for clients of a terminal, its folder, and the URL of a room.
fn room() -> (TempDir, Running, String) {
    let folder = folder_with(
        "server: {host: 127.0.0.1, port: 0}\nmetrics: {enabled: false}\nrelay: {coalesce: 0s}\n",
    );
    let (relay, address) = start_relay(folder.path());
    (folder, relay, format!("ws://{address}/room"))
}

const TOKENS: &str = "relay: {publish: token, publish_tokens: [3q2-7wAAx5Jq9pQm]}\n";

#[test]
fn the_client_says_why_it_was_refused_and_not_its_token() {
    let (code, said) = client_says(TOKENS, "?token=wrong-and-secret");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("401 Unauthorized: The token is not valid. Send one valid token, or no token to listen only."),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn the_client_says_why_it_was_closed() {
    let (code, said) = client_says(TOKENS, "");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("closed by the relay: 1008 not allowed to publish"),
        "{said}"
    );
}

#[test]
fn a_line_that_is_not_utf_8_is_an_error_after_the_lines_before_it() {
    let (folder, _relay, url) = room();
    let mut listener = Running::start(folder.path(), &["client".into(), url.clone()]);
    listener.await_error("connected to");
    let mut client = Running::start(folder.path(), &["client".into(), url]);
    let mut input = client.input.take().unwrap();
    input.write_all(b"first\nsecond\n\xff\nfourth\n").unwrap();
    drop(input);
    let (code, said) = client.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("line 3 of standard input is not UTF-8"),
        "{said}"
    );
    listener.say("the end");
    let heard = [(); 3].map(|()| listener.hear());
    assert_eq!(heard, ["first", "second", "the end"]);
}

#[test]
fn the_end_of_the_input_is_an_orderly_end() {
    let (folder, _relay, url) = room();
    let mut client = Running::start(folder.path(), &["client".into(), url]);
    client.await_error("connected to");
    client.say("hello");
    assert_eq!(client.hear(), "hello");
    drop(client.input.take());
    assert_eq!(client.end(), (Some(0), String::new()));
}

#[test]
fn authorities_for_a_connection_without_tls_are_wrong_usage() {
    let folder = folder_with("");
    let arguments = ["client", "--ca", "cert.pem", "ws://127.0.0.1:1/room"].map(str::to_owned);
    let (code, said) = Running::start(folder.path(), &arguments).end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--ca is for wss:// only"), "{said}");
}

#[test]
fn a_full_standard_output_is_not_called_a_lost_connection() {
    let (folder, _relay, url) = room();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let arguments = ["client".to_owned(), url];
    let mut client = Running::start_printing_to(full.into(), folder.path(), &arguments);
    client.say("hello");
    let (code, said) = client.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot write to standard output: "), "{said}");
}

#[test]
fn a_port_without_tls_is_named_as_one() {
    let (folder, _relay, url) = room();
    let url = url.replace("ws://", "wss://");
    let (code, said) = Running::start(folder.path(), &["client".into(), url]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("use ws:// instead of wss://"), "{said}");
}

#[test]
fn the_certificate_of_the_page_serves_the_client_that_trusts_it() {
    let page = read("docs/tls.md");
    let command_line = blocks(&page, "sh")[0];
    let config = blocks(&page, "yaml")[0].replacen(
        "server:\n",
        "server:\n  host: localhost\n  port: 0\n",
        1,
    );
    let folder = folder_with(&(config + "metrics: {enabled: false}\n"));
    for file in ["cert.pem", "key.pem"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "openssl is not installed");
        let _ = writeln!(std::io::stderr(), "skipped: openssl is not installed");
        return;
    }
    let made = Command::new("sh")
        .args(["-c", command_line])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );

    let (_relay, address) = start_relay(folder.path());
    let url = format!("wss://localhost:{}/room", address.port());
    let trusting = [
        "client".into(),
        "--ca".into(),
        "cert.pem".into(),
        url.clone(),
    ];
    let mut client = Running::start(folder.path(), &trusting);
    client.await_error("connected to");
    client.say("hello");
    assert_eq!(client.hear(), "hello");

    let (code, said) = Running::start(folder.path(), &["client".into(), url]).end();
    assert_eq!(code, Some(1));
    assert!(
        said.contains("not issued by an authority that is trusted here")
            && said.contains("--ca FILE"),
        "{said}"
    );
}
