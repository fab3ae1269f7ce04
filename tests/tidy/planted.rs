//! Tests of the rules: each reports a snippet that breaks it, and leaves similar ones alone.

use super::*;

/// The findings in `code`, at `path`, below a proper opening.
fn found_in(path: &str, code: &str) -> Vec<String> {
    let findings = check_source(path, &format!("//! Planted.\n{code}\n"));
    findings
        .into_iter()
        .map(|found| format!("{}: {}", found.line, found.what))
        .collect()
}

fn assert_found(path: &str, code: &str, what: &str) {
    let found = found_in(path, code);
    assert!(
        found.len() == 1 && found[0].contains(what),
        "{path}: {code}: {found:?}"
    );
}

fn assert_clean(path: &str, code: &str) {
    assert_eq!(found_in(path, code), Vec::<String>::new(), "{path}: {code}");
}

#[test]
fn impure_code_is_found_in_pure_folders_only() {
    for (code, what) in [
        ("use mio::Token;", "2: pure code names `mio`"),
        ("use std::net::TcpStream;", "`std::net`"),
        ("use std::{mem, thread};", "`std::thread`"),
        (
            "use std::sync::{Arc, atomic::Ordering};",
            "`std::sync::atomic`",
        ),
        ("struct A(AtomicU64);", "atomic `AtomicU64`"),
        ("fn f() { std::thread::yield_now() }", "`std::thread`"),
        ("fn f() { let now = Instant::now(); }", "`Instant`"),
        ("fn f() -> std::time::SystemTime;", "`SystemTime`"),
    ] {
        for path in ["src/ws/a.rs", "src/http/a.rs", "src/relay/a.rs"] {
            assert_found(path, code, what);
        }
        assert_found("loadtest/src/check/received.rs", code, what);
        assert_clean("src/net/a.rs", code);
        assert_clean("loadtest/src/client/connection.rs", code);
    }
}

#[test]
fn words_in_comments_and_strings_and_longer_words_are_no_code() {
    assert_clean(
        "src/ws/a.rs",
        "// mio, std::net\n/* std::thread */ const A: &str = \"mio\\\" std::net\";",
    );
    assert_clean(
        "src/ws/a.rs",
        "const A: &str = r#\"mio \" unsafe\"#; const B: char = '\"'; type C<'a> = &'a u8;",
    );
    assert_clean(
        "src/ws/a.rs",
        "fn camio(atomically: Atomic) { internet::thread() }",
    );
}

#[test]
fn tests_are_exempt_from_purity_but_not_what_stands_before_them() {
    assert_clean(
        "src/ws/a.rs",
        "#[cfg(test)]\nmod tests { use std::thread; fn f() { a.unwrap() } }",
    );
    assert_clean("src/ws/a/tests.rs", "use std::thread;");
    assert_found(
        "src/ws/a.rs",
        "#[cfg(test)]\nmod tests;\nuse std::thread;",
        "4: pure code names `std::thread`",
    );
}

#[test]
fn going_through_a_hash_map_is_found() {
    let field = "struct A { members: HashMap<u8, u8> }";
    for code in [
        "fn f(a: &A) { for x in &a.members.keys() {} }",
        "fn f(&self) { self\n.members\n.iter(); }",
        "fn f(&mut self) { for (_, x) in &mut self.members {} }",
        "fn f(&mut self) { self.members.drain() }",
    ] {
        assert_found(
            "src/relay/a.rs",
            &format!("{field} {code}"),
            "`members` is hashed",
        );
    }
    assert_found(
        "src/relay/a.rs",
        "fn f() { let mut seen = HashSet::new(); seen.iter() }",
        "`seen` is hashed",
    );
    assert_found(
        "src/relay/a.rs",
        "fn f(s: &std::collections::HashSet<u8>) { for x in s {} }",
        "`s` is hashed",
    );
    assert_found(
        "src/relay/a.rs",
        "struct A { m: Option<HashMap<u8, u8>> } fn f() { m.values() }",
        "`m` is hashed",
    );
}

#[test]
fn asking_a_hash_map_and_going_through_ordered_things_is_allowed() {
    let code = "struct A { members: HashMap<u8, u8>, order: Vec<u8> }
        fn f(a: A) { a.members.get(&1); a.order.iter(); for x in a.order {} a.members.retain(|_, _| true); }";
    assert_clean("src/relay/a.rs", code);
}

