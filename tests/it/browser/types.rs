//! `clients/fanwire.d.ts` describes `clients/fanwire.js`. The compiler of TypeScript is not at hand here, so names are compared.

use std::collections::BTreeSet;

const CLIENT: &str = include_str!("../../../clients/fanwire.js");
const TYPES: &str = include_str!("../../../clients/fanwire.d.ts");

/// The words between each `before` and the next character that is not of a word.
fn words<'a>(text: &'a str, before: &str) -> BTreeSet<&'a str> {
    let behind = text.split(before).skip(1);
    let is_other = |character: char| !character.is_ascii_alphanumeric();
    behind
        .map(|rest| rest.split(is_other).next().unwrap())
        .collect()
}

/// The part of the types behind `heading`, up to the end of its block.
fn block(heading: &str) -> &'static str {
    let (_, rest) = TYPES.split_once(heading).unwrap();
    rest.split("\n}").next().unwrap()
}

/// The names of the members in a block of types: the first word of each line with two blanks in front.
fn members(block: &'static str) -> BTreeSet<&'static str> {
    let lines = block.lines().filter_map(|line| line.strip_prefix("  "));
    let lines = lines.map(|line| line.strip_prefix("readonly ").unwrap_or(line));
    let is_other = |character: char| !character.is_ascii_alphanumeric();
    let names = lines.map(|line| line.split(is_other).next().unwrap());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_client_has_at_most_120_lines() {
    assert!(CLIENT.lines().count() <= 120);
}

#[test]
fn the_types_have_the_events_of_the_client_and_their_facts() {
    let events = words(CLIENT, "this.#tell(\"");
    assert_eq!(members(block("interface FanwireEventMap {")), events);
    for event in events {
        let (_, call) = CLIENT
            .split_once(&format!("this.#tell(\"{event}\", {{ "))
            .unwrap();
        let (facts, _) = call.split_once(" })").unwrap();
        let facts = facts
            .split(", ")
            .map(|fact| fact.split(':').next().unwrap());
        let name = event[..1].to_uppercase() + &event[1..];
        let described = members(block(&format!(
            "interface Fanwire{name}Event extends Event {{"
        )));
        assert_eq!(described, facts.collect(), "{event}");
    }
}

#[test]
fn the_types_have_the_options_and_members_of_the_client() {
    let mut options = words(CLIENT, "this.#options.");
    options.extend(words(CLIENT, " options."));
    assert_eq!(members(block("interface FanwireOptions {")), options);
    let described = members(block("class Fanwire extends EventTarget {"));
    // Inherited members are described, too.
    let inherited = ["addEventListener", "type", "listener", "options"];
    let described: BTreeSet<_> = described
        .into_iter()
        .filter(|name| !inherited.contains(name))
        .collect();
    assert_eq!(
        described,
        ["at", "close", "constructor", "send", "state"].into()
    );
    for member in described {
        let is_there = |form: &str| CLIENT.contains(&format!("\n  {form}{member}("));
        assert!(is_there("") || is_there("get "), "{member}");
    }
}
