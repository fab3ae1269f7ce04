//! The rules about comments: short lines and paragraphs, and sentences that begin with their subject.
//!
//! `tidy.rs` calls it for every source. It reads comments only: no code and no strings. It leaves out fenced code and tables.

use super::tokens::{Comment, comments};
use super::{Finding, finding};

/// The longest line with a comment, in characters. `rustfmt` breaks lines of code only.
const MAX_CHARS: usize = 130;

/// The longest paragraph, in words.
const MAX_WORDS: usize = 60;

/// Words that begin no sentence. They put a clause in the place of the subject.
const NOT_FIRST: &[&str] = &[
    "Who", "Whoever", "What", "Whatever", "Where", "Whose", "That",
];

/// Refuses long lines and paragraphs, and sentences without a plain subject in front.
pub(crate) fn check_comments(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let comments = comments(text);
    let lines: Vec<&str> = text.lines().collect();
    for comment in &comments {
        let chars = lines[comment.line - 1].chars().count();
        if chars > MAX_CHARS {
            let what = format!(
                "a comment in a line of {chars} characters, more than {MAX_CHARS}: wrap it"
            );
            findings.push(finding(comment.line, what));
        }
    }
    for paragraph in paragraphs(&comments) {
        if paragraph.words.len() > MAX_WORDS {
            let what = format!(
                "a paragraph of {} words, more than {MAX_WORDS}: cut it, or move it to a page below docs/",
                paragraph.words.len()
            );
            findings.push(finding(paragraph.words[0].1, what));
        }
        for (word, line) in paragraph.beginnings() {
            if NOT_FIRST.contains(&word) {
                let what = format!("a sentence begins with `{word}`: who does what?");
                findings.push(finding(line, what));
            }
        }
    }
    findings
}

/// Lines of a comment that belong together: its words, and the line of each.
struct Paragraph<'a> {
    words: Vec<(&'a str, usize)>,
}

impl<'a> Paragraph<'a> {
    /// The first word of each sentence, without the marks around it. A name of code gives an empty one.
    fn beginnings(&self) -> impl Iterator<Item = (&'a str, usize)> {
        let begins = |at: usize| at == 0 || ends_a_sentence(self.words[at - 1].0);
        let first = (0..self.words.len()).filter(move |&at| begins(at));
        first.map(|at| {
            let (word, line) = self.words[at];
            let word = word.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '`');
            let end = word.find(|c: char| !c.is_alphanumeric());
            (&word[..end.unwrap_or(word.len())], line)
        })
    }
}

/// Whether a word has a full stop behind it, maybe with a closing mark behind that.
fn ends_a_sentence(word: &str) -> bool {
    word.trim_end_matches(['"', '\'', ')', '`', '*', '_'])
        .ends_with('.')
}

/// Cuts comments into paragraphs. A blank line, code, a heading, a table and a list item end one.
fn paragraphs<'a>(comments: &[Comment<'a>]) -> Vec<Paragraph<'a>> {
    let mut found: Vec<Paragraph<'_>> = Vec::new();
    let mut before: Option<&Comment<'_>> = None;
    let (mut is_open, mut is_fenced) = (false, false);
    for comment in comments {
        let text = comment.text.trim();
        let continues = before.is_some_and(|before| comment.continues(before));
        before = Some(comment);
        is_open &= continues && !begins_item(text) && !text.starts_with('#');
        is_fenced &= continues;
        if text.starts_with("```") {
            is_fenced = !is_fenced;
            is_open = false;
            continue;
        }
        if is_fenced || text.is_empty() || text.starts_with('|') {
            is_open = false;
            continue;
        }
        if !is_open {
            found.push(Paragraph { words: Vec::new() });
        }
        is_open = !text.starts_with('#');
        let words = text.strip_prefix(['-', '*', '#']).unwrap_or(text);
        let words = words.split_whitespace().map(|word| (word, comment.line));
        if let Some(paragraph) = found.last_mut() {
            paragraph.words.extend(words);
        }
    }
    found.retain(|paragraph| !paragraph.words.is_empty());
    found
}

/// Whether a line begins an item of a list: `- a`, `* a` or `1. a`.
fn begins_item(text: &str) -> bool {
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.starts_with("- ")
        || text.starts_with("* ")
        || number.len() < text.len() && number.starts_with(". ")
}
