//! Reads the sections of a PEM file (RFC 7468), all of them or none.
//!
//! [`super::contents`] calls it for every file with certificates or keys. It takes what nginx and OpenSSL take: byte order
//! marks, indentation, every kind of line break, text between sections. It refuses everything that a lenient reader would
//! skip without a word.
//!
//! A file may hold a key, so a [`Flaw`] has words and numbers of our own, and never a byte of the file.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

/// The bytes that some editors put in front of UTF-8 text. After files were joined, they also stand in the middle.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The shortest line that is taken for Base64 that lost its section. Lines of PEM have 64 characters.
const MIN_STRAY_BASE64: usize = 60;

const FIX_MARKER: &str = "write BEGIN and END lines exactly like `-----BEGIN CERTIFICATE-----`, each on a line of its own";
const FIX_CUT: &str = "copy the whole file again";

/// A mistake in a file. The problem continues a sentence that begins with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The fault, with its section and line.
    pub(crate) problem: String,
    /// The remedy, in the imperative.
    pub(crate) fix: String,
}

impl Flaw {
    pub(super) fn new(problem: impl Into<String>, fix: impl Into<String>) -> Flaw {
        Flaw {
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

/// The kinds of sections that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    /// A certificate with OpenSSL's notes on what it is trusted for.
    TrustedCertificate,
    CertificateRequest,
    RevocationList,
    /// Certificates in a format of their own.
    Pkcs7,
    /// A key as PKCS#8.
    AnyKey,
    /// A key as PKCS#1.
    RsaKey,
    /// A key as SEC1.
    EcKey,
    EncryptedKey,
    DsaKey,
    OpensshKey,
    PublicKey,
    /// The parameters of a curve or of Diffie-Hellman. They are public, and nothing here needs them.
    Parameters,
    Other,
}

impl Kind {
    fn of(label: &[u8]) -> Kind {
        match label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => Kind::Certificate,
            b"TRUSTED CERTIFICATE" => Kind::TrustedCertificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Kind::CertificateRequest,
            b"X509 CRL" => Kind::RevocationList,
            b"PKCS7" | b"PKCS #7 SIGNED DATA" | b"CMS" => Kind::Pkcs7,
            b"PRIVATE KEY" => Kind::AnyKey,
            b"RSA PRIVATE KEY" => Kind::RsaKey,
            b"EC PRIVATE KEY" => Kind::EcKey,
            b"ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
            b"DSA PRIVATE KEY" => Kind::DsaKey,
            b"OPENSSH PRIVATE KEY" => Kind::OpensshKey,
            b"PUBLIC KEY" | b"RSA PUBLIC KEY" => Kind::PublicKey,
            b"EC PARAMETERS" | b"DH PARAMETERS" | b"X9.42 DH PARAMETERS" => Kind::Parameters,
            _ => Kind::Other,
        }
    }

    /// Whether it is a private key, even one that cannot be used.
    pub(super) fn is_private_key(self) -> bool {
        match self {
            Kind::AnyKey
            | Kind::RsaKey
            | Kind::EcKey
            | Kind::EncryptedKey
            | Kind::DsaKey
            | Kind::OpensshKey => true,
            Kind::Certificate
            | Kind::TrustedCertificate
            | Kind::CertificateRequest
            | Kind::RevocationList
            | Kind::Pkcs7
            | Kind::PublicKey
            | Kind::Parameters
            | Kind::Other => false,
        }
    }

    /// Its name in a sentence.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Kind::Certificate => "a certificate",
            Kind::TrustedCertificate => "a certificate in OpenSSL's own format",
            Kind::CertificateRequest => "a request for a certificate",
            Kind::RevocationList => "a list of revoked certificates",
            Kind::Pkcs7 => "a PKCS#7 bundle",
            Kind::AnyKey | Kind::RsaKey | Kind::EcKey => "a private key",
            Kind::EncryptedKey => "an encrypted key",
            Kind::DsaKey => "a DSA key",
            Kind::OpensshKey => "a key for SSH",
            Kind::PublicKey => "a public key",
            Kind::Parameters => "parameters",
            Kind::Other => "a section of a kind that fanwire does not know",
        }
    }
}

/// A section: its place in the file, and its contents.
pub(super) struct Section {
    /// Counted from 1.
    number: usize,
    /// The line of its BEGIN, counted from 1.
    line: usize,
    pub(super) kind: Kind,
    /// Base64, for a kind that is read.
    body: Vec<u8>,
}

impl Section {
    /// Its place in the file, for an error.
    pub(super) fn place(&self) -> String {
        format!("section {} (line {})", self.number, self.line)
    }

