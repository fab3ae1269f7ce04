//! Says what kind of key a certificate or a key file has, and what this build can do with it.
//!
//! [`super::identity`] asks it when the cryptography refuses a key, because that does not say why. [`super::chain`] asks it
//! about the keys of authorities. It never shows a byte of a key.

use rustls_pki_types::PrivateKeyDer;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Integer, OctetString, Sequence, Tag};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::pem::Flaw;

/// The smallest public exponent of an RSA key that ring accepts.
const MIN_EXPONENT: [u8; 3] = [1, 0, 1];

/// The keys that this build takes for its own certificate.
#[cfg(not(feature = "aws-lc"))]
const POSSIBLE: &str =
    "make a key of P-256, P-384 or Ed25519, or an RSA key of 2048, 3072 or 4096 bits";
#[cfg(feature = "aws-lc")]
const POSSIBLE: &str =
    "make a key of P-256, P-384, P-521 or Ed25519, or an RSA key of 2048 to 8192 bits";

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa {
        bits: usize,
        has_small_exponent: bool,
    },
    RsaPss,
    P256,
    P384,
    P521,
    /// A named curve that no build has.
    OtherCurve(&'static str),
    /// A curve with all its numbers in place of its name.
    UnnamedCurve,
    Ed25519,
    Ed448,
    /// For the agreement on keys only: it cannot sign.
    Agreement,
    Dsa,
    Unknown,
}

impl KeyKind {
    /// The kind of a certificate's public key.
    pub(super) fn of_public(key: &SubjectPublicKeyInfo<'_>) -> KeyKind {
        KeyKind::of_algorithm(&key.algorithm, || rsa(&key.subject_public_key.data, 0))
    }

    /// The kind of a private key; `Unknown` if it cannot be parsed.
    pub(super) fn of_private(key: &PrivateKeyDer<'_>) -> KeyKind {
        let kind = match key {
            PrivateKeyDer::Pkcs1(key) => rsa(key.secret_pkcs1_der(), 1),
            PrivateKeyDer::Sec1(key) => of_sec1(key.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(key) => of_pkcs8(key.secret_pkcs8_der()),
            _ => None,
        };
        kind.unwrap_or(KeyKind::Unknown)
    }

    fn of_algorithm(
        algorithm: &AlgorithmIdentifier<'_>,
        rsa: impl FnOnce() -> Option<KeyKind>,
    ) -> KeyKind {
        match algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => rsa().unwrap_or(KeyKind::Unknown),
            "1.2.840.113549.1.1.10" => KeyKind::RsaPss,
            "1.2.840.10045.2.1" => of_curve(algorithm.parameters.as_ref()),
            "1.2.840.10040.4.1" => KeyKind::Dsa,
            "1.3.101.110" | "1.3.101.111" => KeyKind::Agreement,
            "1.3.101.112" => KeyKind::Ed25519,
            "1.3.101.113" => KeyKind::Ed448,
            _ => KeyKind::Unknown,
        }
    }

    /// Whether this build can check signatures of such a key.
    pub(super) fn can_be_checked(self) -> bool {
        match self {
            KeyKind::Rsa { bits, .. } => (2048..=8192).contains(&bits),
            KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => true,
            KeyKind::P521 => cfg!(feature = "aws-lc"),
            KeyKind::RsaPss
            | KeyKind::OtherCurve(_)
            | KeyKind::UnnamedCurve
            | KeyKind::Ed448
            | KeyKind::Agreement
            | KeyKind::Dsa
            | KeyKind::Unknown => false,
        }
    }

    /// Its name in a sentence.
    pub(super) fn noun(self) -> String {
        match self {
            KeyKind::Rsa {
                bits,
                has_small_exponent: false,
            } => format!("an RSA key of {bits} bits"),
            KeyKind::Rsa {
                bits,
                has_small_exponent: true,
            } => format!("an RSA key of {bits} bits with a public exponent below 65537"),
            KeyKind::RsaPss => "an RSA-PSS key".into(),
            KeyKind::P256 => "a P-256 key".into(),
            KeyKind::P384 => "a P-384 key".into(),
            KeyKind::P521 => "a P-521 key".into(),
            KeyKind::OtherCurve(name) => format!("a key of {name}"),
            KeyKind::UnnamedCurve => "a key of a curve that is not given by its name".into(),
            KeyKind::Ed25519 => "an Ed25519 key".into(),
            KeyKind::Ed448 => "an Ed448 key".into(),
            KeyKind::Agreement => "an X25519 or X448 key, which cannot sign".into(),
            KeyKind::Dsa => "a DSA key".into(),
            KeyKind::Unknown => "a key of an unknown kind, or a damaged one".into(),
        }
    }