#[test]
fn imports_that_point_up_or_sideways_are_found() {
    for (path, code, what) in [
        (
            "src/relay/a.rs",
            "use crate::net::Conn;",
            "`relay` may not use `net`",
        ),
        (
            "src/relay/a.rs",
            "use crate::{ids::Seq, mailbox::Mailbox};",
            "`relay` may not use `mailbox`",
        ),
        (
            "src/ws/a.rs",
            "use crate::relay::Shard;",
            "`ws` may not use `relay`",
        ),
        (
            "src/metrics/stats.rs",
            "use crate::net::Conn;",
            "`metrics` may not use `net`",
        ),
        (
            "src/metrics/exporter.rs",
            "use crate::net::Conn;",
            "`metrics::exporter` may not use `net`",
        ),
        (
            "src/net/a.rs",
            "fn f() { crate::server::start() }",
            "`net` may not use `server`",
        ),
        (
            "src/mailbox.rs",
            "use crate::net;",
            "`mailbox` may not use `net`",
        ),
        (
            "src/config/a.rs",
            "use crate::cli::Args;",
            "`config` may not use `cli`",
        ),
        (
            "src/cli.rs",
            "use crate::logging;",
            "`cli` may not use `logging`",
        ),
        (
            "src/net.rs",
            "use crate::metrics::{exporter, stats::Stats};",
            "`net` may not use `metrics::exporter`",
        ),
        (
            "loadtest/src/check/a.rs",
            "use crate::client::Client;",
            "`check` may not use `client`",
        ),
        (
            "loadtest/src/clock.rs",
            "use crate::scenario;",
            "`clock` may not use `scenario`",
        ),
    ] {
        assert_found(path, code, what);
    }
}

#[test]
fn imports_that_point_down_are_allowed() {
    assert_clean(
        "src/main.rs",
        "use fanwire::{cli, config::Config, server::Relay};",
    );
    assert_clean(
        "src/server/mod.rs",
        "use crate::net::Worker; use crate::metrics::exporter::Exporter;",
    );
    assert_clean(
        "src/net/a.rs",
        "use crate::net::b; use crate::{mailbox::Mailbox, relay::Shard, ws};",
    );
    assert_clean("src/ws/handshake.rs", "use crate::http::request::Request;");
    assert_clean("src/metrics/exporter.rs", "use crate::metrics::catalogue;");
    assert_clean(
        "loadtest/src/client/a.rs",
        "use crate::{check::Order, clock::Clock, scenario};",
    );
}

