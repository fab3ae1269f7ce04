//! Runs in which clients offer compression: against relays that compress, that do not, and that lie; and payloads of each kind.

use loadtest::report::Report;
use tungstenite::Message;

use crate::deflating::{Deflating, Manner};
use crate::relay::{Fate, TinyRelay};
use crate::support::{load_until, pass, refused};
use crate::world::World;

/// All kinds of payload.
const KINDS: [&str; 7] = [
    "fixed",
    "trades",
    "depth",
    "chat",
    "telemetry",
    "snapshot",
    "random",
];

fn deflated(manner: Manner, options: &str) -> Report {
    let relay = Deflating::start(manner);
    pass(&format!("{options} --deflate --url {}", relay.url()))
}

#[test]
fn compressed_messages_of_every_kind_are_inflated_and_counted() {
    for kind in KINDS {
        let line = format!("--subscribers 5 --publishers 2 --window 4 --payload {kind}");
        let report = deflated(Manner::Honest, &line);
        let deflate = report.deflate.unwrap();
        assert_eq!((deflate.agreed, deflate.declined), (7, 0), "{kind}");
        assert!(deflate.compressed > deflate.plain, "{kind}: {deflate:?}");
        assert!(deflate.plain > 0, "{kind}: {deflate:?}");
        let share = deflate.wire_bytes_per_payload_byte.unwrap();
        if kind == "random" {
            assert!((0.9..1.2).contains(&share), "{kind}: {share}");
        } else {
            assert!((0.01..0.9).contains(&share), "{kind}: {share}");
        }
    }
}

#[test]
fn a_server_that_forgets_its_context_is_understood() {
    let report = deflated(Manner::Forgetful, "--payload depth --subscribers 4");
    assert_eq!(report.deflate.unwrap().plain, 0);
}

#[test]
fn servers_that_do_not_compress_pass_and_the_report_says_so() {
    for (manner, agreed) in [(Manner::Plain, 5), (Manner::Declining, 0)] {
        let report = deflated(manner, "--subscribers 4 --payload trades");
        let deflate = report.deflate.unwrap();
        assert_eq!((deflate.agreed, deflate.declined), (agreed, 5 - agreed));
        assert_eq!(deflate.compressed, 0);
        assert!(deflate.wire_bytes_per_payload_byte.unwrap() > 1.0);
    }
}

#[test]
fn lies_of_compressors_are_found() {
    for manner in [Manner::Skips, Manner::Damages, Manner::Unasked] {
        let relay = Deflating::start(manner);
        let line = format!(
            "--deflate --payload trades --subscribers 6 --url {}",
            relay.url()
        );
        let report = load_until(&line, || relay.has_lied());
        assert!(relay.has_lied(), "{manner:?} was not told");
        assert!(!report.passed, "{manner:?} was not found out");
    }
}

#[test]
fn an_answer_to_no_offer_is_refused() {
    let relay = Deflating::start(Manner::Invents);
    let line = format!("--deflate --url {}", relay.url());
    let error = refused(&line).to_string();
    assert!(
        error.contains("an extension that was not offered"),
        "{error}"
    );
}

#[test]
fn fanwire_passes_with_every_kind_of_payload_with_and_without_the_offer() {
    let world = World::start(|config| {
        config.compression.enabled = true;
        config.compression.min_members = 1;
    });
    let here = world.here();
    for kind in KINDS {
        for offer in ["", "--deflate"] {
            let line = format!(
                "--subscribers 6 --publishers 2 --window 8 --payload {kind} {offer} {here}"
            );
            let report = pass(&line);
            let agreed = report.deflate.map(|deflate| deflate.agreed);
            assert_eq!(agreed, (!offer.is_empty()).then_some(8), "{kind}");
        }
    }
    for line in [
        "chat --subscribers 6 --text --size 300B",
        "churn --subscribers 6 --rate 500 --churn-rate 100",
        "fanout --subscribers 6 --sse 50% --payload chat --window 4",
        "fanout --subscribers 6 --post --payload depth --rate 300",
    ] {
        pass(&format!("{line} --deflate {here}"));
    }
}

#[test]
fn a_message_with_the_body_of_another_is_found() {
    /// Bytes before the body of a text message.
    const HEAD: usize = 22;
    let mut before = None;
    let mut has_lied = false;
    let relay = TinyRelay::start(move |delivery, message| {
        if delivery.receiver != 4 {
            return Fate::Pass;
        }
        let text = message.clone().into_data();
        let last = before.replace(text.clone());
        match last.filter(|_| delivery.number >= 100 && !has_lied) {
            Some(last) => {
                has_lied = true;
                let mixed = [&text[..HEAD], &last[HEAD..]].concat();
                let mixed = String::from_utf8(mixed).unwrap();
                Fate::Replace(vec![Message::text(mixed)])
            }
            None => Fate::Pass,
        }
    });
    let line = format!("--payload telemetry --subscribers 4 --url {}", relay.url());
    let report = load_until(&line, || relay.faults() > 0);
    assert_eq!(relay.faults(), 1);
    assert_eq!(report.deliveries.corrupt, 1, "{:?}", report.failures);
}
