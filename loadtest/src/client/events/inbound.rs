//! The reader of an event stream: it takes the bytes apart into lines, and the lines into events. A connection calls it.
//!
//! A line ends at LF, at CR, or at CR and LF. An empty line ends an event.

use memchr::memchr2;

/// The longest event: the largest message in base64, and what stands around it.
const MAX_EVENT: usize = (64 << 20) / 3 * 4 + (1 << 10);

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event<'e> {
    /// Its name; empty for a message without one.
    pub(crate) name: &'e [u8],
    pub(crate) data: &'e [u8],
    /// The value of its field `id`, if it has one.
    pub(crate) id: Option<&'e [u8]>,
}

/// Receives the events of a connection.
pub(crate) trait Listener {
    /// An event.
    fn on_event(&mut self, event: Event<'_>);
}

/// The state of the reader.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    /// Whether the last line ended with a CR. An LF right behind it belongs to the same end.
    had_cr: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    /// Whether the event has a field `data`, perhaps an empty one.
    has_data: bool,
    id: Vec<u8>,
    has_id: bool,
}

impl Inbound {
    /// Takes the bytes that were read. An error says how the server broke the format.
    pub(crate) fn feed(
        &mut self,
        mut input: &[u8],
        listener: &mut impl Listener,
    ) -> Result<(), &'static str> {
        while !input.is_empty() {
            if std::mem::take(&mut self.had_cr) && input[0] == b'\n' {
                input = &input[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', input) else {
                self.partial.extend_from_slice(input);
                return self.check_size();
            };
            self.had_cr = input[end] == b'\r';
            if self.partial.is_empty() {
                self.on_line(&input[..end], listener)?;
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&input[..end]);
                self.on_line(&line, listener)?;
                line.clear();
                self.partial = line;
            }
            input = &input[end + 1..];
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), &'static str> {
        if self.partial.len() + self.data.len() > MAX_EVENT {
            return Err("an event that is larger than any message");
        }
        Ok(())
    }

    #[inline]
    fn on_line(&mut self, line: &[u8], listener: &mut impl Listener) -> Result<(), &'static str> {
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            None if line.is_empty() => {
                self.dispatch(listener);
                return Ok(());
            }
            // A comment.
            Some(0) => return Ok(()),
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => replace(&mut self.name, value),
            b"id" if value.contains(&0) => return Err("an id with U+0000"),
            b"id" => {
                replace(&mut self.id, value);
                self.has_id = true;
            }
            b"retry" if value.is_empty() || !value.iter().all(u8::is_ascii_digit) => {
                return Err("a time to come back that is not a number");
            }
            b"retry" => {}
            _ => return Err("a field that no event has"),
        }
        self.check_size()
    }

    fn dispatch(&mut self, listener: &mut impl Listener) {
        if self.has_data {
            listener.on_event(Event {
                name: &self.name,
                data: &self.data,
                id: self.has_id.then_some(&self.id[..]),
            });
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.has_id = false;
    }
}

fn replace(text: &mut Vec<u8>, with: &[u8]) {
    text.clear();
    text.extend_from_slice(with);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<(String, String, Option<String>)>);

    impl Listener for Heard {
        fn on_event(&mut self, event: Event<'_>) {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            self.0
                .push((text(event.name), text(event.data), event.id.map(text)));
        }
    }

    fn heard(chunks: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<Heard, &'static str> {
        let mut inbound = Inbound::default();
        let mut heard = Heard::default();
        for chunk in chunks {
            inbound.feed(chunk.as_ref(), &mut heard)?;
        }
        Ok(heard)
    }

    const STREAM: &str = "retry: 1200\nevent: fanwire\nid: a-1\ndata: {}\n\n: a comment\n:\n\nid: a-2\ndata: x\ndata:  y\n\n\
        id:a-3\r\nevent: binary\r\ndata: /wo=\r\n\r\ndata\r\revent: gone\n\ndata:\n\nid: a-4\ndata: unfinished\n";

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let event = |name: &str, data: &str, id: Option<&str>| {
            (name.to_owned(), data.to_owned(), id.map(str::to_owned))
        };
        let expected = [
            event("fanwire", "{}", Some("a-1")),
            event("", "x\n y", Some("a-2")),
            event("binary", "/wo=", Some("a-3")),
            event("", "", None),
            event("", "", None),
        ];
        for size in 1..STREAM.len() {
            let heard = heard(STREAM.as_bytes().chunks(size)).unwrap();
            assert_eq!(heard.0, expected, "chunks of {size}");
        }
    }

    #[test]
    fn what_no_event_has_is_an_error() {
        for bad in [
            "datum: 1\n",
            "retry: soon\n",
            "retry:\n",
            "id: a\0b\n",
            "<html>\n",
        ] {
            assert!(heard([bad].iter()).is_err(), "{bad:?}");
        }
    }
}
