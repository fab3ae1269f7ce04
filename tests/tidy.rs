//! The house rules that a program can check.
//!
//! It reads the sources. A failure names the file, the line and the rule. Test code is exempt from the rules about purity,
//! panics and imports. Comments and strings are exempt from all rules about code. The rules about comments hold everywhere.

#![allow(clippy::unwrap_used, reason = "a test may panic where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use comments::check_comments;
use tokens::{Token, is_word, matches, paths, tokenize};

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/comments.rs"]
mod comments;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/tokens.rs"]
mod tokens;

/// Files that may contain `unsafe`. Each is small, has its reasons, and a benchmark that paid for it.
const MAY_BE_UNSAFE: &[&str] = &["src/allocator.rs"];

/// The longest file.
const MAX_LINES: usize = 700;

/// Folders and files whose code gets bytes, events and the time as arguments, and touches nothing else.
const PURE: &[&str] = &[
    "src/ws/",
    "src/http/",
    "src/relay/",
    "src/cluster/",
    "src/chance.rs",
    "src/port/",
    "src/access/",
    "src/secrecy.rs",
    "src/pattern/",
    "loadtest/src/check/agreement.rs",
    "loadtest/src/check/excuses.rs",
    "loadtest/src/check/order.rs",
    "loadtest/src/check/position.rs",
    "loadtest/src/check/received.rs",
    "loadtest/src/check/tally.rs",
    "loadtest/src/check/window.rs",
    "loadtest/src/client/websocket/inbound.rs",
    "loadtest/src/client/websocket/wire.rs",
    "loadtest/src/client/words.rs",
    "loadtest/src/scenario/chance.rs",
    "loadtest/src/scenario/message.rs",
];

/// Folders with code for production: the relay, and the load generator.
const PRODUCTION: &[&str] = &["src/", "loadtest/src/"];

/// Paths that a pure folder may not name.
const IMPURE: &[&str] = &[
    "mio",
    "socket2",
    "rustix",
    "rustls",
    "std::net",
    "std::thread",
    "std::fs",
    "std::sync::atomic",
    "core::sync::atomic",
    "Instant",
    "SystemTime",
];

/// The layers of each package from the top down, by the folder of its sources. A component may use those of lower layers
/// only. The lowest layer has libraries, which may use each other.
const LAYERS: &[(&str, Layers)] = &[("src/", RELAY), ("loadtest/src/", LOAD_GENERATOR)];

/// Names of components, by layer.
type Layers = &'static [&'static [&'static str]];

const RELAY: Layers = &[
    &["main"],
    &["client", "probe", "rereading"],
    &["cli", "announce", "logging", "allocator"],
    &["internals"],
    &["server"],
    &["net", "metrics::exporter"],
    &["mailbox"],
    &["relay"],
    &["cluster"],
    &["port"],
    &["access"],
    &[
        "ws", "http", "metrics", "config", "secrecy", "pattern", "ids", "time", "panics", "chance",
    ],
];

const LOAD_GENERATOR: Layers = &[
    &["main", "bin"],
    &["cli"],
    &["compare"],
    &["run"],
    &["client"],
    &["check"],
    &["report"],
    &["scenario"],
    &["clock", "secrets"],
];

/// Rooms of the core that do not know each other: the files of the first do not use those of the second.
const APART: &[(&str, &str)] = &[
    ("src/relay/topic/", "src/relay/owner/"),
    ("src/relay/topic/", "src/relay/shard/"),
    ("src/relay/owner/", "src/relay/topic/"),
    ("src/relay/owner/", "src/relay/shard/"),
    ("src/relay/batch/", "src/relay/topic/"),
    ("src/relay/batch/", "src/relay/owner/"),
    ("src/relay/batch/", "src/relay/shard/"),
    ("src/relay/policy/", "src/relay/topic/"),
    ("src/relay/policy/", "src/relay/owner/"),
    ("src/relay/policy/", "src/relay/shard/"),
];

/// Documents whose links and paths must lead somewhere.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "AGENTS.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/access.md",
    "docs/behind-a-proxy.md",
    "docs/clients.md",
    "docs/coalescing.md",
    "docs/configuration.md",
    "docs/how-it-works.md",
    "docs/http.md",
    "docs/measuring.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/slow-consumers.md",
    "docs/tls.md",
    "benches/README.md",
    "loadtest/README.md",
    "tests/fuzz/README.md",
    ".agents/summary/architecture.md",
    ".agents/summary/components.md",
    ".agents/summary/interfaces.md",
];

