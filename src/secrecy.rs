//! Decides whether a text may be shown, or may be a secret that somebody wrote in the wrong place.
//!
//! Errors and logs ask it before they quote a text that they do not know: `config` for values, keys and names of files, `net`
//! for what proxies send. It knows secrets by words that announce them, and by their form. It rather hides too much.

use crate::http::bearer::TOKEN_BYTES;

/// Words that announce a secret, in lower case. The load generator has the same words.
const WORDS: [&str; 11] = [
    "token",
    "secret",
    "pass",
    "pwd",
    "key",
    "auth",
    "jwt",
    "credential",
    "signature",
    "bearer",
    "basic",
];

/// A text of Base64 that is as long as this is a key, even if its characters look like words.
const MIN_KEY_BYTES: usize = 40;

/// Stands for a text that is not shown.
pub(crate) const HIDDEN: &str = "a text that is not shown";

/// The kind of text that is expected in a place. A text of another kind may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word, a number, a size or the like. It is short.
    Value,
    /// The name of a key, without its sections. A long one is words with underscores between them.
    Key,
    /// A path, a host or an origin. It may be long, and may have words such as `key` in it.
    Name,
}

/// Whether a text that stands in the place of this kind may be a secret.
pub(crate) fn may_be_secret(text: &str, kind: Kind) -> bool {
    let bytes = text.as_bytes();
    let is_long = bytes.len() >= *TOKEN_BYTES.start();
    if text.contains("-----") || is_long && text.contains('\n') || has_password(text) {
        return true;
    }
    match kind {
        Kind::Value => {
            let is_token = |byte: &u8| is_of_token(*byte) || b"/.~".contains(byte);
            let mut runs = bytes.split(|byte| !is_token(byte));
            let has_token = runs.any(|run| run.len() >= *TOKEN_BYTES.start());
            has_token || bytes.len() >= MIN_KEY_BYTES || announces_more(text)
        }
        Kind::Key => {
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
            !bytes.iter().all(is_name) || is_long && !is_snake_case(text)
        }
        Kind::Name => {
            // A path may have a long part that looks random, such as a hash. It has a dot, or is short.
            let is_key = |byte: &u8| is_of_token(*byte) || b"/ ".contains(byte);
            if bytes.len() >= MIN_KEY_BYTES && bytes.iter().all(is_key) {
                return bytes[0] != b'/' || is_mixed(bytes);
            }
            let is_token = |byte: &u8| is_of_token(*byte) || b".~".contains(byte);
            is_long && bytes.iter().all(is_token) && is_mixed(bytes)
        }
    }
}

/// A text in quotes for an error, or words that stand for it if it may be a secret.
pub(crate) fn quoted(text: &str, kind: Kind) -> String {
    if may_be_secret(text, kind) {
        HIDDEN.to_owned()
    } else {
        format!("`{text}`")
    }
}

/// The beginning of what somebody sent, up to where a secret may begin or be announced. The query of a URL begins with a
/// question mark.
pub(crate) fn public_part(sent: &[u8]) -> &[u8] {
    let lower = sent.to_ascii_lowercase();
    let words = WORDS.iter().chain(&["?"]);
    let position = |word: &&str| {
        let mut windows = lower.windows(word.len());
        windows.position(|window| window == word.as_bytes())
    };
    let found = words.filter_map(position).chain(mixed_run(sent)).min();
    &sent[..found.unwrap_or(sent.len())]
}

/// Whether it may be a URL with a password: `redis://user:password@host`, or a part of one.
fn has_password(text: &str) -> bool {
    text.rsplit_once('@')
        .is_some_and(|(before, _)| before.contains(':'))
}

/// Whether the text has one of the words, and more behind it than the end of a name: `token=abc`, but not `tokens`.
fn announces_more(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_end_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut behind = WORDS.iter().filter_map(|word| {
        let at = lower.find(word)?;
        Some(&lower[at + word.len()..])
    });
    behind.any(|rest| !rest.chars().all(is_end_of_name))
}

/// Whether it is lower-case words with underscores between them, each shorter than a token.
fn is_snake_case(text: &str) -> bool {
    let is_word = |word: &str| {
        word.len() < *TOKEN_BYTES.start() && word.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    text.split('_').all(is_word)
}

/// The position of the first run that is as long as a token, and looks random.
fn mixed_run(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for run in bytes.split(|&byte| byte == b'=' || !is_of_token(byte)) {
        if run.len() >= *TOKEN_BYTES.start() && is_mixed(run) {
            return Some(at);
        }
        at += run.len() + 1;
    }
    None
}

/// Base64 in both of its alphabets, without the slash, which separates the parts of a path.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+=-_".contains(&byte)
}

