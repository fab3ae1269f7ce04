//! Advice for mistakes in YAML itself.
//!
//! [`super::explain`] calls it. The parser says which rule of YAML was broken. An operator wants to know what to type, so
//! this file looks at the line and names the character. It never shows a value, which may be a token.

use super::error::ConfigError;

/// Characters with a meaning at the beginning of a value, and that meaning.
const INDICATORS: [(char, &str); 9] = [
    ('*', "takes for the name of a value that stands elsewhere"),
    ('&', "takes for a name of the value"),
    ('@', "does not allow"),
    ('`', "does not allow"),
    ('%', "takes for a directive"),
    ('?', "takes for a key"),
    ('|', "takes for a text of several lines"),
    ('>', "takes for a text of several lines"),
    ('!', "takes for a tag"),
];

/// Advice for a key and a value that stand together.
pub(super) const KEY_AND_VALUE: &str =
    "write each key as `key: value`, with a blank behind the colon";

/// Explains a syntax error that the parser found on `line`. Also returns the line where the mistake begins.
pub(super) fn explain(
    text: &str,
    message: &str,
    line: Option<usize>,
) -> (ConfigError, Option<usize>) {
    let at_fault = line_of(text, line);
    let indent = &at_fault[..at_fault.len() - at_fault.trim_start().len()];
    if indent.contains('\t') {
        let error = ConfigError::new(
            "the line is indented with a tab",
            "indent with spaces, as YAML requires",
        );
        return (error, line);
    }
    if message.contains("more than one document") {
        let error = ConfigError::new(
            "more than one YAML document",
            "keep one, and remove the `---` between them",
        );
        return (error, line);
    }
    if let Some(position) = number_behind(message, "at position ") {
        let before = text.get(..position).unwrap_or("");
        let error = ConfigError::new(
            "not valid YAML: control characters are not allowed",
            "remove the character, or save the file as plain text",
        );
        return (error, Some(before.matches('\n').count() + 1));
    }
    let begin = number_behind(message, "quoted scalar at line ")
        .or_else(|| number_behind(message, "flow mapping at line "))
        .or_else(|| number_behind(message, "flow sequence at line "))
        .or(line);
    if let Some(pem) = line_of_pem(text, line) {
        let error = ConfigError::new(
            "the text of a certificate or a key is given in place of the path of its file",
            "write it to a file, and name that",
        );
        return (error, Some(pem));
    }
    let (problem, fix) = problem_and_fix(message, at_fault);
    let error = ConfigError::new(format!("not valid YAML: {problem}"), fix);
    (error, begin)
}

/// Betters the advice for a value of the wrong type, if the mistake is one in YAML.
pub(super) fn advise(
    text: &str,
    (found, expected): (&str, &str),
    line: Option<usize>,
    error: ConfigError,
) -> ConfigError {
    let at_fault = line_of(text, line);
    if at_fault.contains("{{") {
        return ConfigError::new(
            "found a template that is not filled in",
            "fill it in before fanwire reads the file",
        );
    }
    let Some(value) = found.strip_prefix("string ") else {
        return error;
    };
    let next = line_of(text, line.map(|line| line + 1));
    let indent = |line: &str| line.len() - line.trim_start().len();
    if at_fault.contains(": ") && !next.trim().is_empty() && indent(next) > indent(at_fault) {
        return ConfigError::new(
            "the next line belongs to this value, because it is indented deeper",
            "indent the keys of a section by the same number of spaces",
        );
    }
    if expected.starts_with("a mapping") && value.contains([':', ' ', '=']) {
        return error.or(KEY_AND_VALUE);
    }
    error
}

