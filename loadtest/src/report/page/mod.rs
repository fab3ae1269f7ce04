//! Pages: a [`Report`] or a [`Comparison`] as one HTML file, with everything in it.
//!
//! A page loads nothing. Its policy allows the one script and the one style in the page, by their hashes, and forbids
//! all else. `maud` escapes all text that is not our own markup, such as addresses,
//! command lines and configurations.

mod charts;
mod comparison;
mod parts;
mod returns;
mod run;

use data_encoding::BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::report::Verdict;
use crate::report::chart;
use crate::report::document::{Comparison, Report};

const STYLE: &str = include_str!("page.css");

/// Shows values under the pointer.
const SCRIPT: &str = include_str!("page.js");

/// The page of one run.
pub(crate) fn of_run(report: &Report) -> String {
    let verdict = match report.verdict() {
        Verdict::Passed => "passed",
        Verdict::Limited => "passed, but the generator was the limit",
        Verdict::Failed => "failed",
    };
    let title = format!("{verdict}: {}", report.configuration.url);
    document(&title, &run::body(report))
}

/// The page of several servers under the same load.
pub(crate) fn of_comparison(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    document(
        &format!("compared: {}", names.join(", ")),
        &comparison::body(comparison),
    )
}

fn document(title: &str, body: &Markup) -> String {
    let style = [chart::STYLE, STYLE].concat();
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(&style)
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(&style)) }
            }
            body {
                main { (body) }
                div #tip role="status" hidden {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// An expression for the policy that allows exactly this text.
fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    format!("sha256-{}", BASE64.encode(digest.as_ref()))
}

#[cfg(test)]
mod tests;
