//! Cuts sources into tokens and comments, and finds the paths among the tokens. It is as much of a lexer as the rules need.

/// Cuts a source into words and single characters, without comments, strings, characters and white space.
pub(crate) fn tokenize(text: &str) -> Vec<Token> {
    let code = pieces(text).filter(|piece| piece.is_code);
    code.map(|piece| Token {
        text: piece.text.to_owned(),
        line: piece.line,
    })
    .collect()
}

/// All lines of comments in a source.
pub(crate) fn comments(text: &str) -> Vec<Comment<'_>> {
    let mut found = Vec::new();
    let mut is_behind_code = false;
    for piece in pieces(text) {
        let kinds = ["///", "//!", "//", "/*"];
        let kind = kinds.into_iter().find(|kind| piece.text.starts_with(kind));
        if let Some(kind) = kind {
            let inside = piece.text[kind.len()..].trim_end_matches("*/");
            found.extend(inside.split('\n').zip(0..).map(|(text, below)| Comment {
                kind,
                text,
                line: piece.line + below,
                is_behind_code,
            }));
        }
        if !piece.text.starts_with(char::is_whitespace) {
            is_behind_code = true;
        } else if piece.text.contains('\n') {
            is_behind_code = false;
        }
    }
    found
}

/// A line of a comment.
#[derive(Debug)]
pub(crate) struct Comment<'a> {
    /// `//`, `///` or `//!`; `/*` in a block.
    kind: &'static str,
    pub(crate) text: &'a str,
    /// The line it stands on, counted from 1.
    pub(crate) line: usize,
    is_behind_code: bool,
}

impl Comment<'_> {
    /// Whether this line continues the comment of the line `before`. A comment behind code stands alone.
    pub(crate) fn continues(&self, before: &Comment<'_>) -> bool {
        let is_block = self.kind == "/*";
        self.kind == before.kind
            && self.line == before.line + 1
            && (is_block || !self.is_behind_code && !before.is_behind_code)
    }
}

/// A word or a single character of code; or a comment, a string, a character or white space.
struct Piece<'a> {
    text: &'a str,
    line: usize,
    is_code: bool,
}

/// Cuts a source into pieces. Together they are the source.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let (mut rest, mut line) = (text, 1);
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let skipped = skipped(rest);
        let word = || {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            end.unwrap_or(rest.len()).max(first.len_utf8())
        };
        let (text, behind) = rest.split_at(skipped.unwrap_or_else(word));
        let piece = Piece {
            text,
            line,
            is_code: skipped.is_none(),
        };
        line += text.matches('\n').count();
        rest = behind;
        Some(piece)
    })
}

/// The length of the comment, string, character or white space at the beginning of `rest`, if there is one.
fn skipped(rest: &str) -> Option<usize> {
    let until = |end: &str, from: usize| {
        rest[from..]
            .find(end)
            .map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with(char::is_whitespace) {
        return Some(rest.len() - rest.trim_start().len());
    }
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until("*/", 2));
    }
    let unprefixed = rest.trim_start_matches(['b', 'c']);
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return Some(until(
                &format!("\"{}", "#".repeat(hashes)),
                rest.len() - raw.len() + hashes + 1,
            ));
        }
    }
    if unprefixed.starts_with('"') {
        return Some(end_of_quote(rest, rest.len() - unprefixed.len(), '"'));
    }
    let quoted = unprefixed.strip_prefix('\'')?;
    // A lifetime has no second quote behind one character.
    let is_character = quoted.starts_with('\\') || quoted.chars().nth(1) == Some('\'');
    is_character.then(|| end_of_quote(rest, rest.len() - unprefixed.len(), '\''))
}

/// The end of the quote that opens at `open`.
fn end_of_quote(rest: &str, open: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().filter(|&(at, _)| at > open) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A word or a single character of code, and the line it stands on, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Whether `tokens` begin with `pattern`.
pub(crate) fn matches(tokens: &[Token], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len()
        && tokens
            .iter()
            .zip(pattern)
            .all(|(token, text)| token.text == *text)
}

/// Every path in the code, with the groups of `use` taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
pub(crate) fn paths(code: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if is_word(&code[at].text) {
            at = read_path(code, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the path that begins at `at`, in the group of `prefix`. Returns where it ends.
fn read_path(
    code: &[Token],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<(String, usize)>,
) -> usize {
    let line = code[at].line;
    let mut path = format!("{prefix}{}", code[at].text);
    at += 1;
    while matches(&code[at..], &[":", ":"]) {
        let Some(next) = code.get(at + 2) else {
            break;
        };
        if next.text == "{" {
            return read_group(code, at + 3, &format!("{path}::"), found);
        }
        if !is_word(&next.text) {
            break;
        }
        path = format!("{path}::{}", next.text);
        at += 3;
    }
    found.push((path, line));
    at
}

/// Reads the paths of a group, up to its closing brace. Returns where it ends.
fn read_group(
    code: &[Token],
    mut at: usize,
    prefix: &str,
    found: &mut Vec<(String, usize)>,
) -> usize {
    while let Some(token) = code.get(at) {
        if token.text == "}" {
            return at + 1;
        }
        at = if is_word(&token.text) {
            read_path(code, at, prefix, found)
        } else {
            at + 1
        };
    }
    at
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