/// The circles among files with this code, each as one line.
fn circles_in(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(path, code)| {
        let code = production(path, tokenize(code)).expect("no test");
        (path.to_string(), code)
    });
    circles::circles(&circles::uses(&sources.collect()))
        .into_iter()
        .map(|circle| circle.into_iter().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn files_that_use_each_other_are_found() {
    for (a, b) in [
        ("use crate::b::B;", "use crate::a::A;"),
        ("use crate::b::{self, C};", "use super::a::{D, A};"),
        (
            "use crate::b; fn f() { b::g() }",
            "fn g() { crate::a::f() }",
        ),
        (
            "use super::b as c; struct A(c::B);",
            "use crate::{x, a::*};",
        ),
        (
            "use crate::b::B as C; struct A;",
            "pub use super::a::A; struct B(A);",
        ),
    ] {
        let found = circles_in(&[("src/a.rs", a), ("src/b.rs", b), ("src/lib.rs", "")]);
        assert_eq!(found, ["src/a.rs src/b.rs"], "{a} {b}");
        let found = circles_in(&[("loadtest/src/a.rs", a), ("loadtest/src/b.rs", b)]);
        assert_eq!(found, ["loadtest/src/a.rs loadtest/src/b.rs"], "{a} {b}");
    }
}

#[test]
fn a_parent_and_a_child_that_use_each_other_are_found() {
    for (parent, child) in [
        ("mod b; use self::b::B; struct A;", "use super::A;"),
        ("mod b; struct A(b::B);", "use crate::a::A;"),
        ("mod b; pub use b::B; struct A(B);", "fn f(a: super::A) {}"),
        ("mod b; use b::*; struct A;", "use super::*;"),
    ] {
        let found = circles_in(&[("src/a/mod.rs", parent), ("src/a/b.rs", child)]);
        assert_eq!(found, ["src/a/b.rs src/a/mod.rs"], "{parent} {child}");
        let found = circles_in(&[("src/a.rs", parent), ("src/a/b.rs", child)]);
        assert_eq!(found, ["src/a.rs src/a/b.rs"], "{parent} {child}");
    }
}

#[test]
fn a_circle_through_others_is_found_whole_and_names_are_followed_to_where_they_are_defined() {
    let found = circles_in(&[
        ("src/a.rs", "use crate::b::B;"),
        ("src/b.rs", "use crate::c::D;"),
        ("src/c/mod.rs", "mod d; pub use self::d::D;"),
        ("src/c/d.rs", "use crate::a::A;"),
        ("src/e.rs", "use crate::a::A;"),
    ]);
    assert_eq!(found, ["src/a.rs src/b.rs src/c/d.rs"]);
}

#[test]
fn declaring_a_module_and_handing_on_its_names_makes_no_circle() {
    for (parent, child) in [
        ("mod b; pub use self::b::B; struct A;", "use super::A;"),
        ("pub mod b; pub(crate) use b::*; struct A;", "use super::A;"),
        (
            "mod b; struct A(b::B);",
            "struct B; #[cfg(test)] mod tests { use super::super::A; }",
        ),
        ("mod b; mod c; use b::B; use c::C;", "use super::c::C;"),
        ("mod b; mod c; use b::B; use c::C;", "use super::C;"),
        (
            "mod b; use b::B; struct A;",
            "// super::A\nfn f(a: &str) { a::A; g(\"super::A\") }",
        ),
    ] {
        let files = [
            ("src/a/mod.rs", parent),
            ("src/a/b.rs", child),
            ("src/a/c.rs", ""),
        ];
        assert_eq!(circles_in(&files), [""; 0], "{parent} {child}");
    }
}

#[test]
fn a_circle_and_a_room_that_uses_another_are_reported_with_the_line() {
    let sources = [
        ("src/a/x.rs", "use crate::b::y::B;\npub struct A;"),
        ("src/b/y.rs", "use crate::a::x::A;\npub struct B;"),
        ("src/a/mod.rs", "pub mod x;"),
        ("src/b/mod.rs", "pub mod y;"),
    ];
    let sources = sources.map(|(path, code)| (path.to_owned(), tokenize(code)));
    let uses = circles::uses(&sources.into());
    let report = check_circles(&uses).join("\n");
    assert!(report.contains("src/b/y.rs:1 uses src/a/x.rs"), "{report}");
    assert_eq!(
        check_rooms(&uses, &[("src/a/", "src/b/"), ("src/a/", "src/c/")]),
        ["src/a/x.rs:1 uses src/b/y.rs"]
    );
}

#[test]
fn a_component_without_a_layer_is_found() {
    assert_found("src/stray/a.rs", "", "belongs to no layer");
    assert_found("loadtest/src/stray.rs", "", "belongs to no layer");
}

#[test]
fn what_panics_or_is_unfinished_is_found() {
    assert_found(
        "src/net/a.rs",
        "fn f() { a\n.unwrap() }",
        "3: a bare `.unwrap()`",
    );
    assert_found(
        "loadtest/src/client/a.rs",
        "fn f() { a.unwrap() }",
        "2: a bare `.unwrap()`",
    );
    assert_found("src/net/a.rs", "fn f() { todo!() }", "`todo!` is left");
    assert_found(
        "tests/a.rs",
        "fn f() { unimplemented!() }",
        "`unimplemented!` is left",
    );
    assert_found("tests/a.rs", "fn f() { dbg!(1) }", "`dbg!` is left");
    assert_found(
        "benches/a.rs",
        "fn f() { unsafe { g() } }",
        "`unsafe` outside",
    );
    assert_clean(
        "src/net/a.rs",
        "fn f() { a.unwrap_or(1); b.unwrap_or_default(); todo(); }",
    );
    assert_clean("tests/a.rs", "fn f() { a.unwrap() }");
    assert_clean("loadtest/tests/it/a.rs", "fn f() { a.unwrap() }");
}

/// A comment of this many words, in lines that begin with `kind`.
fn comment(kind: &str, words: usize) -> String {
    let lines = vec!["word"; words];
    let lines = lines
        .chunks(9)
        .map(|line| format!("{kind} {}\n", line.join(" ")));
    lines.collect()
}

#[test]
fn long_paragraphs_of_comments_are_found() {
    for kind in ["//", "///", "    //"] {
        assert_found("src/net/a.rs", &comment(kind, 61), "2: a paragraph of 61");
        assert_found("tests/a.rs", &comment(kind, 61), "2: a paragraph of 61");
        assert_clean("src/net/a.rs", &comment(kind, 60));
    }
    let item = format!("/// - {}", comment("///", 62).split_off(4));
    let list = format!("/// Items:\n{item}/// - One.");
    assert_found("benches/a.rs", &list, "3: a paragraph of 62");
    let block = format!("/*\n{}\n*/", ["word"; 61].join("\n"));
    assert_found("loadtest/tests/a.rs", &block, "3: a paragraph of 61");
}

#[test]
fn long_lines_of_comments_are_found_and_those_of_code_are_not() {
    for kind in ["//", "///", "//!"] {
        let line = |chars: usize| format!("{kind} {}", "é".repeat(chars - kind.len() - 1));
        let found = "2: a comment in a line of 131";
        assert_found("tests/a.rs", &line(131), found);
        assert_clean("tests/a.rs", &line(130));
    }
    let code = format!("const A: &str = \"{}\";", "a".repeat(130));
    assert_clean("tests/a.rs", &code);
}

#[test]
fn each_paragraph_item_and_comment_is_counted_alone_and_code_and_tables_are_not() {
    let whole = comment("///", 60);
    for between in [
        "///\n",
        "//\n",
        "fn f() {}\n",
        "/// - An item.\n/// 1. An item.\n/// # Errors\n",
        "/// # Errors\n",
        "/// ```\n",
        "\n",
    ] {
        assert_clean("src/net/a.rs", &format!("{whole}{between}{whole}"));
    }
    let (docs, comments) = (whole, comment("//", 60));
    assert_clean("src/net/a.rs", &format!("{docs}{comments}"));
    let lines = "f(); // word word word\n".repeat(30);
    assert_clean("src/net/a.rs", &lines);
    let code = format!("/// ```text\n{}/// ```\n/// Words.", comment("///", 80));
    assert_clean("src/net/a.rs", &code);
    assert_clean("src/net/a.rs", &comment("/// |", 80));
    let string = format!("const A: &str = \"\n{}\";", comment("//", 80));
    assert_clean("src/net/a.rs", &string);
}

#[test]
fn sentences_of_comments_without_a_subject_in_front_are_found() {
    for (code, what) in [
        ("// What comes is read.", "2: a sentence begins with `What`"),
        (
            "/// It reads.\n/// Where it ends,\n/// it stops.",
            "3: a sentence begins with `Where`",
        ),
        (
            "/// It reads (all of it.) Whoever waits is served.",
            "`Whoever`",
        ),
        ("/// - Who waits.", "`Who`"),
        ("f(); // That is late.", "`That`"),
        (
            "/* It waits.\nWhatever comes. */",
            "3: a sentence begins with `Whatever`",
        ),
        ("/// `a`. Whose: b.", "`Whose`"),
        (
            "/// ```\nf();\n/// What comes.",
            "4: a sentence begins with `What`",
        ),
    ] {
        assert_found("src/net/a.rs", code, what);
        assert_found("loadtest/benches/a.rs", code, what);
    }
}

#[test]
fn other_sentences_strings_and_the_same_words_elsewhere_are_left_alone() {
    for code in [
        "/// Whether it ends.",
        "/// It reads\n/// What: the type.",
        "/// Whatsoever. `What` is a type, e.g. a name.",
        "/// It knows who waits, what for and where. It says that.",
        "const A: &str = \"a. What b // What\\n// What\";",
        "const A: &str = r#\"\n// What\n\"#; const B: char = '\"'; // It ends.",
        "/// ```\n/// // What\n/// ```",
    ] {
        assert_clean("src/net/a.rs", code);
    }
}

#[test]
fn files_without_an_opening_or_without_an_end_are_found() {
    let found = check_source("src/net/a.rs", "fn f() {}\n");
    assert!(
        found[0].what.contains("does not open with `//!`"),
        "{found:?}"
    );
    assert_found(
        "src/net/a.rs",
        &"\n".repeat(MAX_LINES),
        "which noun wants to leave?",
    );
    assert_clean("src/net/a.rs", &"\n".repeat(MAX_LINES - 2));
}

#[test]
fn white_space_at_the_end_and_paths_of_one_machine_are_found() {
    assert_found(
        "src/net/a.rs",
        "fn f() {} \nfn g() {}",
        "2: ends with white space",
    );
    assert_found(
        "src/net/a.rs",
        &format!("// see {}me/a", ELSEWHERE[0]),
        "names a path of one machine",
    );
}

#[test]
fn dead_links_and_paths_in_documents_are_found() {
    let exists = |target: &str| matches!(target, "src/lib.rs" | "AGENTS.md" | "src/ws/");
    let document =
        "[a](AGENTS.md#x) `src/lib.rs` `src/ws/`\n[b](gone.md) `src/gone.rs:12`\n`ws/gone.rs`";
    let found: Vec<String> = check_document(document, exists)
        .into_iter()
        .map(|f| format!("{}: {}", f.line, f.what))
        .collect();
    assert_eq!(
        found,
        [
            "2: `gone.md` does not exist",
            "2: `src/gone.rs:12` does not exist",
            "3: `ws/gone.rs` does not exist"
        ]
    );
}

#[test]
fn addresses_of_the_web_anchors_and_other_code_are_no_paths() {
    let document = "[a](https://example.org/b) [c](#d) `GET /metrics` `text/plain` `a::b` `/livez` `ws/{a,b}.rs`";
    assert_eq!(check_document(document, |_| false), []);
}
