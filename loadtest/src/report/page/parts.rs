//! The parts of pages: charts in their figures, tiles, tables of facts, texts from outside.

use maud::{Markup, html};

use crate::report::Verdict;
use crate::report::chart::{Chart, Ranks};
use crate::report::document::{Configuration, Machine};
use crate::report::unit::Unit;
use crate::scenario::options::Pace;
use crate::scenario::payload::Payload;

/// A chart with its heading, its legend and a sentence about it.
pub(super) fn chart(chart: &Chart, id: &str, note: &str) -> Markup {
    html! {
        figure {
            figcaption { h3 { (chart.title) } p { (note) } }
            @if chart.series.len() > 1 { (chart.legend()) }
            (chart.svg(id))
        }
    }
}

/// The same for a chart of rows.
pub(super) fn ranks(ranks: &Ranks, id: &str, note: &str) -> Markup {
    html! {
        figure {
            figcaption { h3 { (ranks.title) } p { (note) } }
            (ranks.svg(id))
        }
    }
}

/// A verdict in its colour.
pub(super) fn badge(verdict: Verdict) -> Markup {
    match verdict {
        Verdict::Passed => html! { span.badge.passed { "Passed" } },
        Verdict::Limited => {
            html! { span.badge.absent { "Passed, but the generator was the limit" } }
        }
        Verdict::Failed => html! { span.badge.failed { "Failed" } },
    }
}

/// A tile with a key figure.
pub(super) fn tile(name: &str, value: &str, more: &str) -> Markup {
    html! {
        div.tile { dt { (name) } dd { (value) @if !more.is_empty() { span.more { (more) } } } }
    }
}

/// A name and its value, if it has one.
pub(super) type Fact = (&'static str, Option<String>);

/// A table of facts; those without a value are left out.
pub(super) fn facts(rows: &[Fact]) -> Markup {
    html! {
        table.facts { tbody {
            @for (name, value) in rows {
                @if let Some(value) = value { tr { th scope="row" { (name) } td { (value) } } }
            }
        } }
    }
}

/// A table that may be wider than its place. It can be scrolled, also with keys, and its edges show that there is more.
pub(super) fn scroll(name: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" aria-label=(name) tabindex="0" { (table) } }
}

/// Sentences in a colour, so that nobody overlooks them.
pub(super) fn notes(class: &str, name: &str, sentences: &[String]) -> Markup {
    html! {
        @if !sentences.is_empty() {
            ul class={ "notes " (class) } aria-label=(name) { @for one in sentences { li { (one) } } }
        }
    }
}

/// A command line, as a shell would take it.
pub(super) fn command(words: &[String]) -> Markup {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    html! { pre.command { code { (quoted.join(" ")) } } }
}

fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The facts about the load.
pub(super) fn configuration(configuration: &Configuration) -> Markup {
    let pace = configuration
        .pace
        .map_or("nothing is sent".to_owned(), |pace| match pace {
            Pace::Rate(rate) => format!("open loop, {} messages a second", Unit::Count.show(rate)),
            Pace::Window(window) => format!("closed loop, {window} in flight per publisher"),
        });
    let topics = if configuration.topics == configuration.active_topics {
        configuration.topics.to_string()
    } else {
        format!(
            "{}, of which {} active",
            configuration.topics, configuration.active_topics
        )
    };
    let count = |value: usize| Some(Unit::Count.show(value as f64));
    facts(&[
        ("URL", Some(configuration.url.clone())),
        ("Scenario", Some(configuration.scenario.name())),
        ("Subscribers", count(configuration.subscribers)),
        (
            "Of these by server-sent events",
            count(configuration.sse_subscribers).filter(|_| configuration.sse_subscribers > 0),
        ),
        ("Publishers", count(configuration.publishers)),
        ("Topics", Some(topics)),
        ("Payload", Some(payload(configuration))),
        ("Pace", Some(pace)),
        (
            "Warm-up",
            Some(Unit::Seconds.show(configuration.warmup_seconds)),
        ),
        ("Threads of the generator", count(configuration.threads)),
        (
            "They sleep",
            Some(
                if configuration.busy_poll {
                    "never"
                } else {
                    "when nothing comes"
                }
                .to_owned(),
            ),
        ),
        (
            "Generator",
            Some(format!("loadtest {}", configuration.version)),
        ),
    ])
}

/// Size and kind of the messages.
pub(super) fn payload(configuration: &Configuration) -> String {
    let opcode = configuration.opcode.name();
    let kind = match configuration.payload {
        Payload::Fixed => String::new(),
        other => format!(", {}", other.name()),
    };
    format!(
        "{}, {opcode}{kind}",
        Unit::Bytes.show(configuration.payload_bytes as f64)
    )
}

/// The facts about the machine, and more facts.
pub(super) fn machine(machine: &Machine, more: &[Fact]) -> Markup {
    let mut rows: Vec<Fact> = vec![
        ("Processor", Some(machine.processor.clone())),
        ("Kernel", Some(machine.kernel.clone())),
        (
            "Processors for the generator",
            Some(machine.cpus.to_string()),
        ),
    ];
    rows.extend(more.iter().cloned());
    facts(&rows)
}

/// A moment as a date and time of day, UTC.
pub(super) fn date(unix_seconds: u64) -> String {
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_seconds);
    let text = humantime::format_rfc3339_seconds(moment).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}