    /// Its contents as a certificate. They are not looked into.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, Flaw> {
        CertificateDer::from_pem_slice(&self.normalized("CERTIFICATE"))
            .map_err(|_| self.damaged())
            .and_then(|der| {
                if der.is_empty() {
                    Err(self.damaged())
                } else {
                    Ok(der)
                }
            })
    }

    /// Its contents as a private key; `None` if the kind is none that can be read. They are not looked into.
    pub(super) fn private_key(&self) -> Option<Result<PrivateKeyDer<'static>, Flaw>> {
        let label = match self.kind {
            Kind::AnyKey => "PRIVATE KEY",
            Kind::RsaKey => "RSA PRIVATE KEY",
            Kind::EcKey => "EC PRIVATE KEY",
            Kind::Certificate
            | Kind::TrustedCertificate
            | Kind::CertificateRequest
            | Kind::RevocationList
            | Kind::Pkcs7
            | Kind::EncryptedKey
            | Kind::DsaKey
            | Kind::OpensshKey
            | Kind::PublicKey
            | Kind::Parameters
            | Kind::Other => return None,
        };
        let key = PrivateKeyDer::from_pem_slice(&self.normalized(label));
        Some(key.map_err(|_| self.damaged()))
    }

    /// The section as the library wants to read it, which decodes Base64 without telling its time.
    fn normalized(&self, label: &str) -> Vec<u8> {
        let begin = format!("-----BEGIN {label}-----\n");
        let end = format!("\n-----END {label}-----\n");
        [begin.as_bytes(), &self.body, end.as_bytes()].concat()
    }

    fn damaged(&self) -> Flaw {
        Flaw::new(
            format!("is damaged: the Base64 of {} does not decode", self.place()),
            FIX_CUT,
        )
    }
}

/// Reads all sections. Text that is no PEM has none.
pub(super) fn sections(bytes: &[u8]) -> Result<Vec<Section>, Flaw> {
    refuse_other_formats(bytes)?;
    let mut reader = Reader {
        finished: Vec::new(),
        open: None,
    };
    for (line, text) in lines(bytes) {
        reader.take(line, text)?;
    }
    match reader.open {
        None => Ok(reader.finished),
        Some(Open { line, .. }) => Err(Flaw::new(
            format!(
                "is cut short: section {} (line {line}) has no END line",
                reader.finished.len() + 1
            ),
            FIX_CUT,
        )),
    }
}

/// The lines with their numbers, without indentation, line breaks and byte order marks.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let numbered = (1..).zip(bytes.split(|&byte| byte == b'\n'));
    numbered.flat_map(|(number, line)| {
        let parts = line.split(|&byte| byte == b'\r');
        parts.map(move |part| (number, trimmed(part)))
    })
}

fn trimmed(mut line: &[u8]) -> &[u8] {
    loop {
        line = line.trim_ascii();
        let without = line.strip_prefix(BYTE_ORDER_MARK);
        match without.or_else(|| line.strip_suffix(BYTE_ORDER_MARK)) {
            Some(rest) => line = rest,
            None => return line,
        }
    }
}

