//! Hides secrets in everything that is shown or written, since a report may be passed on.

/// Words in the name of an option or a parameter whose value is a secret. The relay has the same words.
const NAMES: [&str; 11] = [
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

/// The text that is shown in place of a secret.
const HIDDEN: &str = "…";

/// Hides secrets in the arguments of a program: values of options whose names say so, and secrets in URLs.
pub(crate) fn hide(arguments: Vec<String>) -> Vec<String> {
    let mut hides_next = false;
    let shown = arguments.into_iter().map(|argument| {
        // A value may begin with one dash: Base64 for URLs does.
        if std::mem::take(&mut hides_next) && !argument.starts_with("--") {
            return HIDDEN.to_owned();
        }
        hides_next =
            argument.starts_with('-') && !argument.contains('=') && is_name_of_one(&argument);
        match argument.split_once('=') {
            Some((option, _)) if !option.contains('?') && is_name_of_one(option) => {
                format!("{}={HIDDEN}", hide_in(option))
            }
            // `--option=URL?name=value&name=value`: the name of each part stands before its first `=`.
            Some(_) | None => hide_in(&argument),
        }
    });
    shown.collect()
}

/// Hides secrets in a text with a URL in it: the user with the password, and values of parameters whose names say so.
/// Hiding twice changes nothing.
pub(crate) fn hide_in(text: &str) -> String {
    without_values(&without_users(text))
}

/// Hides the secrets of a program's arguments in a text that quotes them.
pub(crate) fn hide_quoted(text: &str, arguments: &[String]) -> String {
    let shown = hide(arguments.to_vec());
    let whole = arguments.iter().cloned().zip(shown);
    let values = arguments.iter().filter_map(|argument| {
        let (_, value) = argument.split_once('=')?;
        Some((value.to_owned(), hide_in(value)))
    });
    whole.chain(values).fold(text.to_owned(), |text, (of, by)| {
        text.replace(&format!("'{of}'"), &format!("'{by}'"))
    })
}

/// Hides secrets in the text of a configuration, whatever its format: values of keys whose names say so, with all that
/// belongs to them by indentation or brackets, and PEM. It rather hides too much.
pub(crate) fn hide_in_configuration(text: &str) -> String {
    let mut hidden: Option<Hidden> = None;
    let mut shown = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(hides) = &mut hidden {
            if hides.goes_on(line, indent) {
                continue;
            }
            hidden = None;
        }
        if line.contains("-----BEGIN") {
            hidden = Some(Hidden::Pem { is_over: false });
            shown.push_str(HIDDEN);
        } else if let Some(end) = end_of_secret_name(line) {
            let depth = depth(&line[end..]);
            hidden = Some(Hidden::Value { indent, depth });
            shown.push_str(&line[..end]);
            shown.push_str(HIDDEN);
        } else {
            shown.push_str(&hide_in(line));
        }
        shown.push('\n');
    }
    shown
}

/// The rest of a secret, on the lines that follow.
enum Hidden {
    /// Up to its END line.
    Pem { is_over: bool },
    /// The indentation of its key, and the brackets that are open.
    Value { indent: usize, depth: isize },
}

impl Hidden {
    /// Whether a line still belongs to it.
    fn goes_on(&mut self, line: &str, line_indent: usize) -> bool {
        match self {
            Hidden::Pem { is_over: true } => false,
            Hidden::Pem { is_over } => {
                *is_over = line.contains("-----END");
                true
            }
            Hidden::Value { indent, depth } => {
                let is_inside = *depth > 0;
                *depth += self::depth(line);
                let text = line.trim_start();
                let is_item = line_indent >= *indent && text.starts_with('-');
                is_inside
                    || is_item
                    || line_indent > *indent
                    || text.is_empty()
                    || text.starts_with('#')
            }
        }
    }
}

/// The brackets that a text opens, less those that it closes.
fn depth(text: &str) -> isize {
    let of = |byte: u8| match byte {
        b'[' | b'{' => 1,
        b']' | b'}' => -1,
        _ => 0,
    };
    text.bytes().map(of).sum()
}

/// The end of the first key that names a secret, with its colon or equals sign. In a comment, too.
fn end_of_secret_name(line: &str) -> Option<usize> {
    let signs = line.match_indices([':', '=']);
    let mut ends = signs.map(|(at, _)| at + 1);
    ends.find(|&end| {
        let before = line[..end - 1].trim_end();
        let name = before.rsplit([' ', '{', ',', '[', '#', '\t']).next();
        name.is_some_and(is_name_of_one)
    })
}

fn without_users(text: &str) -> String {
    let mut parts = text.split("://");
    let first = parts.next().unwrap_or_default();
    // Without a scheme, or with a broken one, it may have been meant as a URL.
    if let (Some((user, host)), false) = (first.rsplit_once('@'), text.contains("://"))
        && user.contains(':')
    {
        return format!("{HIDDEN}@{host}");
    }
    let mut shown = first.to_owned();
    for part in parts {
        shown.push_str("://");
        match part.split_at(end_of_user(part)) {
            ("", rest) => shown.push_str(rest),
            (_, rest) => {
                shown.push_str(HIDDEN);
                shown.push_str(rest);
            }
        }
    }
    shown
}