/// Methods that go through a map in its order. `retain` is not among them, because its result does not depend on the order.
const ITERATIONS: &[&str] = &[
    "iter",
    "iter_mut",
    "into_iter",
    "keys",
    "into_keys",
    "values",
    "values_mut",
    "into_values",
    "drain",
    "extract_if",
];

/// Beginnings of paths that exist on one machine only. They are in two parts, so that this file passes its own rule.
const ELSEWHERE: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/tm", "p/"),
    concat!("/wo", "rk/"),
    concat!("/Use", "rs/"),
];

/// A broken rule.
#[derive(Debug, PartialEq)]
struct Finding {
    line: usize,
    what: String,
}

fn finding(line: usize, what: impl Into<String>) -> Finding {
    Finding {
        line,
        what: what.into(),
    }
}

#[test]
fn the_sources_keep_the_house_rules() {
    let mut report = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let findings = check_source(&path, &text);
        report.extend(
            findings
                .iter()
                .map(|found| format!("{path}:{}: {}", found.line, found.what)),
        );
    }
    assert!(report.is_empty(), "\n{}", report.join("\n"));
}

/// The uses between the files of a library. `folder` has its sources. Programs are crates of their own.
fn uses_within(folder: &str) -> circles::Uses {
    let inside = |path: &String| {
        path.strip_prefix(folder)
            .is_some_and(|file| file != "main.rs" && !file.starts_with("bin/"))
    };
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        production(&path, tokenize(&text)).map(|code| (path, code))
    };
    let sources: BTreeMap<_, _> = sources()
        .into_iter()
        .filter(inside)
        .filter_map(read)
        .collect();
    assert!(sources.len() > 1, "{folder}: the sources were not found");
    circles::uses(&sources)
}

#[test]
fn files_do_not_use_each_other_in_a_circle() {
    for folder in PRODUCTION {
        let report = check_circles(&uses_within(folder));
        assert!(report.is_empty(), "\n{}", report.join("\n"));
    }
}

#[test]
fn rooms_of_the_core_that_are_apart_do_not_use_each_other() {
    let report = check_rooms(&uses_within("src/"), APART);
    assert!(report.is_empty(), "\n{}", report.join("\n"));
}

#[test]
fn links_and_paths_in_the_documents_lead_somewhere() {
    let mut report = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let folder = Path::new(document).parent().unwrap();
        let findings = check_document(&text, |target| exists(folder, target));
        report.extend(
            findings
                .iter()
                .map(|found| format!("{document}:{}: {}", found.line, found.what)),
        );
    }
    assert!(report.is_empty(), "\n{}", report.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust sources of the workspace, by their paths from the root, in order.
fn sources() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = ["src", "tests", "benches", "loadtest"]
        .iter()
        .map(|folder| root().join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(
                    path.strip_prefix(root())
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    assert!(
        found.contains("src/lib.rs") && found.contains("tests/tidy.rs"),
        "the sources were not found"
    );
    found
}

/// Whether `target` exists, seen from `folder`, from the root or from the sources.
fn exists(folder: &Path, target: &str) -> bool {
    [folder, Path::new(""), Path::new("src")]
        .iter()
        .any(|base| root().join(base).join(target).exists())
}

/// Refuses circles.
fn check_circles(uses: &circles::Uses) -> Vec<String> {
    let mut report = Vec::new();
    for circle in circles::circles(uses) {
        report.push(format!("a circle of files: {circle:?}"));
        for file in &circle {
            let inside = uses[file].iter().filter(|(used, _)| circle.contains(*used));
            report.extend(inside.map(|(used, line)| format!("    {file}:{line} uses {used}")));
        }
    }
    report
}

/// Refuses uses between rooms that are apart.
fn check_rooms(uses: &circles::Uses, apart: &[(&str, &str)]) -> Vec<String> {
    let mut report = Vec::new();
    for (from, to) in apart {
        let room = uses.iter().filter(|(file, _)| file.starts_with(from));
        for (file, used) in room {
            let beside = used.iter().filter(|(used, _)| used.starts_with(to));
            report.extend(beside.map(|(used, line)| format!("{file}:{line} uses {used}")));
        }
    }
    report
}

fn check_source(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = check_text(path, text);
    findings.extend(check_comments(text));
    let tokens = tokenize(text);
    if !MAY_BE_UNSAFE.contains(&path) {
        findings.extend(find(
            &tokens,
            &["unsafe"],
            "`unsafe` outside the files that may be",
        ));
    }
    for name in ["todo", "unimplemented", "dbg"] {
        findings.extend(find(&tokens, &[name, "!"], &format!("`{name}!` is left")));
    }
    let Some(code) = production(path, tokens) else {
        return findings;
    };
    findings.extend(find(
        &code,
        &[".", "unwrap", "(", ")"],
        "a bare `.unwrap()`: say with `expect` why it cannot fail",
    ));
    for (folder, layers) in LAYERS {
        if let Some(inside) = path.strip_prefix(folder) {
            findings.extend(check_layers(inside, layers, &code));
        }
    }
    if PURE.iter().any(|folder| path.starts_with(folder)) {
        findings.extend(check_purity(&code));
        findings.extend(check_hash_iteration(&code));
    }
    findings
}

/// The rules that look at lines, not at code.
fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(finding(
            1,
            "does not open with `//!`: what lives here, who calls it, what it refuses to do",
        ));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        let what =
            format!("{path} has {lines} lines, more than {MAX_LINES}: which noun wants to leave?");
        findings.push(finding(MAX_LINES + 1, what));
    }
    for (index, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            findings.push(finding(index + 1, "ends with white space"));
        }
        if let Some(path) = ELSEWHERE.iter().find(|path| line.contains(**path)) {
            findings.push(finding(
                index + 1,
                format!("names a path of one machine, `{path}…`"),
            ));
        }
    }
    findings
}