/// Whether capitals, small letters and digits follow one another as often as in random text. In Base64 and in hexadecimal,
/// a third of all characters or more is of another kind than the one before. In names, few are. A capital that begins a word
/// counts once.
fn is_mixed(bytes: &[u8]) -> bool {
    let changes = |pair: &&[u8]| match (pair[0], pair[1]) {
        (b'A'..=b'Z', next) => next.is_ascii_digit(),
        (b'a'..=b'z', next) => next.is_ascii_digit() || next.is_ascii_uppercase(),
        (b'0'..=b'9', next) => next.is_ascii_alphabetic(),
        _ => false,
    };
    5 * bytes.windows(2).filter(changes).count() >= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "3q2-7wAAx5Jq9pQm";
    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015";
    const LINE_OF_A_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";

    #[test]
    fn a_text_is_shown_or_hidden_by_its_words_and_form_and_by_what_belongs_in_its_place() {
        // Whether it is hidden in the place of a value, of a key and of a name.
        for (text, value, key, name) in [
            ("", false, false, false),
            ("hello", false, false, false),
            ("10 s", false, true, false),
            ("70000", false, false, false),
            ("tokens", false, false, false),
            ("authenticated", false, false, false),
            ("publish_token", false, false, false),
            ("token=abc", true, true, false),
            ("Bearer abc", true, true, false),
            ("password:hunter2", true, true, false),
            ("compression_threshold", true, false, false),
            ("maxConnectionsPerIp", true, true, false),
            (TOKEN, true, true, true),
            ("publish_tokens:3q2-7wAAx5Jq9pQm", true, true, false),
            ("1234567890123456", true, true, false),
            (HEX, true, true, true),
            (
                "eyJhbGciOiJIUzI1NiJ9.e30.3q2-7wAAx5Jq9pQm",
                true,
                true,
                true,
            ),
            (LINE_OF_A_KEY, true, true, true),
            (
                "/MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
                true,
                true,
                true,
            ),
            ("-----BEGIN", true, true, true),
            ("a\nb", false, true, false),
            ("several lines\nof a text", true, true, true),
            ("chat.example.org", true, true, false),
            ("https://chat-2.example.org:8443", true, true, false),
            ("/etc/fanwire/2024-01-02/privkey.pem", true, true, false),
            (
                "/etc/letsencrypt/live/chat.example.org/privkey1.pem",
                true,
                true,
                false,
            ),
            (
                "/srv/Admin/secrets/fanwire2/server-private-key",
                true,
                true,
                false,
            ),
            (
                "/nix/store/9f86d081884c7d659a2feaa0c55ad015-fanwire/config.yaml",
                true,
                true,
                false,
            ),
            ("tcp://10.0.0.1:80", false, true, false),
            (
                "2001:db8:85a3:8d3:1319:8a2e:370:7348/64",
                false,
                true,
                false,
            ),
        ] {
            let kinds = [Kind::Value, Kind::Key, Kind::Name];
            let hidden = kinds.map(|kind| may_be_secret(text, kind));
            assert_eq!(hidden, [value, key, name], "{text:?}");
        }
    }

    #[test]
    fn what_somebody_sent_is_public_up_to_a_word_a_query_or_a_token() {
        for (sent, public) in [
            ("192.0.2.1, 2001:db8:85a3:8d3:1319:8a2e:370:7348", None),
            ("for=\"[2001:db8::1]:4711\";proto=https", None),
            ("GET /a?b=c", Some("GET /a")),
            ("192.0.2.1, BEARER abc", Some("192.0.2.1, ")),
            ("a=1, password=hunter2", Some("a=1, ")),
            ("for=3q2-7wAAx5Jq9pQm", Some("for=")),
            (HEX, Some("")),
        ] {
            let public = public.unwrap_or(sent);
            assert_eq!(public_part(sent.as_bytes()), public.as_bytes(), "{sent}");
        }
    }

    #[test]
    fn the_words_are_those_of_the_load_generator() {
        let other = include_str!("../loadtest/src/secrets.rs");
        let (_, other) = other.split_once("const NAMES: [&str; ").unwrap();
        let (_, other) = other.split_once("= [").unwrap();
        let other: Vec<&str> = other.split(']').next().unwrap().split('"').collect();
        let other: Vec<&str> = other.into_iter().skip(1).step_by(2).collect();
        assert_eq!(other, WORDS);
    }
}
