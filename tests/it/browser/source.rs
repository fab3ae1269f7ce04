//! Server-sent events in Chromium: its own `EventSource` comes back and goes on where it was, without any code.

use serde_json::json;

use super::engine::{Engine, Room};
use super::line::Line;
use super::{Publisher, Relay};

/// Takes the messages before `end` in, which must come in order. Other events are passed over, and the last words are returned.
fn await_all(room: &mut Room, next: &mut u64, end: u64) -> Option<String> {
    let mut words = None;
    while *next < end {
        let event = room.next();
        match event["type"].as_str().unwrap() {
            "message" => {
                assert_eq!(event["text"], next.to_string(), "{event}");
                *next += 1;
            }
            "words" => words = event["text"].as_str().map(str::to_owned),
            "down" => assert_eq!(event["isOver"], false, "it does not come back"),
            _ => {}
        }
    }
    words
}

#[test]
fn an_event_source_in_chromium_goes_on_by_itself() {
    let Some((_engine, mut rooms)) = Engine::chromium(1) else {
        return;
    };
    let mut room = rooms.pop().unwrap();
    let relay = Relay::start("127.77.0.6", "");
    let line = Line::to(relay.address());
    room.order(
        "source",
        json!({ "url": format!("http://{}/room", line.address()) }),
    );
    // The first words say where the stream begins.
    room.expect("open");
    let words = room.expect("words");
    assert!(
        words["text"].as_str().unwrap().contains("\"lost\":0"),
        "{words}"
    );
    let mut publisher = Publisher::to(&relay, 0);
    let mut next = 0;
    for _ in 0..2 {
        publisher.publish(20);
        await_all(&mut room, &mut next, publisher.next);
        line.go_down();
        publisher.publish(20);
        line.come_up();
        let words = await_all(&mut room, &mut next, publisher.next).unwrap();
        assert!(words.contains("\"lost\":0"), "{words}");
    }
    // A relay that ends tells it to come back, and the next one says that its stream is another.
    let end = publisher.leave();
    let relay = relay.drain();
    let mut publisher = Publisher::to(&relay, end);
    publisher.publish(20);
    let words = await_all(&mut room, &mut next, publisher.next).unwrap();
    assert!(words.contains("\"lost\":null"), "{words}");
}

#[test]
fn an_event_source_that_is_cut_before_its_first_message_misses_nothing() {
    let Some((_engine, mut rooms)) = Engine::chromium(1) else {
        return;
    };
    let mut room = rooms.pop().unwrap();
    let relay = Relay::start("127.77.0.7", "");
    let line = Line::to(relay.address());
    room.order(
        "source",
        json!({ "url": format!("http://{}/room", line.address()) }),
    );
    room.expect("open");
    room.expect("words");
    line.go_down();
    let mut publisher = Publisher::to(&relay, 0);
    publisher.publish(5);
    line.come_up();
    await_all(&mut room, &mut 0, publisher.next);
}
