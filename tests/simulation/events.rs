//! An independent reader of event streams (WHATWG HTML, section 9.2.6). It refuses what the relay never sends, and shares
//! nothing with the relay's code.

use std::fmt::Write as _;

use serde_json::Value;

use crate::model::positions::{Lost, Place, read_position};
use crate::stream::Item;

/// The relay's own words in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// The `id`.
    pub(crate) id: Option<Place>,
    /// The time after which the client is to come back.
    pub(crate) pause: Option<u64>,
    pub(crate) said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The client is here.
    Place { at: Option<Place>, lost: Lost },
    /// The stream ends. The reason is that of the Close that another client would get.
    End { code: u16, reason: String },
    /// The client gets no stream for now.
    Refused { status: u16 },
}

/// The fields of an event.
#[derive(Debug, Default)]
struct Fields {
    data: Vec<String>,
    event: Option<String>,
    id: Option<String>,
    pause: Option<u64>,
    comments: usize,
}

/// An event or a comment and its length with the empty line behind it, once it is complete.
pub(crate) fn block(bytes: &[u8]) -> Result<Option<(Item, usize)>, String> {
    let (mut fields, mut at) = (Fields::default(), 0);
    while let Some((line, len)) = line(&bytes[at..]) {
        at += len;
        if line.is_empty() {
            return Ok(Some((fields.into_item()?, at)));
        }
        fields.push(std::str::from_utf8(line).map_err(|error| error.to_string())?)?;
    }
    Ok(None)
}

/// The first line without its end, and its length with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let len = match &bytes[end..] {
        // An LF may follow.
        [b'\r'] => return None,
        [b'\r', b'\n', ..] => end + 2,
        _ => end + 1,
    };
    Some((&bytes[..end], len))
}

impl Fields {
    fn push(&mut self, line: &str) -> Result<(), String> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let is_again = match name {
            "" => {
                self.comments += 1;
                false
            }
            "data" => {
                self.data.push(value.to_owned());
                false
            }
            "event" => self.event.replace(value.to_owned()).is_some(),
            "id" => self.id.replace(value.to_owned()).is_some(),
            "retry" => {
                let pause = value.parse().map_err(|_| format!("{line:?}"))?;
                self.pause.replace(pause).is_some()
            }
            _ => return Err(format!("an unknown field: {line:?}")),
        };
        if is_again {
            return Err(format!("{name} twice"));
        }
        Ok(())
    }

    fn into_item(self) -> Result<Item, String> {
        let id = self.id.as_deref().map(read_position);
        let data = self.data.join("\n");
        match self.event.as_deref() {
            None if self.data.is_empty() => match (self.comments, id, self.pause) {
                (1, None, None) => Ok(Item::Comment),
                (0, None, Some(pause)) => Ok(Item::Pause(pause)),
                _ => Err(format!("an empty event: {self:?}")),
            },
            _ if self.comments > 0 => Err("a comment in an event".into()),
            Some("fanwire") => Ok(Item::Words(Words {
                id,
                pause: self.pause,
                said: said(&data)?,
            })),
            _ if self.pause.is_some() => Err("a message with a pause".into()),
            None => Ok(Item::Event {
                is_text: true,
                payload: data.into_bytes(),
                id,
            }),
            Some("binary") => Ok(Item::Event {
                is_text: false,
                payload: from_base64(&data).ok_or("not base64")?,
                id,
            }),
            Some(other) => Err(format!("an event named {other:?}")),
        }
    }
}

fn said(json: &str) -> Result<Said, String> {
    let json: Value = serde_json::from_str(json).map_err(|error| format!("{json:?}: {error}"))?;
    let text = |key: &str| json[key].as_str();
    let number = |key: &str| json[key].as_u64();
    if let Some(status) = number("status") {
        text("error").ok_or("no error")?;
        number("retry").ok_or("no retry")?;
        return Ok(Said::Refused {
            status: status as u16,
        });
    }
    let at = text("at");
    if let Some(code) = number("code") {
        // As in the reason of a Close.
        let mut reason = text("reason").ok_or("no reason")?.to_owned();
        if let Some(at) = at {
            write!(reason, "; at {at}").expect("a string has room");
        }
        if let Some(pause) = number("retry") {
            write!(reason, "; retry {pause}").expect("a string has room");
        }
        return Ok(Said::End {
            code: code as u16,
            reason,
        });
    }
    let lost = match json.get("lost") {
        None => Lost::NotSaid,
        Some(Value::Null) => Lost::Unknown,
        Some(lost) => Lost::Messages(lost.as_u64().ok_or("not a number")?),
    };
    Ok(Said::Place {
        at: at.map(read_position),
        lost,
    })
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::new();
    let quartets = text.len() / 4;
    for (nth, four) in text.as_bytes().chunks(4).enumerate() {
        let digits = four.iter().take_while(|&&digit| digit != b'=').count();
        let is_last = digits == 4 || nth + 1 == quartets;
        if digits < 2 || !is_last || four[digits..].iter().any(|&pad| pad != b'=') {
            return None;
        }
        let mut bits = 0u32;
        for &digit in &four[..digits] {
            let value = DIGITS.iter().position(|&one| one == digit)?;
            bits = bits << 6 | value as u32;
        }
        bits <<= 6 * (4 - digits);
        bytes.extend(&bits.to_be_bytes()[1..digits]);
    }
    Some(bytes)
}

// Tests, run by `main`

pub(crate) fn events_are_read_by_the_rules() {
    let read = |text: &str| block(text.as_bytes());
    let event = |payload: &str, id| Item::Event {
        is_text: true,
        payload: payload.into(),
        id,
    };
    let text = "id: e-7\r\ndata: a\rdata:  b\ndata:\n\n";
    assert_eq!(
        read(text),
        Ok(Some((
            event("a\n b\n", Some(read_position("e-7"))),
            text.len()
        )))
    );
    assert_eq!(read("data: a\n"), Ok(None));
    assert_eq!(read("data: a\n\r"), Ok(None));
    assert_eq!(read(":\n\n"), Ok(Some((Item::Comment, 3))));
    let binary = Item::Event {
        is_text: false,
        payload: vec![0xff, 0x0a],
        id: None,
    };
    let text = "event: binary\ndata: /wo=\n\n";
    assert_eq!(read(text), Ok(Some((binary, text.len()))));
    for wrong in [
        "\n",
        "data\u{e4}: a\n\n",
        "id: e-1\nid: e-2\ndata: a\n\n",
        "event: binary\ndata: a=b=\n\n",
        "event: fanwire\ndata: x\n\n",
        ":\ndata: a\n\n",
    ] {
        assert!(read(wrong).is_err(), "{wrong:?}");
    }
}
