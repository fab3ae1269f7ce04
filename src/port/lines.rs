//! The lines of a body with messages to many topics: `{"topic":"/a","text":"…"}` or `{"topic":"/b","base64":"…"}`.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde::Deserialize;

use super::reply::Fault;
use super::topic_name::{MAX_TOPIC_BYTES, TopicName};
use crate::ws::frame::MessageKind;

/// A line whose topic is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The topic.
    pub topic: TopicName,
    /// The message, or the reason why it is none.
    pub message: Result<(MessageKind, Cow<'a, [u8]>), Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    base64: Option<Cow<'a, str>>,
}

/// Reads a line. `topic_of` says which topic a name leads to. The topic may refuse the message.
///
/// # Errors
/// The line does not name a topic.
pub(crate) fn read(
    line: &[u8],
    topic_of: impl FnOnce(&str) -> Option<TopicName>,
) -> Result<Line<'_>, Fault> {
    let Ok(written) = serde_json::from_slice::<Written<'_>>(line) else {
        return Err(Fault::LINE);
    };
    let is_name = written.topic.starts_with('/') && written.topic.len() <= MAX_TOPIC_BYTES;
    let topic = is_name.then(|| topic_of(&written.topic)).flatten();
    let topic = topic.ok_or(Fault::TOPIC)?;
    let message = match (written.text, written.base64) {
        (Some(text), None) => Ok((MessageKind::Text, into_bytes(text))),
        (None, Some(base64)) => match BASE64.decode(base64.as_bytes()) {
            Ok(bytes) => Ok((MessageKind::Binary, Cow::Owned(bytes))),
            Err(_) => Err(Fault::BASE64),
        },
        (Some(_), Some(_)) | (None, None) => Err(Fault::LINE),
    };
    Ok(Line { topic, message })
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> Result<(String, MessageKind, Vec<u8>), Fault> {
        let Line { topic, message } = read(line.as_bytes(), |name| Some(name.into()))?;
        message.map(|(kind, payload)| (topic.to_string(), kind, payload.into_owned()))
    }

    #[test]
    fn a_line_is_a_text_or_bytes_for_a_topic() {
        assert_eq!(
            message(r#"{"topic":"/caf\u00e9","text":"a\nb\ud83d\ude00"}"#),
            Ok(("/café".into(), MessageKind::Text, "a\nb😀".into()))
        );
        assert_eq!(
            message(r#" {"base64":"AP8=", "topic":"/b"} "#),
            Ok(("/b".into(), MessageKind::Binary, vec![0, 255]))
        );
        let empty = message(r#"{"topic":"/","text":""}"#).unwrap();
        assert_eq!(empty.2, b"");
    }

    #[test]
    fn a_line_of_another_form_says_what_is_wrong() {
        for line in [
            "",
            "x",
            "[]",
            r#"{"topic":"/a"}"#,
            r#"{"text":"a"}"#,
            r#"{"topic":"/a","text":1}"#,
            r#"{"topic":"/a","text":"a","base64":""}"#,
            r#"{"topic":"/a","text":"a","more":1}"#,
            r#"{"topic":"/a","text":"a"}{"topic":"/a","text":"a"}"#,
            r#"{"topic":"/a","text":"\ud83d"}"#,
        ] {
            assert_eq!(message(line), Err(Fault::LINE), "{line}");
        }
        let brackets = format!("{{\"topic\":{}", "[".repeat(100_000));
        assert_eq!(message(&brackets), Err(Fault::LINE));
        for topic in ["", "a", &"/".repeat(MAX_TOPIC_BYTES + 1)] {
            let line = format!(r#"{{"topic":"{topic}","text":"a"}}"#);
            assert_eq!(message(&line), Err(Fault::TOPIC), "{line}");
        }
        for base64 in ["A", "AAA", "A A=", "_w=="] {
            let line = format!(r#"{{"topic":"/","base64":"{base64}"}}"#);
            assert_eq!(message(&line), Err(Fault::BASE64), "{line}");
        }
    }
}
