//! Checks all dependencies against `deny.toml`: licences, sources, banned crates and duplicates.
//!
//! cargo-deny checks the same and more, especially advisories. This test needs no tool and no network: cargo itself
//! lists the packages in the lock file that this system builds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A package of the tree.
#[derive(Debug)]
struct Package {
    name: String,
    licence: Option<String>,
    /// The registry; none for our own packages.
    source: Option<String>,
}

/// The packages that this system may build, with those for tests.
fn packages() -> Vec<Package> {
    let args = [
        "metadata",
        "--format-version=1",
        "--filter-platform=host-tuple",
    ];
    let metadata: Value = serde_json::from_str(&cargo(&args)).expect("JSON");
    let text = |package: &Value, key: &str| package[key].as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().expect("a list");
    let packages = packages.iter().map(|package| Package {
        name: text(package, "name").expect("a name"),
        licence: text(package, "license"),
        source: text(package, "source"),
    });
    packages.collect()
}

/// The names and versions that this system does build, with the default features.
fn built() -> BTreeSet<(String, String)> {
    let lines = cargo(&[
        "tree",
        "--workspace",
        "--edges=normal,build,dev",
        "--prefix=none",
    ]);
    let packages = lines.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split(' ').next()?;
        Some((name.to_owned(), version.to_owned()))
    });
    packages.collect()
}

/// The output of a cargo command on the locked tree.
fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .args(["--locked", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args:?}: {complaint}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).expect("a readable file")
}

/// The strings on each line of a list in `deny.toml`. A list has one line per entry, or is on one line.
fn list(section: &str, key: &str) -> Vec<Vec<String>> {
    let deny = file("deny.toml");
    let section = format!("[{section}]");
    let lines = deny.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let head = format!("{key} = [");
    let mut lines = lines.skip_while(|line| !line.starts_with(&head));
    let first = lines.next().expect("the list is there");
    if let Some(members) = first.strip_suffix(']') {
        return strings(members).into_iter().map(|one| vec![one]).collect();
    }
    let members = lines.take_while(|line| *line != "]");
    let members = members.filter(|line| !line.trim_start().starts_with('#'));
    members.map(strings).collect()
}

/// The texts in quotation marks.
fn strings(line: &str) -> Vec<String> {
    line.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The licences in `deny.toml`: those for all crates, and the exceptions.
struct Licences {
    allowed: BTreeSet<String>,
    exceptions: BTreeMap<String, BTreeSet<String>>,
}

impl Licences {
    fn read() -> Licences {
        let exceptions = list("licenses", "exceptions").into_iter().map(|mut line| {
            let name = line.remove(0);
            (name, line.into_iter().collect())
        });
        Licences {
            allowed: list("licenses", "allow").into_iter().flatten().collect(),
            exceptions: exceptions.collect(),
        }
    }

    /// Whether the licences allow a crate with this SPDX expression.
    fn allow(&self, name: &str, expression: &str) -> bool {
        let exceptions = self.exceptions.get(name);
        let is_allowed = |licence: &str| {
            self.allowed.contains(licence)
                || exceptions.is_some_and(|these| these.contains(licence))
        };
        // Older crates use `/` for OR.
        let spaced = expression.replace('/', " OR ");
        let spaced = spaced.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut words = &words[..];
        let is_satisfied = any(&mut words, &is_allowed);
        assert!(words.is_empty(), "{name}: cannot parse {expression:?}");
        is_satisfied
    }
}

/// `all OR all …`
fn any(words: &mut &[&str], is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut satisfied = all(words, is_allowed);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        satisfied |= all(words, is_allowed);
    }
    satisfied
}

/// `one AND one …`
fn all(words: &mut &[&str], is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut satisfied = one(words, is_allowed);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        satisfied &= one(words, is_allowed);
    }
    satisfied
}

/// A licence, perhaps with an exception, or an expression in parentheses.
fn one(words: &mut &[&str], is_allowed: &dyn Fn(&str) -> bool) -> bool {
    match **words {
        ["(", ref rest @ ..] => {
            *words = rest;
            let satisfied = any(words, is_allowed);
            *words = words.strip_prefix(&[")"]).expect("a parenthesis is closed");
            satisfied
        }
        [licence, "WITH", exception, ref rest @ ..] => {
            *words = rest;
            is_allowed(&format!("{licence} WITH {exception}"))
        }
        [licence, ref rest @ ..] => {
            *words = rest;
            is_allowed(licence)
        }
        [] => panic!("the expression is incomplete"),
    }
}

#[test]
fn every_licence_is_allowed() {
    let licences = Licences::read();
    assert!(licences.allowed.contains("MIT"), "deny.toml was not read");
    for Package { name, licence, .. } in packages() {
        let licence = licence.unwrap_or_else(|| panic!("{name} has no licence"));
        assert!(
            licences.allow(&name, &licence),
            "{name} is {licence}, which deny.toml does not allow"
        );
    }
}

#[test]
fn every_package_is_a_release_of_one_registry_with_its_checksum() {
    let lock = file("Cargo.lock");
    let ours = packages().into_iter().filter(|one| one.source.is_none());
    let ours: BTreeSet<String> = ours.map(|package| package.name).collect();
    let mut registries = BTreeSet::new();
    for entry in lock.split("[[package]]\n").skip(1) {
        let of = |key: &str| {
            let line = entry.lines().find(|line| line.starts_with(key));
            line.and_then(|line| strings(line).pop())
        };
        let name = of("name = ").expect("a name");
        if ours.contains(&name) {
            continue;
        }
        let source = of("source = ").unwrap_or_else(|| panic!("{name} has no source"));
        assert!(source.starts_with("registry+"), "{name} is from {source}");
        assert!(of("checksum = ").is_some(), "{name} has no checksum");
        registries.insert(source);
    }
    assert_eq!(registries.len(), 1, "{registries:?}");
}

#[test]
fn no_crate_is_banned_and_none_is_there_twice_without_a_reason() {
    let unwanted: BTreeSet<String> = list("bans", "deny")
        .into_iter()
        .map(|mut line| line.remove(0))
        .collect();
    assert!(unwanted.contains("tokio"), "deny.toml was not read");
    let skipped: Vec<String> = list("bans", "skip").into_iter().flatten().collect();
    let is_skipped = |name: &str, version: &str| {
        let mut skipped = skipped.iter().filter_map(|skip| skip.split_once('@'));
        skipped.any(|(other, prefix)| {
            let rest = version.strip_prefix(prefix);
            name == other && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let built = built();
    assert!(built.len() > 50, "cargo tree was not read: {built:?}");
    let mut seen = BTreeSet::new();
    for (name, version) in &built {
        assert!(!unwanted.contains(name), "deny.toml bans {name}");
        let is_first = is_skipped(name, version) || seen.insert(name);
        assert!(
            is_first,
            "{name} {version} is a second version without an exception in deny.toml"
        );
    }
}

#[test]
fn licence_expressions_are_understood() {
    let licences = Licences {
        allowed: BTreeSet::from(["MIT".into(), "Apache-2.0 WITH LLVM-exception".into()]),
        exceptions: BTreeMap::from([("ring".into(), BTreeSet::from(["ISC".into()]))]),
    };
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT OR GPL-3.0 AND GPL-2.0", true),
        ("(MIT OR GPL-3.0) AND GPL-2.0", false),
        ("(MIT OR GPL-3.0) AND MIT", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT AND ISC", false),
    ] {
        assert_eq!(
            licences.allow("other", expression),
            expected,
            "{expression}"
        );
    }
    assert!(licences.allow("ring", "MIT AND ISC"));
}
