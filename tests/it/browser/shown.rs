//! The page to try a topic, in Chromium: it connects, sends, shows and comes back, and its policy forbids nothing that it does.

use std::net::SocketAddr;

use fanwire::config::Config;

use super::devtools::Browser;
use super::line::Line;
use crate::support::{World, config};
use crate::tls_support::TlsWorld;

/// The texts of all rows with messages.
const ROWS: &str = "[...document.querySelectorAll('#log .text span, #log .binary span')].map((row) => row.textContent).join('|')";

fn with_history() -> Config {
    let mut config = config(2);
    config.history.max_age = std::time::Duration::from_mins(1);
    config
}

fn is_connected() -> &'static str {
    "document.querySelector('#state').dataset.state === 'open'"
}

fn text_of(id: &str) -> String {
    format!("document.getElementById('{id}').textContent")
}

fn send(browser: &mut Browser, text: &str) {
    browser.evaluate(&format!(
        "document.querySelector('#text').value = '{text}', document.querySelector('#form').requestSubmit()"
    ));
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/a%20room?last=5")
}

#[test]
fn the_page_sends_shows_and_comes_back() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let world = World::with(&with_history());
    let line = Line::to(world.relay.address());
    let mut other = world.connect("/a room".replace(' ', "%20").as_str());
    for scheme in ["dark", "light"] {
        browser.open(&url(line.address()), scheme);
        browser.wait_for(is_connected());
        assert_eq!(browser.evaluate("document.title"), "/a room · fanwire");
        // The page itself, and the other one.
        browser.wait_for(&format!("{} === '2'", text_of("members")));
        assert_eq!(
            browser.evaluate("document.getElementById('crowd').hidden"),
            false
        );
        send(&mut browser, &format!("from the page, {scheme}"));
        assert_eq!(other.hear(), format!("from the page, {scheme}"));
        // A message is shown as it is, and never read as markup.
        let markup = "<img src=x onerror=alert(1)><script>alert(2)</script>";
        other.say(markup);
        assert_eq!(other.hear(), markup);
        browser.wait_for(&format!("{ROWS}.endsWith('<script>alert(2)</script>')"));
        assert_eq!(
            browser.evaluate("document.querySelectorAll('#log img, #log script').length"),
            0
        );
        line.go_down();
        browser.wait_for(&format!("!({})", is_connected()));
        other.say("missed");
        assert_eq!(other.hear(), "missed");
        line.come_up();
        browser.wait_for(&format!("{ROWS}.endsWith('|missed')"));
        browser.wait_for(&format!("{} === '1'", text_of("reconnects")));
        assert_eq!(browser.evaluate(&text_of("lost")), "0");
        let position = browser.evaluate(&text_of("position"));
        assert!(position.as_str().unwrap().contains('-'), "{position}");
        // The button ends the connection for good, and the next one goes on there.
        browser.evaluate("document.getElementById('toggle').click()");
        browser.wait_for("document.querySelector('#state').dataset.state === 'closed'");
        other.say("missed as well");
        assert_eq!(other.hear(), "missed as well");
        browser.evaluate("document.getElementById('toggle').click()");
        browser.wait_for(&format!("{ROWS}.endsWith('|missed|missed as well')"));
        keep_picture(&mut browser, scheme);
        assert_eq!(faults(&mut browser), [""; 0]);
    }
    drop((browser, line, other));
    world.end();
}

#[test]
fn the_page_uses_wss_where_the_port_speaks_tls() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let tls = TlsWorld::start();
    let address = tls.address();
    browser.open(
        &format!("https://localhost:{}/room", address.port()),
        "light",
    );
    browser.wait_for(is_connected());
    send(&mut browser, "sealed");
    browser.wait_for(&format!("{ROWS} === 'sealed'"));
    // Without a history the page says what that means.
    browser.wait_for("!document.getElementById('note').hidden");
    assert_eq!(faults(&mut browser), [""; 0]);
    drop(browser);
    tls.world.end();
}

/// The faults of the page. Its network may be down.
fn faults(browser: &mut Browser) -> Vec<String> {
    let mut faults = browser.faults();
    let is_expected = |fault: &String| {
        fault.starts_with("log: ")
            && (fault.contains("net::ERR_") || fault.contains("WebSocket connection to"))
    };
    faults.retain(|fault| !is_expected(fault));
    faults
}

/// Writes a picture to the folder `FANWIRE_PICTURES`, if there is one, for a person to look at.
fn keep_picture(browser: &mut Browser, name: &str) {
    let Some(folder) = std::env::var_os("FANWIRE_PICTURES") else {
        return;
    };
    let picture = data_encoding::BASE64
        .decode(browser.picture().as_bytes())
        .unwrap();
    std::fs::write(
        std::path::Path::new(&folder).join(format!("{name}.png")),
        picture,
    )
    .unwrap();
}