/// Names formats that an operator may have in place of PEM.
fn refuse_other_formats(bytes: &[u8]) -> Result<(), Flaw> {
    match bytes {
        [] => Err(Flaw::new("is empty", "name a PEM file with contents")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(Flaw::new(
            "is UTF-16 text, as PowerShell writes it",
            "save it as ASCII or UTF-8",
        )),
        // A PKCS#12 file begins with its version, the number 3.
        [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => Err(Flaw::new(
            "is not PEM, and looks like PKCS#12",
            "convert it: openssl pkcs12 -in FILE -nodes -out NEW.pem",
        )),
        [0x30, 0x80..=0xff, ..] => Err(Flaw::new(
            "is not PEM, and looks like DER",
            "convert it: openssl x509 -inform DER -in FILE -out NEW.pem, or openssl pkey for a key",
        )),
        _ => Ok(()),
    }
}

/// A section whose END is yet to come.
struct Open {
    line: usize,
    label: Vec<u8>,
    body: Vec<u8>,
    is_encrypted: bool,
}

struct Reader {
    finished: Vec<Section>,
    open: Option<Open>,
}

impl Reader {
    fn take(&mut self, line: usize, text: &[u8]) -> Result<(), Flaw> {
        match (marker(line, text)?, &mut self.open) {
            (Some(Marker::Begin(label)), None) => {
                self.open = Some(Open {
                    line,
                    label: label.to_vec(),
                    body: Vec::new(),
                    is_encrypted: false,
                });
                Ok(())
            }
            (Some(Marker::Begin(_)), Some(open)) => Err(Flaw::new(
                format!(
                    "is damaged: section {} (line {}) has no END line before the BEGIN on line {line}",
                    self.finished.len() + 1,
                    open.line
                ),
                FIX_CUT,
            )),
            (Some(Marker::End(label)), open) => match open.take() {
                Some(open) if open.label == label => {
                    self.finish(open);
                    Ok(())
                }
                Some(open) => Err(Flaw::new(
                    format!(
                        "is damaged: section {} (line {}) begins with another name than it ends with on line {line}",
                        self.finished.len() + 1,
                        open.line
                    ),
                    FIX_CUT,
                )),
                None => Err(Flaw::new(
                    format!("is damaged: line {line} is an END without a BEGIN"),
                    FIX_CUT,
                )),
            },
            (None, Some(open)) => open.take(line, text),
            (None, None) => refuse_stray_base64(line, text),
        }
    }

    fn finish(&mut self, open: Open) {
        let kind = match Kind::of(&open.label) {
            kind if open.is_encrypted && kind.is_private_key() => Kind::EncryptedKey,
            kind => kind,
        };
        self.finished.push(Section {
            number: self.finished.len() + 1,
            line: open.line,
            kind,
            body: open.body,
        });
    }
}

impl Open {
    /// Takes a line of the section: a header (RFC 1421), or Base64.
    fn take(&mut self, line: usize, text: &[u8]) -> Result<(), Flaw> {
        if self.body.is_empty() && text.contains(&b':') {
            self.is_encrypted |= contains(text, b"ENCRYPTED");
            return Ok(());
        }
        if contains(text, b"\\n") {
            return Err(escaped_line_breaks(line));
        }
        for &byte in text {
            match byte {
                b' ' | b'\t' => {}
                byte if is_base64(byte) => self.body.push(byte),
                _ => {
                    return Err(Flaw::new(
                        format!("is damaged: line {line} has a character that is not Base64"),
                        FIX_CUT,
                    ));
                }
            }
        }
        Ok(())
    }
}

enum Marker<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
}

/// Recognises a BEGIN or END line. A line that was meant as one and is none is refused, because everything up to the next
/// marker would be lost.
fn marker(line: usize, text: &[u8]) -> Result<Option<Marker<'_>>, Flaw> {
    let label = |begin: &[u8]| {
        let label = text.strip_prefix(begin)?.strip_suffix(b"-----")?;
        (!label.is_empty() && !label.contains(&b'-')).then_some(label)
    };
    if let Some(label) = label(b"-----BEGIN ") {
        return Ok(Some(Marker::Begin(label)));
    }
    if let Some(label) = label(b"-----END ") {
        return Ok(Some(Marker::End(label)));
    }
    let begin = position(text, b"-----BEGIN");
    let end = position(text, b"-----END");
    match (begin, end) {
        _ if (begin.is_some() || end.is_some()) && contains(text, b"\\n") => {
            Err(escaped_line_breaks(line))
        }
        (Some(begin), Some(end)) if end < begin => Err(Flaw::new(
            format!("has the END of a section and the BEGIN of the next on one line, line {line}"),
            "put a line break between them",
        )),
        (Some(_), Some(_)) => Err(Flaw::new(
            format!("has a whole section on line {line}: its line breaks are lost"),
            "write it with its line breaks; a shell keeps those of a variable in double quotes",
        )),
        (Some(_), None) | (None, Some(_)) => Err(malformed(line)),
        (None, None) if resembles_marker(text) => Err(malformed(line)),
        (None, None) => Ok(None),
    }
}

fn malformed(line: usize) -> Flaw {
    Flaw::new(
        format!("has a malformed BEGIN or END on line {line}"),
        FIX_MARKER,
    )
}

fn escaped_line_breaks(line: usize) -> Flaw {
    Flaw::new(
        format!("has \\n as two characters on line {line}, in place of line breaks"),
        "turn them into line breaks, as printf '%b' does",
    )
}

/// Whether it looks like a marker that lost a dash, its capitals or its blank, or whose dashes a word processor replaced.
fn resembles_marker(text: &[u8]) -> bool {
    let text = text.to_ascii_uppercase();
    // Dashes of Unicode, from U+2010 to U+2015, and the minus sign.
    let is_dash = |three: &[u8]| matches!(three, [0xe2, 0x80, 0x90..=0x95] | [0xe2, 0x88, 0x92]);
    (contains(&text, b"BEGIN") || contains(&text, b"END"))
        && (contains(&text, b"CERTIFICATE") || contains(&text, b"PRIVATE KEY"))
        && (contains(&text, b"--") || text.windows(3).any(is_dash))
}

/// Refuses Base64 that no BEGIN introduces: the section would be lost. A fingerprint in a comment may stand there.
fn refuse_stray_base64(line: usize, text: &[u8]) -> Result<(), Flaw> {
    let is_stray = text.len() >= MIN_STRAY_BASE64
        && text.iter().all(|&byte| is_base64(byte))
        && !text.iter().all(u8::is_ascii_hexdigit);
    if is_stray {
        return Err(Flaw::new(
            format!(
                "is damaged: line {line} looks like Base64, but no BEGIN line stands before it"
            ),
            FIX_CUT,
        ));
    }
    Ok(())
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn position(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|at| at == needle)
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    position(text, needle).is_some()
}
