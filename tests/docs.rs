//! The documents and the program agree: links lead somewhere, tables are what the code says, configurations are valid, and
//! the quick start does what it promises.
//!
//! Every Markdown page of the repository is read. Commands of the quick start that would build the program are not run, because
//! cargo has built it for this test. [`Step`] maps a command to what is run. `tests/proxies` has the configurations of proxies.

// Everything here is a test: a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use fanwire::config::Config;
use fanwire::internals::metrics;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The most lines that the README may have: it is for somebody who decides in two minutes.
const README_LINES: usize = 200;

/// The page that explains what clients are told.
const CLIENTS: &str = "docs/clients.md";

const PROGRAM: &str = env!("CARGO_BIN_EXE_fanwire");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: impl AsRef<Path>) -> String {
    let path = root().join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `folder` that ends in `ending`, but nothing that was built or downloaded.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !matches!(name, "target" | "node_modules" | ".git" | ".venv" | "venv") {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// The Markdown pages, by their path from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(root(), ".md", &mut found);
    let page = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().to_owned(), text)
    };
    found.into_iter().map(page).collect()
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

/// The page quotes texts in two tables. Each stands in the sources, letter by letter.
#[test]
fn what_clients_are_told_is_what_the_page_says() {
    let mut sources = Vec::new();
    files(&root().join("src"), ".rs", &mut sources);
    let sources: String = sources
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let page = read(CLIENTS);
    let mut texts = 0;
    for heading in ["Close codes", "HTTP statuses"] {
        for row in section(&page, heading)
            .lines()
            .filter(|line| line.starts_with("| "))
        {
            let quoted = row.split('|').nth(2).unwrap();
            for text in quoted.split('`').skip(1).step_by(2) {
                texts += 1;
                let is_said = [format!("\"{text}\""), format!("\"{text}\\n\"")]
                    .iter()
                    .any(|literal| sources.contains(literal.as_str()));
                assert!(is_said, "nobody says {text:?}");
            }
        }
    }
    assert!(texts > 30, "only {texts} texts were found");
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

/// A folder whose `config.yaml` is `text`, and that has the files which TLS needs.
fn folder_with(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
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
    output: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

impl Running {
    fn start(folder: &Path, arguments: &[String]) -> Running {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            errors: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line on standard error that contains `text`.
    fn await_error(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(
                self.errors.read_line(&mut line).unwrap() > 0,
                "no {text:?} was said"
            );
        }
        line
    }

    /// Waits for the end: the exit code, and what was still said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
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
        assert_eq!(
            (code, said.trim()),
            (Some(0), "closed by the relay: 1001 going away")
        );
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
    assert_eq!(code, Some(0));
    assert!(
        said.contains("closed by the relay: 1008 not allowed to publish"),
        "{said}"
    );
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
    assert!(said.contains("--ca FILE"), "{said}");
}