/// The production code of a file: everything but its tests. `None` for a file of tests.
fn production(path: &str, mut tokens: Vec<Token>) -> Option<Vec<Token>> {
    let is_source = PRODUCTION.iter().any(|folder| path.starts_with(folder));
    if !is_source || path.ends_with("/tests.rs") || path.contains("/tests/") {
        return None;
    }
    let tests = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let tests_here = |at: &usize| {
        matches(&tokens[*at..], &tests) && tokens[*at..].get(9).is_some_and(|t| t.text == "{")
    };
    if let Some(start) = (0..tokens.len()).find(tests_here) {
        tokens.truncate(start);
    }
    Some(tokens)
}

/// One finding for each place where `pattern` stands.
fn find(tokens: &[Token], pattern: &[&str], what: &str) -> Vec<Finding> {
    let places = (0..tokens.len()).filter(|&at| matches(&tokens[at..], pattern));
    places.map(|at| finding(tokens[at].line, what)).collect()
}

/// Refuses the names that a pure folder may not have.
fn check_purity(code: &[Token]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, line) in paths(code) {
        let impure = IMPURE.iter().find(|impure| {
            let whole = path == **impure || path.starts_with(&format!("{impure}::"));
            whole || !impure.contains("::") && path.split("::").any(|segment| segment == **impure)
        });
        if let Some(impure) = impure {
            findings.push(finding(line, format!("pure code names `{impure}`")));
        } else if path.split("::").any(is_atomic) {
            findings.push(finding(
                line,
                format!("pure code names the atomic `{path}`"),
            ));
        }
    }
    findings
}

fn is_atomic(name: &str) -> bool {
    name.strip_prefix("Atomic")
        .is_some_and(|kind| kind.starts_with(|first: char| first.is_ascii_uppercase()))
}

/// Refuses imports that point up or sideways. `inside` is the path of a file from the folder of its package's sources.
fn check_layers(inside: &str, layers: Layers, code: &[Token]) -> Vec<Finding> {
    let inside = inside.trim_end_matches(".rs");
    if inside == "lib" {
        return Vec::new();
    }
    let Some((from, from_layer)) = component(inside, "/", layers) else {
        return vec![finding(
            1,
            "belongs to no layer: give it its place in `LAYERS`",
        )];
    };
    let lowest = layers.len() - 1;
    let mut findings = Vec::new();
    for (path, line) in paths(code) {
        let inner = path
            .strip_prefix("crate::")
            .or_else(|| path.strip_prefix("fanwire::"));
        let Some((to, to_layer)) = inner.and_then(|inner| component(inner, "::", layers)) else {
            continue;
        };
        let among_libraries = from_layer == lowest && to_layer == lowest;
        if from != to && to_layer <= from_layer && !among_libraries {
            findings.push(finding(
                line,
                format!("`{from}` may not use `{to}`: imports point down only"),
            ));
        }
    }
    findings
}

