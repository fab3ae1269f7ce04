//! Tests of one client's state.

use super::*;

fn client() -> Client {
    Client::new(0, Timestamp(0), Timestamp(0))
}

fn rest() -> Rest {
    Rest {
        bytes: Bytes::from_static(b"rest"),
        batch: None,
    }
}

#[test]
fn an_idle_client_is_small() {
    assert!(size_of::<Client>() <= 192, "{}", size_of::<Client>());
}

#[test]
fn a_carried_message_is_delivered_with_its_last_byte() {
    let mut client = client();
    client.carry_message(rest());
    assert_eq!(
        client.advance_carry(3),
        CarryProgress {
            left: 0,
            delivered: false,
            has_freed: false
        }
    );
    assert_eq!(
        client.advance_carry(5),
        CarryProgress {
            left: 4,
            delivered: true,
            has_freed: true
        }
    );
    assert!(!client.carries_message());
}

#[test]
fn control_frames_wait_for_what_is_carried() {
    let mut client = client();
    client.carry_message(rest());
    client.queue_control(PendingControl::ping);
    client.take_up_control(None, Seq(0));
    assert_eq!(client.carry().unwrap(), b"rest");
    client.advance_carry(4);
    client.take_up_control(None, Seq(0));
    assert_eq!(client.carry().unwrap(), b"\x89\x00");
}