/// The words for a broken rule of the parser.
fn problem_and_fix(message: &str, at_fault: &str) -> (String, String) {
    let says = |text: &str| message.contains(text);
    let said = |problem: &str, fix: &str| (problem.to_owned(), fix.to_owned());
    if at_fault.contains("{{") {
        return said(
            "a template is not filled in",
            "fill it in before fanwire reads the file",
        );
    }
    if let Some((character, meaning)) = indicator(message, at_fault) {
        let mut fix = format!("put the value in quotes: \"{character}…\"");
        if character == '*' && key_of(at_fault) == "host" {
            "use 0.0.0.0 for every IPv4 address, or \"::\" for every address".clone_into(&mut fix);
        }
        let problem = format!("a value begins with `{character}`, which YAML {meaning}");
        return (problem, fix);
    }
    if says("mapping values are not allowed") || at_fault.contains("::") {
        return said(
            "a value has a colon that YAML takes for the end of a key",
            "put the value in quotes, such as host: \"::\", or begin a line for each key",
        );
    }
    if says("scanning a quoted scalar") && says("end of stream") {
        return said(
            "a quote that opens here is not closed",
            "close it on the same line",
        );
    }
    if says("escape character") {
        return said(
            "a backslash in double quotes begins a special character",
            "use single quotes, or write each backslash twice",
        );
    }
    if says("parsing a flow mapping") || says("parsing a flow sequence") {
        return said(
            "a bracket that opens here is not closed, or a comma is missing in it",
            "close the bracket, and put a comma between its entries",
        );
    }
    if says("parsing a flow node") {
        return said(
            "a bracket is not closed, or a value in it is missing",
            "close the bracket, and give each key a value",
        );
    }
    if says("block sequence entries are not allowed") {
        return said(
            "a list begins behind its key",
            "begin the list on the next line, or write it as [a, b]",
        );
    }
    if says("did not find expected key") || says("did not find expected '-'") {
        return said(
            "the line is not indented like the lines before it",
            "indent the keys of a section by the same number of spaces",
        );
    }
    if says("could not find expected ':'") {
        return said(
            "a line before this one has no colon behind its key",
            "write each key as `key: value`",
        );
    }
    said(
        message,
        "correct the line; compare it with the config.yaml that comes with fanwire",
    )
}

/// The character with a meaning that begins a value of the line, if that is what the parser complains about.
fn indicator(message: &str, at_fault: &str) -> Option<(char, &'static str)> {
    let is_cause = [
        "scanning an alias",
        "unknown anchor",
        "scanning an anchor",
        "cannot start any token",
        "scanning a block scalar",
        "mapping keys are not allowed",
        "scanning a tag",
        "parsing a tag",
        "scanning a directive",
    ];
    if !is_cause.iter().any(|cause| message.contains(cause)) {
        return None;
    }
    // A value begins behind a colon, a dash, a comma, a bracket, or at the beginning of the line.
    let mut begins = true;
    for character in at_fault.chars() {
        let known = INDICATORS.iter().find(|(known, _)| *known == character);
        if let (true, Some(&known)) = (begins, known) {
            return Some(known);
        }
        begins = match character {
            ' ' | '\t' => begins,
            ':' | '-' | ',' | '[' | '{' => true,
            _ => false,
        };
    }
    None
}

/// The key of a line such as `host: value`.
fn key_of(line: &str) -> &str {
    let (key, _) = line.split_once(": ").unwrap_or((line, ""));
    key.rsplit(['{', ',', ' ']).next().unwrap_or_default()
}

/// The line of the first PEM text that begins before the end of `line`, outside of comments.
fn line_of_pem(text: &str, line: Option<usize>) -> Option<usize> {
    let mut lines = text.lines().take(line.unwrap_or(usize::MAX));
    let begins = |line: &str| {
        let code = line.split(" #").next().unwrap_or(line);
        code.contains("-----BEGIN") && !code.trim_start().starts_with('#')
    };
    lines.position(begins).map(|at| at + 1)
}

fn line_of(text: &str, line: Option<usize>) -> &str {
    let line = line.and_then(|line| text.lines().nth(line - 1));
    line.unwrap_or("")
}