/// The length of the user in the text behind a scheme; an `@` follows. 0 if there is no user.
fn end_of_user(part: &str) -> usize {
    let authority = &part[..part.find(['/', '?', '#']).unwrap_or(part.len())];
    if let Some(end) = authority.rfind('@') {
        return end;
    }
    // A text that is not a port may be the beginning of a password that should have been escaped.
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = authority.ends_with(']')
        || authority
            .rsplit_once(':')
            .is_none_or(|(_, port)| is_port(port));
    if is_host {
        0
    } else {
        part.rfind('@').unwrap_or(0)
    }
}

/// Hides values of parameters. A value goes on to the next `&`, since a mistyped URL may have anything in it.
fn without_values(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        shown.push_str(before);
        shown.push('=');
        rest = match before.rsplit(['?', '&', '#']).next() {
            Some(name) if is_name_of_one(name) => {
                shown.push_str(HIDDEN);
                &after[after.find('&').unwrap_or(after.len())..]
            }
            Some(_) | None => after,
        };
    }
    shown.push_str(rest);
    shown
}

fn is_name_of_one(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_values_are_hidden_and_hiding_twice_changes_nothing() {
        for (text, expected) in [
            (
                "ws://h/?room=1&token=a/b?c,d#e f&x=2",
                "ws://h/?room=1&token=…&x=2",
            ),
            ("ws://h/?Secret=y;x=2#key=3", "ws://h/?Secret=…"),
            ("ws://h/?x=2#key=3", "ws://h/?x=2#key=…"),
            ("wss://me:p@ss@h:1/a@b?c=d@e", "wss://…@h:1/a@b?c=d@e"),
            (
                "a=ws://me@h,b=ws://you@i?token=1",
                "a=ws://…@h,b=ws://…@i?token=…",
            ),
            ("ws://h/a=b", "ws://h/a=b"),
            ("ws://me:hun/ter2@h/", "ws://…@h/"),
            ("ws://h:hunter2#x@h/", "ws://…@h/"),
            ("ws://h:1/a@b", "ws://h:1/a@b"),
            ("ws://[::1]/a@b", "ws://[::1]/a@b"),
            ("me:hunter2@h:1/", "…@h:1/"),
            ("ws:/me:hunter2@h/", "…@h/"),
            ("me@h", "me@h"),
            (
                "ws://h/?auth=a&pwd=b&passphrase=c&x=d",
                "ws://h/?auth=…&pwd=…&passphrase=…&x=d",
            ),
            ("", ""),
        ] {
            assert_eq!(hide_in(text), expected);
            assert_eq!(hide_in(expected), expected);
        }
    }

    #[test]
    fn secrets_are_hidden_in_a_command_line() {
        let arguments = [
            "relay",
            "--token=abc",
            "--key",
            "k",
            "-p",
            "1",
            "--token",
            "-abc",
            "PASSWORD=x",
            "ws://me:pw@keys.example/a=b",
            "a=b",
            "--url=ws://me:pw@h/t?room=1&token=a#b c\nd&x=2",
            "ws://h/t?key=abc",
            "--secret=a?b&c",
        ];
        let shown = hide(arguments.map(str::to_owned).to_vec());
        let expected = [
            "relay",
            "--token=…",
            "--key",
            "…",
            "-p",
            "1",
            "--token",
            "…",
            "PASSWORD=…",
            "ws://…@keys.example/a=…",
            "a=b",
            "--url=ws://…@h/t?room=1&token=…&x=2",
            "ws://h/t?key=…",
            "--secret=…",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn secrets_are_hidden_in_an_error_that_quotes_a_command_line() {
        let arguments = ["--server=ws://me:pw@h/", "ws://h/?key=pw", "--token", "e"];
        let arguments = arguments.map(str::to_owned);
        let text = "'ws://me:pw@h/' in '--server=ws://me:pw@h/', 'ws://h/?key=pw' or 'e' are wrong";
        let expected = "'ws://…@h/' in '--server=ws://…@h/', 'ws://h/?key=…' or '…' are wrong";
        assert_eq!(hide_quoted(text, &arguments), expected);
    }

    #[test]
    fn secrets_of_a_configuration_are_hidden_with_all_that_belongs_to_them() {
        for (text, shown) in [
            ("a: 1\nb: 2\n", "a: 1\nb: 2\n"),
            ("publish: token\n", "publish: token\n"),
            (
                "publish_tokens: [abc, def]\nb: 2\n",
                "publish_tokens:…\nb: 2\n",
            ),
            (
                "publish_tokens:\n- abc\n- def\nb: 2\n",
                "publish_tokens:…\nb: 2\n",
            ),
            (
                "a:\n  tokens:\n    - abc\n  b: 2\n",
                "a:\n  tokens:…\n  b: 2\n",
            ),
            (
                "tokens:\n- abc\n\n# more\n- def\nb: 2\n",
                "tokens:…\nb: 2\n",
            ),
            (
                "a: {publish: token, tokens: [abc]}\n",
                "a: {publish: token, tokens:…\n",
            ),
            ("tokens: [\nabc,\ndef\n]\nb: 2\n", "tokens:…\nb: 2\n"),
            ("# tokens: [abc]\nb: 2\n", "# tokens:…\nb: 2\n"),
            ("\"password\": \"abc\"\n", "\"password\":…\n"),
            ("PASSWORD=abc\n", "PASSWORD=…\n"),
            (
                "-----BEGIN KEY-----\nabc\n-----END KEY-----\nb: 2\n",
                "…\nb: 2\n",
            ),
            ("url: redis://me:pw@h/\n", "url: redis://…@h/\n"),
        ] {
            assert_eq!(hide_in_configuration(text), shown);
        }
    }
}
