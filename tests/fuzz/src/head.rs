//! A second reader of the head of an HTTP/1.1 request, for the targets that compare. It reads line by line, as the grammar
//! of RFC 9112 says. It is slow, and shares nothing with the relay's own reader.

/// A head that keeps the grammar.
#[derive(Debug, PartialEq)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// The target as sent.
    pub target: &'a str,
    /// Of HTTP/1.x: the x.
    pub minor: u8,
    /// Names and values, these without the white space around them, in order.
    pub fields: Vec<(&'a str, &'a [u8])>,
    /// Bytes of the head, empty lines in front and the one at its end included.
    pub len: usize,
}

/// The result of reading the front of a stream.
#[derive(Debug, PartialEq)]
pub enum Reading<'a> {
    /// A whole head.
    Head(Head<'a>),
    /// The beginning of one, as far as lines go.
    Incomplete,
    /// Something that no correct client sends.
    Refused,
}

/// Reads the head in front of `bytes`.
pub fn read(bytes: &[u8]) -> Reading<'_> {
    // RFC 9112, section 2.2: empty lines in front of the request line are ignored.
    let mut start = 0;
    while bytes[start..].starts_with(b"\r\n") {
        start += 2;
    }
    let Some(len) = find(&bytes[start..], b"\r\n\r\n") else {
        return Reading::Incomplete;
    };
    let len = start + len + 4;
    parse(&bytes[start..len - 4], len).map_or(Reading::Refused, Reading::Head)
}

impl<'a> Head<'a> {
    /// The values of all fields of this name.
    pub fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let fields = self.fields.iter();
        fields
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|&(_, value)| value)
            .collect()
    }

    /// The members of the comma-separated lists of all fields of this name, in lower case.
    pub fn members(&self, name: &str) -> Vec<String> {
        let joined = self.values(name).join(&b","[..]);
        let text = String::from_utf8_lossy(&joined).to_ascii_lowercase();
        text.split(',')
            .map(|member| member.trim_matches([' ', '\t']).to_owned())
            .collect()
    }
}

impl Head<'_> {
    /// Whether there is exactly one `Host`, which is valid; in HTTP/1.0 there may be none (RFC 9112, section 3.2).
    pub fn has_valid_host(&self) -> bool {
        match self.values("host")[..] {
            [] => self.minor == 0,
            [host] => std::str::from_utf8(host).is_ok_and(is_authority),
            [_, _, ..] => false,
        }
    }
}

/// RFC 3986, section 3.2, without userinfo and with a host that is not empty.
pub fn is_authority(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if port.chars().all(is_digit) => (host, port),
        Some(_) | None => (text, ""),
    };
    let is_port =
        port.trim_start_matches('0').len() <= 5 && port.parse().unwrap_or(0) <= 65_535_u32;
    is_port && (is_literal(host) || is_registered(host))
}

fn is_literal(host: &str) -> bool {
    let Some(inner) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    else {
        return false;
    };
    let (address, zone) = inner.split_once('%').unwrap_or((inner, "0"));
    let is_zone = !zone.is_empty() && zone.chars().all(|c| c == '%' || is_unreserved(c));
    let is_future = || {
        let (version, rest) = address.get(1..)?.split_once('.')?;
        let is_version = !version.is_empty() && version.chars().all(|c| c.is_ascii_hexdigit());
        let is_rest = |c| is_unreserved(c) || "!$&'()*+,;=:".contains(c);
        let is_text = !rest.is_empty() && rest.chars().all(is_rest);
        (address.starts_with(['v', 'V']) && is_version && is_text).then_some(())
    };
    is_zone && (address.parse::<std::net::Ipv6Addr>().is_ok() || is_future().is_some())
}

fn is_registered(host: &str) -> bool {
    let mut parts = host.split('%');
    let is_plain = |text: &str| {
        text.chars()
            .all(|c| is_unreserved(c) || "!$&'()*+,;=".contains(c))
    };
    let is_first = parts.next().is_some_and(is_plain);
    let is_escape = |part: &str| {
        let digits = part.get(..2);
        digits.is_some_and(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))
            && is_plain(&part[2..])
    };
    !host.is_empty() && is_first && parts.all(is_escape)
}

fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~".contains(c)
}

/// The position of the first `needle`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn parse(lines: &[u8], len: usize) -> Option<Head<'_>> {
    let mut lines = Lines(Some(lines));
    let mut words = lines.next()?.split(|&byte| byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let minor = match version {
        b"HTTP/1.0" => 0,
        b"HTTP/1.1" => 1,
        _ => return None,
    };
    let is_target = !target.is_empty() && target.iter().all(|&byte| byte > b' ' && byte != 0x7f);
    if words.next().is_some() || !is_target {
        return None;
    }
    let fields = lines.map(field).collect::<Option<Vec<_>>>()?;
    Some(Head {
        method: token(method)?,
        target: std::str::from_utf8(target).ok()?,
        minor,
        fields,
        len,
    })
}

/// Section 5: `field-name ":" OWS field-value OWS`.
fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let value = &line[colon + 1..];
    let is_value = |&byte: &u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    if !value.iter().all(is_value) {
        return None;
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte));
    let end = value.iter().rposition(|byte| !is_blank(byte));
    let value = match (start, end) {
        (Some(start), Some(end)) => &value[start..=end],
        (None | Some(_), _) => &[],
    };
    Some((token(&line[..colon])?, value))
}

/// RFC 9110, section 5.6.2: `1*tchar`.
fn token(bytes: &[u8]) -> Option<&str> {
    let is_tchar = |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let text = std::str::from_utf8(bytes).ok()?;
    (!bytes.is_empty() && bytes.iter().all(is_tchar)).then_some(text)
}

/// The lines of a head, without their CR LF.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        let Some(end) = find(rest, b"\r\n") else {
            return Some(rest);
        };
        self.0 = Some(&rest[end + 2..]);
        Some(&rest[..end])
    }
}
