//! Says which sections a certificate file, a key file and a file of authorities may have.
//!
//! [`super::identity`] calls it, and `fanwire client` for its `--ca`. A file is refused if a section in it would be
//! ignored, because its author expects that it is used. Only parameters, which are public and never needed, may stand
//! anywhere.

use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::chain::{self, Certificate};
use super::pem::{Flaw, Kind, Section, sections};

const FIX_AUTHORITY: &str =
    "name a PEM file with the certificates of the authorities, and nothing else";

/// Whether certificates and key are one file, as for `HAProxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Separate,
    Combined,
}

/// Reads a chain of certificates. Their order is not checked yet.
pub(super) fn chain(bytes: &[u8], layout: Layout) -> Result<Vec<Certificate>, Flaw> {
    let sections = sections(bytes)?;
    for section in &sections {
        match section.kind {
            Kind::Certificate | Kind::Parameters => {}
            kind if kind.is_private_key() && layout == Layout::Combined => {}
            kind if kind.is_private_key() && has(&sections, Kind::Certificate) => {
                return Err(Flaw::new(
                    format!("holds {} in {}", kind.noun(), section.place()),
                    "move the key to a file of its own, or name this file as key_file, too",
                ));
            }
            kind => refuse_unless_empty(kind, section, has(&sections, Kind::Certificate))?,
        }
    }
    read_certificates(&sections, "name a PEM file with a CERTIFICATE section")
}

/// Reads the one private key.
pub(super) fn private_key(bytes: &[u8], layout: Layout) -> Result<PrivateKeyDer<'static>, Flaw> {
    const FIX: &str =
        "name a PEM file with a PRIVATE KEY section, not encrypted (PKCS#8, PKCS#1 or SEC1)";
    let sections = sections(bytes)?;
    let mut keys = sections
        .iter()
        .filter(|section| section.kind.is_private_key());
    let Some(key) = keys.next() else {
        return Err(missing("private key", &sections, FIX));
    };
    if let Some(other) = keys.next() {
        return Err(Flaw::new(
            format!(
                "holds two private keys, {} and {}",
                key.place(),
                other.place()
            ),
            "keep only the key that the certificate was issued for",
        ));
    }
    for section in &sections {
        match section.kind {
            Kind::Parameters => {}
            Kind::Certificate if layout == Layout::Combined => {}
            Kind::Certificate => {
                return Err(Flaw::new(
                    format!(
                        "also holds a certificate in {}, which would not be served",
                        section.place()
                    ),
                    "remove it, or name this file as cert_file, too",
                ));
            }
            kind if kind.is_private_key() => {}
            kind => refuse_unless_empty(kind, section, true)?,
        }
    }
    key.private_key()
        .unwrap_or_else(|| Err(missing("private key", &sections, FIX)))
}

/// Reads certificates of authorities.
pub(super) fn authorities(bytes: &[u8]) -> Result<Vec<Certificate>, Flaw> {
    let certificates = only_certificates(bytes)?;
    chain::check_authorities(&certificates)?;
    Ok(certificates)
}

/// Reads the certificates that a client trusts: those of authorities, or a relay's own.
///
/// # Errors
/// The problem, as the rest of a sentence that begins with the file, and the remedy.
pub fn read_trusted(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, (String, String)> {
    let certificates = only_certificates(bytes).map_err(|flaw| (flaw.problem, flaw.fix))?;
    Ok(certificates
        .into_iter()
        .map(Certificate::into_der)
        .collect())
}

fn only_certificates(bytes: &[u8]) -> Result<Vec<Certificate>, Flaw> {
    let sections = sections(bytes)?;
    let has_certificate = has(&sections, Kind::Certificate);
    for section in &sections {
        if section.kind != Kind::Certificate {
            refuse_unless_empty(section.kind, section, has_certificate)?;
        }
    }
    read_certificates(&sections, FIX_AUTHORITY)
}

fn has(sections: &[Section], kind: Kind) -> bool {
    sections.iter().any(|section| section.kind == kind)
}

/// Refuses a section that has no place in the file. If the file has nothing else, the error says what is missing instead.
fn refuse_unless_empty(kind: Kind, section: &Section, has_others: bool) -> Result<(), Flaw> {
    if !has_others {
        return Ok(());
    }
    let problem = format!("holds {} in {}", kind.noun(), section.place());
    Err(Flaw::new(problem, advice(kind).unwrap_or("remove it")))
}

fn read_certificates(sections: &[Section], fix: &str) -> Result<Vec<Certificate>, Flaw> {
    let certificates = sections
        .iter()
        .filter(|section| section.kind == Kind::Certificate)
        .map(Certificate::read)
        .collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(missing("certificate", sections, fix));
    }
    Ok(certificates)
}

/// The error of a file that has everything but the `wanted`. It says what is there instead.
fn missing(wanted: &str, sections: &[Section], fix: &str) -> Flaw {
    let mut kinds = sections.iter().map(|section| section.kind);
    let found = kinds.find(|&kind| kind != Kind::Parameters);
    let problem = match found {
        Some(kind) => format!("has no {wanted} in it, but {}", kind.noun()),
        None => format!("has no {wanted} in it"),
    };
    Flaw::new(problem, found.and_then(advice).unwrap_or(fix))
}

/// The way from what an operator has to what the relay reads.
fn advice(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::TrustedCertificate => {
            Some("convert it to a plain certificate: openssl x509 -in FILE -out NEW.pem")
        }
        Kind::CertificateRequest => {
            Some("name the certificate that the authority made from this request")
        }
        Kind::Pkcs7 => Some("convert it: openssl pkcs7 -in FILE -print_certs -out NEW.pem"),
        Kind::EncryptedKey => Some("decrypt it: openssl pkey -in FILE -out NEW.pem"),
        Kind::OpensshKey => {
            Some("name the key of the certificate; keys for SSH have no certificates for TLS")
        }
        Kind::RevocationList => {
            Some("remove it; the relay does not look at lists of revoked certificates")
        }
        Kind::Certificate
        | Kind::AnyKey
        | Kind::RsaKey
        | Kind::EcKey
        | Kind::DsaKey
        | Kind::PublicKey
        | Kind::Parameters
        | Kind::Other => None,
    }
}