    /// The mistake of a private key that this build cannot use.
    pub(super) fn flaw(self) -> Flaw {
        let with_aws_lc = |able: &str| {
            if cfg!(feature = "aws-lc") {
                POSSIBLE.to_owned()
            } else {
                format!("{POSSIBLE}; {able}")
            }
        };
        let fix = match self {
            KeyKind::Rsa {
                bits: 2048..=8192, ..
            } => with_aws_lc(
                "a fanwire built with `--features aws-lc` takes RSA keys of 2048 to 8192 bits",
            ),
            KeyKind::P521 => with_aws_lc("a fanwire built with `--features aws-lc` takes P-521"),
            KeyKind::RsaPss => format!("{POSSIBLE}; plain RSA keys sign as RSA-PSS, too"),
            KeyKind::UnnamedCurve => {
                "write it with the curve's name: openssl ec -in FILE -param_enc named_curve -out NEW.pem, \
                 and have the certificate issued anew"
                    .into()
            }
            KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => {
                "it is damaged: copy it again, or write it anew with openssl pkey -in FILE -out NEW.pem"
                    .into()
            }
            KeyKind::Rsa { .. }
            | KeyKind::OtherCurve(_)
            | KeyKind::Ed448
            | KeyKind::Agreement
            | KeyKind::Dsa
            | KeyKind::Unknown => POSSIBLE.into(),
        };
        Flaw::new(
            format!("holds {}, which this build cannot use", self.noun()),
            fix,
        )
    }
}

/// The kind of an RSA key whose modulus stands behind `skipped` other numbers.
fn rsa(der: &[u8], skipped: usize) -> Option<KeyKind> {
    let (_, sequence) = Sequence::from_der(der).ok()?;
    let mut rest: &[u8] = &sequence.content;
    for _ in 0..skipped {
        rest = Integer::from_der(rest).ok()?.0;
    }
    let (rest, modulus) = Integer::from_der(rest).ok()?;
    let (_, exponent) = Integer::from_der(rest).ok()?;
    let magnitude = |number: &Integer<'_>| {
        let bytes = number.as_ref();
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        bytes[zeros..].to_vec()
    };
    let (modulus, exponent) = (magnitude(&modulus), magnitude(&exponent));
    let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
    let is_small = (exponent.len(), exponent.as_slice()) < (MIN_EXPONENT.len(), &MIN_EXPONENT);
    Some(KeyKind::Rsa {
        bits,
        has_small_exponent: is_small,
    })
}

/// PKCS#8 (RFC 5958): a version, the algorithm, and the key of the algorithm's own format.
fn of_pkcs8(der: &[u8]) -> Option<KeyKind> {
    let (_, sequence) = Sequence::from_der(der).ok()?;
    let (rest, _version) = Integer::from_der(&sequence.content).ok()?;
    let (rest, algorithm) = AlgorithmIdentifier::from_der(rest).ok()?;
    let (_, key) = OctetString::from_der(rest).ok()?;
    Some(KeyKind::of_algorithm(&algorithm, || rsa(key.as_ref(), 1)))
}

/// SEC1 (RFC 5915): a version, the key, and the curve in a tagged field.
fn of_sec1(der: &[u8]) -> Option<KeyKind> {
    let (_, sequence) = Sequence::from_der(der).ok()?;
    let (rest, _version) = Integer::from_der(&sequence.content).ok()?;
    let (rest, _key) = OctetString::from_der(rest).ok()?;
    let (_, field) = Any::from_der(rest).ok()?;
    let is_curve = field.class() == Class::ContextSpecific && field.tag() == Tag(0);
    let (_, curve) = Any::from_der(field.data).ok()?;
    is_curve.then(|| of_curve(Some(&curve)))
}

fn of_curve(parameters: Option<&Any<'_>>) -> KeyKind {
    let Some(parameters) = parameters else {
        return KeyKind::Unknown;
    };
    if parameters.tag() != Tag::Oid {
        return KeyKind::UnnamedCurve;
    }
    let Ok(name) = parameters.as_oid() else {
        return KeyKind::Unknown;
    };
    match name.to_id_string().as_str() {
        "1.2.840.10045.3.1.7" => KeyKind::P256,
        "1.3.132.0.34" => KeyKind::P384,
        "1.3.132.0.35" => KeyKind::P521,
        "1.3.132.0.10" => KeyKind::OtherCurve("secp256k1"),
        "1.3.132.0.33" => KeyKind::OtherCurve("P-224"),
        "1.2.840.10045.3.1.1" => KeyKind::OtherCurve("P-192"),
        "1.2.156.10197.1.301" => KeyKind::OtherCurve("SM2"),
        name if name.starts_with("1.3.36.3.3.2.8.1.1.") => KeyKind::OtherCurve("a Brainpool curve"),
        _ => KeyKind::OtherCurve("another curve"),
    }
}
