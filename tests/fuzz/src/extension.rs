//! Any values of `Sec-WebSocket-Extensions`, through [`fanwire::internals::ws::Deflate::choose`].
//!
//! It checks:
//!
//! - The answer is the one that a second reader of the values expects. It cuts them into words first.
//! - The answer never has a parameter that the client has not offered.
//!
//! The input is the values, one on each line.

use std::iter::Peekable;
use std::str::Chars;

use fanwire::internals::http::RequestHead;
use fanwire::internals::ws::Deflate;

/// A word of a value.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    Comma,
    Semicolon,
    Equals,
    Blank,
    /// Characters of a token.
    Plain(String),
    /// The content of a text in quotation marks.
    Quoted(String),
    /// Anything else.
    Wrong,
}

/// See the module.
pub fn run(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for line in &lines {
        head.extend_from_slice(b"Sec-WebSocket-Extensions: ");
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let Ok(head) = RequestHead::parse(&head) else {
        return;
    };
    let answer = Deflate::choose(&head).map(|agreed| agreed.to_string());
    let members: Vec<Vec<Word>> = lines
        .iter()
        .flat_map(|line| split(&words(line), &Word::Comma))
        .collect();
    let expected = members.iter().find_map(|member| expected(member));
    assert_eq!(answer, expected, "{lines:?}");
    for part in answer.iter().flat_map(|answer| answer.split("; ")) {
        let name = part.split('=').next().unwrap_or_default();
        let is_offered = |line: &&[u8]| line.windows(name.len()).any(|at| at == name.as_bytes());
        assert!(lines.iter().any(is_offered), "{name} was not offered");
    }
}

/// The answer to a member of the list, if it can be accepted.
fn expected(member: &[Word]) -> Option<String> {
    let mut parts = split(member, &Word::Semicolon).into_iter();
    if parts.next()? != [Word::Plain("permessage-deflate".into())] {
        return None;
    }
    let mut seen: Vec<(String, Option<String>)> = Vec::new();
    for part in parts {
        let at = part.iter().position(|word| *word == Word::Equals);
        let (name, value) = match at {
            None => (single(&part)?, None),
            Some(at) => (single(&part[..at])?, Some(content(&part[at + 1..])?)),
        };
        if seen.iter().any(|(other, _)| *other == name) {
            return None;
        }
        seen.push((name, value));
    }
    let mut answer = "permessage-deflate".to_owned();
    for (name, value) in &seen {
        match (name.as_str(), value.as_deref()) {
            ("client_no_context_takeover" | "client_max_window_bits", None)
            | ("server_max_window_bits", Some("15")) => {}
            ("client_max_window_bits", Some(bits)) => {
                let number = bits.parse::<u8>().ok()?;
                if !(8..=15).contains(&number) || number.to_string() != bits {
                    return None;
                }
            }
            _ => return None,
        }
    }
    let has = |wanted: &str| seen.iter().any(|(name, _)| name == wanted);
    if has("client_no_context_takeover") {
        answer += "; client_no_context_takeover";
    }
    if has("server_max_window_bits") {
        answer += "; server_max_window_bits=15";
    }
    Some(answer)
}

/// The only word, which must be a token.
fn single(words: &[Word]) -> Option<String> {
    match trimmed(words) {
        [Word::Plain(name)] => Some(name.clone()),
        _ => None,
    }
}

/// The only word, which must be a token, perhaps in quotation marks.
fn content(words: &[Word]) -> Option<String> {
    let [Word::Plain(text) | Word::Quoted(text)] = trimmed(words) else {
        return None;
    };
    (!text.is_empty() && text.chars().all(is_plain)).then(|| text.clone())
}

fn trimmed(words: &[Word]) -> &[Word] {
    let is_word = |word: &Word| *word != Word::Blank;
    let Some(first) = words.iter().position(is_word) else {
        return &[];
    };
    let last = words.iter().rposition(is_word).unwrap_or(first);
    &words[first..=last]
}

/// The parts between separators, without the blanks around them.
fn split(words: &[Word], separator: &Word) -> Vec<Vec<Word>> {
    let parts = words.split(|word| word == separator);
    parts.map(|part| trimmed(part).to_vec()).collect()
}

fn is_plain(char: char) -> bool {
    char.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(char)
}

/// Cuts a value into words.
fn words(line: &[u8]) -> Vec<Word> {
    // Other bytes than ASCII are wrong wherever they stand.
    let text: String = line.iter().map(|&byte| char::from(byte)).collect();
    let mut chars = text.chars().peekable();
    let mut words = Vec::new();
    while let Some(char) = chars.next() {
        words.push(match char {
            ',' => Word::Comma,
            ';' => Word::Semicolon,
            '=' => Word::Equals,
            ' ' | '\t' => Word::Blank,
            '"' => quoted(&mut chars).map_or(Word::Wrong, Word::Quoted),
            char if is_plain(char) => {
                let mut word = String::from(char);
                while let Some(more) = chars.next_if(|&more| is_plain(more)) {
                    word.push(more);
                }
                Word::Plain(word)
            }
            _ => Word::Wrong,
        });
    }
    words
}

/// The content of a text whose first quotation mark was read. It ends with the second, or the value does.
fn quoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut content = String::new();
    while let Some(char) = chars.next() {
        match char {
            '"' => return Some(content),
            '\\' => content.push(chars.next()?),
            char => content.push(char),
        }
    }
    None
}