/// The number that stands behind these words.
fn number_behind(message: &str, words: &str) -> Option<usize> {
    let (_, rest) = message.split_once(words)?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_mistake_in_yaml_is_explained_by_the_line_and_not_by_the_rules_of_yaml() {
        for (value, expected) in [
            ("host: ::", COLON),
            ("host: a: b", COLON),
            ("tls: {cert_file: ::}", COLON),
            (
                "host: [::]",
                "found sequence; use an address without brackets",
            ),
            (
                "host: [::1]:8443",
                "found sequence; use an address without brackets",
            ),
            ("host: *", "`*`, which YAML takes for the name of a value"),
            (
                "host: *",
                "elsewhere; use 0.0.0.0 for every IPv4 address, or \"::\"",
            ),
            ("host: *anchor", "elsewhere; use 0.0.0.0"),
            (
                "allowed_origins: [*.a.example]",
                "put the value in quotes: \"*…\"",
            ),
            (
                "allowed_origins: [a.example, *.b.example]",
                "quotes: \"*…\"",
            ),
            ("allowed_origins:\n  - *.a.example", "quotes: \"*…\""),
            (
                "host: &",
                "`&`, which YAML takes for a name of the value; put",
            ),
            ("unix_socket: @a", "`@`, which YAML does not allow; put"),
            (
                "unix_socket: %t/a",
                "`%`, which YAML takes for a directive; put",
            ),
            ("host: `hostname`", "```, which YAML does not allow; put"),
            (
                "host: |a",
                "`|`, which YAML takes for a text of several lines; put",
            ),
            ("host: ? ", "`?`, which YAML takes for a key; put"),
            (
                "host: !x y",
                "the value begins with `!`; use quotes around the value",
            ),
            (
                "host: 'a\n  port: 1",
                "a quote that opens here is not closed; close",
            ),
            (
                "host: \"\\d\"",
                "double quotes begins a special character; use single",
            ),
            (
                "tls: {enabled: true",
                "a bracket that opens here is not closed, or",
            ),
            (
                "allowed_origins: - a.example",
                "a list begins behind its key; begin",
            ),
            ("port: 1\n   host: a", "the next line belongs to this value"),
            ("port:1\n  host:a", "or write each key as `key: value`"),
            ("port 1\n  host a", "or write each key as `key: value`"),
            (
                "port: {{ port }}",
                "found a template that is not filled in; fill",
            ),
            (
                "port: {{ port | default(1) }}",
                "template that is not filled in; fill",
            ),
            (
                "\u{a0}port: 1",
                "server.port: a blank that is not a plain space stands in front",
            ),
            (
                "\tport: 1",
                "the line is indented with a tab; indent with spaces",
            ),
        ] {
            let line = if value.contains("\n  -") { 3 } else { 2 };
            expect(value, line, expected);
        }
        expect(
            "port: 1\n host: a",
            3,
            "is not indented like the lines before it; indent",
        );
        expect(
            "port: 1\n#\u{b}",
            3,
            "control characters are not allowed; remove",
        );
    }

    const COLON: &str = "not valid YAML: a value has a colon that YAML takes for the end of a key; \
                         put the value in quotes, such as host: \"::\"";

    #[track_caller]
    fn expect(value: &str, line: usize, expected: &str) {
        let text = format!("server:\n  {value}\n");
        let refusal = Config::from_yaml(&text, "test.yaml").unwrap_err();
        let refusal = refusal.to_string();
        let place = format!("test.yaml:{line}: ");
        assert!(refusal.starts_with(&place), "for {text:?}: {refusal}");
        assert!(refusal.contains(expected), "for {text:?}: {refusal}");
    }

    #[test]
    fn pem_behind_a_key_is_named_as_such_wherever_the_parser_stops() {
        let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        for begin in [
            "key_file: -----BEGIN PRIVATE KEY-----",
            "key_file: \"-----BEGIN PRIVATE KEY-----",
        ] {
            for indent in ["", "  ", "    "] {
                for rest in ["\nlog: {}\n", ""] {
                    let text = format!(
                        "server:\n  tls:\n    enabled: true\n    {begin}\n{indent}{body}\n{indent}-----END PRIVATE KEY-----{rest}"
                    );
                    let refusal = Config::from_yaml(&text, "test.yaml")
                        .unwrap_err()
                        .to_string();
                    assert_eq!(
                        refusal,
                        "test.yaml:4: the text of a certificate or a key is given in place of the path of its file; \
                         write it to a file, and name that",
                        "for {text:?}"
                    );
                }
            }
        }
        expect(
            "# -----BEGIN\n  port: 1\n host: a",
            4,
            "is not indented like the lines before it",
        );
    }

    #[test]
    fn a_host_has_advice_for_every_address() {
        for host in ["'*'", "'[::]'", "'localhost:8443'"] {
            let refusal = Config::from_yaml(&format!("server: {{host: {host}}}"), "test.yaml");
            let refusal = refusal.unwrap_err().to_string();
            assert!(
                refusal.contains("0.0.0.0 or \"::\" for every one, or a host name; it has no brackets and no port"),
                "{refusal}"
            );
        }
    }
}
