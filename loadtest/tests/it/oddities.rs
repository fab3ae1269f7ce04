//! Oddities of relays that are not faults: greetings, fragments, pings, not sending clients their own messages.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::relay::{Fate, TinyRelay};
use crate::support::{load, pass, refused};

#[test]
fn a_relay_that_greets_its_clients_passes_and_is_warned_of() {
    let greeting = Some(Message::text("welcome"));
    let relay = TinyRelay::greeting(greeting, |_, _| Fate::Pass);
    let report = pass(&format!("fanout --subscribers 5 --url {}", relay.url()));
    assert_eq!(
        report.deliveries.foreign, 6,
        "five subscribers, one publisher"
    );
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("greetings"))
    );
}

#[test]
fn a_relay_that_does_not_echo_is_known_by_the_probe() {
    let relay = TinyRelay::start(|delivery, _| {
        if delivery.sender == delivery.receiver {
            Fate::Lose
        } else {
            Fate::Pass
        }
    });
    let url = relay.url();
    for line in [
        "fanout --subscribers 5",
        "chat --subscribers 5",
        "fanout --subscribers 5 --publishers 3 --rate 1000 --threads 2",
        "reconnect --subscribers 5 --every 50ms",
    ] {
        let report = pass(&format!("{line} --url {url}"));
        assert!(!report.deliveries.echo);
    }
    let lonely = refused(&format!("chat --subscribers 1 --url {url}"));
    assert!(lonely.to_string().contains("--subscribers"), "{lonely}");
}

#[test]
fn messages_in_fragments_are_put_together() {
    for (size, cut) in [(300, 100), (128, 5), (64, 16)] {
        let relay = TinyRelay::start(move |delivery, message| {
            if delivery.number % 3 > 0 {
                return Fate::Pass;
            }
            let payload = message.clone().into_data();
            let frame = |from: usize, to: usize| {
                let kind = if from == 0 {
                    Data::Binary
                } else {
                    Data::Continue
                };
                let is_final = to == payload.len();
                let part = payload.slice(from..to);
                Message::Frame(Frame::message(part, OpCode::Data(kind), is_final))
            };
            Fate::Replace(vec![
                frame(0, cut),
                Message::Ping("between".into()),
                frame(cut, cut),
                frame(cut, payload.len()),
            ])
        });
        let report = pass(&format!(
            "fanout --subscribers 3 --size {size} --url {}",
            relay.url()
        ));
        assert!(report.deliveries.received > 10);
    }
}

#[test]
fn a_frame_with_a_reserved_bit_breaks_the_protocol() {
    let relay = TinyRelay::start(|delivery, message| {
        if delivery.receiver != 3 || delivery.number != 200 {
            return Fate::Pass;
        }
        let mut frame = Frame::message(
            message.clone().into_data(),
            OpCode::Data(Data::Binary),
            true,
        );
        frame.header_mut().rsv1 = true;
        Fate::Replace(vec![Message::Frame(frame)])
    });
    let report = load(&format!("fanout --subscribers 5 --url {}", relay.url()));
    assert!(!report.passed);
    assert_eq!(report.deliveries.corrupt, 1);
    let ended = &report.connections.ended_by_server;
    assert!(
        ended.keys().any(|reason| reason.contains("reserved bit")),
        "{ended:?}"
    );
}

#[test]
fn messages_larger_than_any_buffer_are_checked_to_the_last_byte() {
    let size = 3_000_000;
    let relay = TinyRelay::start(|_, _| Fate::Pass);
    let line = format!("fanout --subscribers 2 --window 2 --size {size} --url");
    pass(&format!("{line} {}", relay.url()));

    let relay = TinyRelay::start(move |delivery, _| {
        if delivery.receiver == 3 && delivery.number == 6 {
            Fate::Flip(size * 8 - 1)
        } else {
            Fate::Pass
        }
    });
    let report = load(&format!("{line} {}", relay.url()));
    assert_eq!(report.deliveries.corrupt, 1);
    assert_eq!(report.deliveries.lost, 0);
}

/// A server that upgrades connections and then reads nothing more.
fn deaf() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let accepted = listener
            .incoming()
            .map(|stream| tungstenite::accept(stream.unwrap()).unwrap());
        // They are kept, or they would be closed.
        accepted.collect::<Vec<_>>()
    });
    address
}

#[test]
fn a_server_that_reads_nothing_is_given_up_by_the_probe_and_not_waited_for() {
    let url = format!("ws://{}/", deaf());
    let error = refused(&format!("fanout --size 32MiB --patience 500ms --url {url}"));
    assert!(error.to_string().contains("is not a relay"), "{error}");
}
