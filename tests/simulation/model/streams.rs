//! Clients that read an event stream: what they are sent besides messages, and the ids of all of it.

use super::{Message, Model};
use crate::events::{Said, Words};
use crate::model::positions::{Lost, Place, Told};

impl Message {
    /// Whether a client reads the message like this. An event stream has one kind of line end.
    pub(super) fn reads_as(&self, is_stream: bool, is_text: bool, payload: &[u8]) -> bool {
        if !(is_stream && is_text && self.is_text) {
            return self.is_text == is_text && self.payload == payload;
        }
        let text = String::from_utf8_lossy(&self.payload);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        text.as_bytes() == payload
    }
}

impl Model {
    /// The client asks for an event stream.
    pub(crate) fn ask_for_events(&mut self, client: usize) {
        self.clients[client].is_stream = true;
    }

    pub(super) fn on_event(
        &mut self,
        client: usize,
        is_text: bool,
        payload: &[u8],
        id: Option<Place>,
    ) {
        self.on_message(client, is_text, payload);
        self.check_id(client, id);
    }

    /// An id is the position behind the event, and is there if the topic keeps messages.
    fn check_id(&self, client: usize, id: Option<Place>) {
        let counted = self.member_number(client).filter(|_| self.has_history);
        let counted = counted.map(|number| (self.epoch, number));
        assert_eq!(
            id, counted,
            "client {client} gets another id than it has counted"
        );
    }

    /// The stream of a topic without a history begins.
    pub(super) fn on_pause(&mut self, client: usize) {
        assert!(
            !self.has_history,
            "the stream of a history begins with a place"
        );
        let client = &self.clients[client];
        assert!(client.member.is_some(), "a stream before the confirmation");
    }

    pub(super) fn on_stream_words(&mut self, client: usize, words: &Words, may_be_refused: bool) {
        match &words.said {
            Said::Refused { status } => {
                let is_member = self.clients[client].member.is_some();
                assert!(
                    may_be_refused && !is_member,
                    "{status} for a good request of an event stream"
                );
                assert_eq!(words.id, None, "a client that is not there has no place");
                check_pause(words);
                return;
            }
            Said::End { code, reason } => {
                if reason.contains("; retry ") {
                    check_pause(words);
                }
                self.check_id(client, words.id);
                return self.on_close(client, *code, reason);
            }
            Said::Place { at, lost } => self.on_place(client, *at, *lost),
        }
        self.check_id(client, words.id);
    }

    fn on_place(&mut self, client: usize, at: Option<Place>, lost: Lost) {
        match (at, lost) {
            (Some((epoch, number)), lost) => {
                assert!(self.has_history, "a place where there are none");
                self.on_told(
                    client,
                    Told {
                        epoch,
                        number,
                        lost,
                    },
                );
            }
            (None, Lost::Messages(lost)) if !self.has_history && lost > 0 => {
                let member = self.clients[client].member.as_mut();
                let member = member.expect("skips are for members");
                member.next += lost as usize;
                member.skipped += lost as usize;
            }
            (None, lost) => panic!("no place, and {lost:?}"),
        }
    }
}

fn check_pause(words: &Words) {
    let pause = words.pause.expect("the client is to come back");
    assert!((1_000..5_000).contains(&pause), "{pause} ms");
}