/// The component that a path belongs to, and its layer, 0 at the top.
fn component(path: &str, separator: &str, layers: Layers) -> Option<(&'static str, usize)> {
    let mut segments = path.split(separator);
    let first = segments.next()?;
    let second = segments.next().unwrap_or("");
    let of_layer = |name: &str| layers.iter().position(|layer| layer.contains(&name));
    let both = format!("{first}::{second}");
    let (name, layer) = of_layer(&both)
        .map(|layer| (both.as_str(), layer))
        .or(of_layer(first).map(|l| (first, l)))?;
    Some((layers[layer].iter().find(|known| **known == name)?, layer))
}

/// Refuses iteration over a hash map or set, whose order differs from run to run. It knows them by the fields and variables
/// that the same file declares.
fn check_hash_iteration(code: &[Token]) -> Vec<Finding> {
    let names = hash_names(code);
    let mut findings = Vec::new();
    for at in 0..code.len() {
        let token = &code[at];
        if !names.contains(&token.text) {
            continue;
        }
        let called = matches(&code[at + 1..], &["."])
            && code
                .get(at + 2)
                .is_some_and(|method| ITERATIONS.contains(&method.text.as_str()));
        if called || is_looped_over(code, at) {
            findings.push(finding(
                token.line,
                format!("`{}` is hashed, and has no order to go through", token.text),
            ));
        }
    }
    findings
}

/// Names declared as `name: …HashMap<…`, `name = …HashMap::…`, or the same with a set.
fn hash_names(code: &[Token]) -> BTreeSet<String> {
    let is_hashed =
        |token: &Token| token.text.ends_with("HashMap") || token.text.ends_with("HashSet");
    let mut names = BTreeSet::new();
    for at in (0..code.len()).filter(|&at| is_hashed(&code[at])) {
        // Back over the path of the type, references and wrappers, to the name in front of `:` or `=`.
        let mut back = at;
        while back > 0
            && (is_word(&code[back - 1].text)
                || matches!(code[back - 1].text.as_str(), "&" | "<" | "'"))
            || back > 1 && matches(&code[back - 2..], &[":", ":"])
        {
            back -= if code[back - 1].text == ":" { 2 } else { 1 };
        }
        if back > 1
            && matches!(code[back - 1].text.as_str(), ":" | "=")
            && is_word(&code[back - 2].text)
        {
            names.insert(code[back - 2].text.clone());
        }
    }
    names
}

/// Whether the name at `at` ends the expression of a `for`: `for x in &mut self.name {`.
fn is_looped_over(code: &[Token], at: usize) -> bool {
    let ends = code.get(at + 1).is_some_and(|next| next.text == "{");
    let mut back = at;
    while back > 0 && matches!(code[back - 1].text.as_str(), "&" | "mut" | "self" | ".") {
        back -= 1;
    }
    ends && back > 0 && code[back - 1].text == "in"
}

/// Refuses links and paths that lead nowhere.
fn check_document(text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let links = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target);
        let links = links.filter(|target| !target.contains(':') && !target.starts_with('#'));
        // Every second part of a line split at backticks is code.
        let named = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| is_path(code));
        for target in links.chain(named) {
            let file = target.split(['#', ':']).next().unwrap_or(target);
            if !exists(file) {
                findings.push(finding(index + 1, format!("`{target}` does not exist")));
            }
        }
    }
    findings
}

/// Whether code in a document names a file or a folder of the repository: it has a slash, and an end that says so.
fn is_path(code: &str) -> bool {
    let plain = code
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c));
    let relative = code.contains('/') && !code.starts_with('/') && !code.contains("//");
    let file = code.split(':').next().unwrap_or(code);
    let ends = [".rs", ".md", ".yaml", ".toml", ".proto", ".py", ".sh", "/"]
        .iter()
        .any(|end| file.ends_with(end));
    let begins = ["src/", "tests/", "benches/", ".agents/", ".ci/"]
        .iter()
        .any(|top| code.starts_with(top));
    plain && relative && (ends || begins)
}
