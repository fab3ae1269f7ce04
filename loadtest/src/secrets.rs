//! Secrets, kept out of all that is shown or written: a report may be passed on.

/// What a secret's place is called, among other words.
const NAMES: [&str; 5] = ["token", "secret", "password", "passwd", "key"];

/// What is shown in a secret's place.
const HIDDEN: &str = "…";

/// Hides, in the arguments of a program, the values of options that name a secret, and what [`hide_in`] hides.
pub(crate) fn hide(arguments: Vec<String>) -> Vec<String> {
    let mut hides_next = false;
    let shown = arguments.into_iter().map(|argument| {
        let is_option = argument.starts_with('-');
        if std::mem::take(&mut hides_next) && !is_option {
            return HIDDEN.to_owned();
        }
        hides_next = is_option && !argument.contains('=') && is_name_of_one(&argument);
        match argument.split_once('=') {
            Some((option, _)) if !option.contains('?') && is_name_of_one(option) => {
                format!("{option}={HIDDEN}")
            }
            // `--option=URL?name=value&name=value`: each part is named by what stands before its first `=`.
            Some(_) | None => hide_in(&argument),
        }
    });
    shown.collect()
}

/// Hides, in a URL or whatever has one in it, the user with the password, and the values of parameters that name a secret.
/// What has been hidden before stays as it is.
pub(crate) fn hide_in(text: &str) -> String {
    without_values(&without_users(text))
}

fn without_users(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (authority, rest) = part.split_at(part.find(['/', '?', '#']).unwrap_or(part.len()));
        shown.push_str("://");
        if let Some((_, host)) = authority.rsplit_once('@') {
            shown.push_str(HIDDEN);
            shown.push('@');
            shown.push_str(host);
        } else {
            shown.push_str(authority);
        }
        shown.push_str(rest);
    }
    shown
}

/// A value goes on to the next `&`: a URL may be given with anything else in it that has no place there.
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
    fn users_and_values_are_hidden_and_what_is_hidden_stays_as_it_is() {
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
            "PASSWORD=x",
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
            "PASSWORD=…",
            "a=b",
            "--url=ws://…@h/t?room=1&token=…&x=2",
            "ws://h/t?key=…",
            "--secret=…",
        ];
        assert_eq!(shown, expected);
    }
}
