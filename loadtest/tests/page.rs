//! The pages of real runs, opened in a real browser, wide and narrow.

#![allow(clippy::unwrap_used, reason = "a test may panic where it stands")]
#![allow(unreachable_pub, reason = "modules of a test are its own")]

use std::fs;
use std::path::{Path, PathBuf};

use browser::Browser;
use servers::{SHORT, floor, loadtest};

mod browser;
mod servers;

/// A desk and a phone.
const WIDTHS: [u32; 2] = [1200, 390];

/// The page of a short run against a floor.
fn page_of_a_run(folder: &Path) -> PathBuf {
    let floor = floor();
    let url = format!("ws://{}/it", floor.address);
    let page = folder.join("run.html");
    let output = loadtest(&[
        "--url",
        &url,
        "--server-pid",
        &floor.pid().to_string(),
        "--subscribers",
        "10",
        "--duration",
        "1s",
        "--warmup",
        "200ms",
        "--html",
        page.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{output:?}");
    page
}

#[test]
fn the_page_of_a_run_draws_its_charts_shows_values_and_loads_nothing() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = page_of_a_run(folder.path());
    for width in WIDTHS {
        let nothing: &[String] = &[];
        assert_eq!(browser.inspect(&page, width), nothing, "at {width} pixels");
        let shown = browser.hover("chart-percentiles");
        assert!(
            shown.contains('%') && shown.contains("deliveries: "),
            "{shown:?}"
        );
    }
    assert_eq!(
        browser.evaluate("document.querySelectorAll('svg.chart').length"),
        5,
        "nothing was lost or late, so there is no chart of that"
    );
    // The browser is as wide as a phone now.
    let table = "document.querySelector('.scroll')";
    let is_wider = browser.evaluate(&format!("{table}.scrollWidth > {table}.clientWidth"));
    let shadow = browser.evaluate(&format!("getComputedStyle({table}).backgroundAttachment"));
    assert_eq!(
        (is_wider.as_bool(), shadow),
        (Some(true), "local, local, scroll, scroll".into())
    );
    // The policy forbids a script from elsewhere.
    browser.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'var planted = 1' }))",
    );
    assert_eq!(browser.evaluate("typeof planted"), "undefined");
}

#[test]
fn the_page_of_a_comparison_draws_its_charts_and_loads_nothing() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("compare.html");
    let running = floor();
    let long = format!(
        "a-name-that-is-longer-than-a-column=ws://{}/it",
        running.address
    );
    let servers = [
        "compare",
        "--servers",
        "floor,floor-frame",
        "--server",
        &long,
    ];
    let rest = ["--repeats", "2", "--html", page.to_str().unwrap()];
    let output = loadtest(&[&servers[..], &SHORT, &rest].concat());
    assert!(output.status.success(), "{output:?}");
    for width in WIDTHS {
        let nothing: &[String] = &[];
        assert_eq!(browser.inspect(&page, width), nothing, "at {width} pixels");
    }
    let shown = browser.hover("chart-percentiles");
    assert!(
        shown.contains("floor: ") && shown.contains("floor-frame: "),
        "{shown:?}"
    );
}

/// The inspection itself: a page with a fault in it must not pass.
#[test]
fn a_page_with_a_broken_script_a_broken_chart_or_something_to_load_is_found_out() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = page_of_a_run(folder.path());
    let whole = fs::read_to_string(&page).unwrap();
    let line = "<path class=\"line c0\" d=\"M72";
    let faults = [
        ("\"use strict\";", "\"use strict\"; nothing.here;", "log: "),
        (
            "</main>",
            "</main><img src=\"http://127.0.0.1:1/pixel\">",
            "log: ",
        ),
        (
            line,
            "<path class=\"line c0\" d=\"M-720",
            "outside of its frame",
        ),
        (line, "<path class=\"line c0\" d=\"X", "an empty line"),
        (
            "<text class=\"y\" x=\"",
            "<text class=\"y\" x=\"-9",
            "cut off",
        ),
        ("<main>", "<main><p style=\"\">", "log: "),
    ];
    for (sound, fault, found) in faults {
        let broken = whole.replacen(sound, fault, 1);
        assert_ne!(broken, whole, "{sound} is in the page");
        fs::write(&page, broken).unwrap();
        let findings = browser.inspect(&page, WIDTHS[0]);
        assert!(
            findings.iter().any(|finding| finding.contains(found)),
            "{fault}: {findings:?}"
        );
    }
}
