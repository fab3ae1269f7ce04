//! Checks the certificates of a file: that each is one, and that each is issued by the next.
//!
//! [`super::contents`] and [`super::identity`] call it. Clients that use OpenSSL fail at the first certificate that they
//! cannot parse, and clients of TLS 1.2 need the order. So a chain that clients would refuse is refused here.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::objects::oid_registry;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::{X509Name, X509Version};

use super::key::KeyKind;
use super::pem::{Flaw, Section};

const FIX_DAMAGED: &str = "copy the certificate again, as its authority issued it";
const FIX_ORDER: &str =
    "put the server's certificate first, and behind each one the certificate of its issuer";

const FIX_OLD_AUTHORITY: &str = "let its issuer make it with version 3, for example: openssl x509 -req -extfile FILE, with \
    basicConstraints=critical,CA:TRUE in that file";

/// A certificate that can be parsed, and its place in the file.
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    place: String,
    /// In seconds since the Unix epoch, as the next.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Certificate {
    /// Reads the certificate of a section.
    pub(super) fn read(section: &Section) -> Result<Certificate, Flaw> {
        let der = section.certificate()?;
        let place = section.place();
        let Ok(([], parsed)) = parse_x509_certificate(&der) else {
            return Err(Flaw::new(
                format!("is damaged: {place} is valid Base64, but no certificate"),
                FIX_DAMAGED,
            ));
        };
        let validity = parsed.validity();
        let (not_before, not_after) = (&validity.not_before, &validity.not_after);
        let (not_before, not_after) = (not_before.timestamp(), not_after.timestamp());
        Ok(Certificate {
            der,
            place,
            not_before,
            not_after,
        })
    }

    /// Its place in the file, for an error.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn into_der(self) -> CertificateDer<'static> {
        self.der
    }

    fn parsed(&self) -> X509Certificate<'_> {
        let (_, parsed) = parse_x509_certificate(&self.der).expect("it was parsed before");
        parsed
    }

    /// Its public key with the algorithm, as DER.
    pub(super) fn public_key(&self) -> Vec<u8> {
        self.parsed().public_key().raw.to_vec()
    }
}

/// Checks the certificate of the server, which comes first, and the chain behind it.
pub(super) fn check_chain(certificates: &[Certificate]) -> Result<(), Flaw> {
    let parsed: Vec<_> = certificates.iter().map(Certificate::parsed).collect();
    let place = |at: usize| certificates[at].place();
    for (at, certificate) in certificates.iter().enumerate() {
        let is_same = |other: &Certificate| other.der == certificate.der;
        if let Some(first) = certificates[..at].iter().position(is_same) {
            return Err(Flaw::new(
                format!(
                    "has the same certificate twice, in {} and {}",
                    place(first),
                    place(at)
                ),
                "keep the first",
            ));
        }
    }
    if let Some(version) = old_version(&parsed[0]) {
        return Err(Flaw::new(
            format!(
                "has a certificate of version {version} in {}; clients need version 3",
                place(0)
            ),
            "make it with an extension, for example: openssl x509 -req -extfile FILE, with \
             subjectAltName=DNS:NAME in that file",
        ));
    }
    for (at, (child, parent)) in parsed.iter().zip(&parsed[1..]).enumerate() {
        let next = at + 1;
        if !issued(child, parent) {
            return Err(broken_at(at, certificates, &parsed));
        }
        // A root that signs itself may be old: clients have their own copy.
        if !parent.is_ca() && !is_self_signed(parent) {
            if let Some(version) = old_version(parent) {
                return Err(Flaw::new(
                    format!(
                        "is refused by clients: {} issued {}, but has version {version}; an authority of that version cannot say \
                         that it is one",
                        place(next),
                        place(at)
                    ),
                    FIX_OLD_AUTHORITY,
                ));
            }
            return Err(Flaw::new(
                format!(
                    "is refused by clients: {} issued {}, but is not the certificate of an authority",
                    place(next),
                    place(at)
                ),
                "have the certificate issued by an authority, whose own has basicConstraints CA:TRUE",
            ));
        }
    }
    Ok(())
}

/// Explains why the certificate at `at` is not issued by the next one.
fn broken_at(at: usize, certificates: &[Certificate], parsed: &[X509Certificate<'_>]) -> Flaw {
    let place = |at: usize| certificates[at].place();
    let (child, next) = (&parsed[at], at + 1);
    if is_self_signed(child) {
        return Flaw::new(
            format!(
                "is out of order: {} signs itself, so nothing may follow it",
                place(at)
            ),
            FIX_ORDER,
        );
    }
    let issuer = (0..parsed.len()).find(|&other| other != at && issued(child, &parsed[other]));
    if let Some(issuer) = issuer {
        return Flaw::new(
            format!("is out of order: {} issued {}", place(issuer), place(at)),
            FIX_ORDER,
        );
    }
    if same_name(child.issuer(), parsed[next].subject()) {
        return Flaw::new(
            format!(
                "does not fit: {} has the name of the issuer of {}, but did not sign it, or one of them is damaged",
                place(next),
                place(at)
            ),
            "get both from the authority again: it may have changed its key",
        );
    }
    Flaw::new(
        format!(
            "does not fit: {} is not issued by {}",
            place(at),
            place(next)
        ),
        FIX_ORDER,
    )
}

/// Checks that each certificate can be an authority's, and that this build can check signatures of its key.
pub(super) fn check_authorities(certificates: &[Certificate]) -> Result<(), Flaw> {
    for certificate in certificates {
        let (parsed, place) = (certificate.parsed(), certificate.place());
        // A client's own certificate may stand there in place of its authority's, if it signs itself.
        if !parsed.is_ca() && !is_self_signed(&parsed) {
            if let Some(version) = old_version(&parsed) {
                return Err(Flaw::new(
                    format!(
                        "has a certificate of version {version} in {place}; an authority of that version cannot say that it is one"
                    ),
                    FIX_OLD_AUTHORITY,
                ));
            }
            return Err(Flaw::new(
                format!("has a certificate in {place} that is not an authority's"),
                "name the certificate of the authority that issued it",
            ));
        }
        let kind = KeyKind::of_public(parsed.public_key());
        if !kind.can_be_checked() {
            return Err(Flaw::new(
                format!(
                    "has an authority in {place} with {}; this build cannot check what it issued",
                    kind.noun()
                ),
                "use an authority with a key of P-256, P-384 or Ed25519, or with an RSA key of 2048 to 8192 bits",
            ));
        }
    }
    Ok(())
}

/// The version of a certificate, if it is older than 3, which extensions need.
fn old_version(certificate: &X509Certificate<'_>) -> Option<u32> {
    let version = certificate.version();
    // The number in the certificate is one less.
    (version != X509Version::V3).then(|| version.0 + 1)
}

/// Whether a certificate signed itself. A careless authority issues certificates under its own name, so the name alone does
/// not tell.
fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    issued(certificate, certificate)
}

/// Whether `parent` issued `child`, as far as this build can tell.
fn issued(child: &X509Certificate<'_>, parent: &X509Certificate<'_>) -> bool {
    same_name(child.issuer(), parent.subject()) && signature(child, parent) != Signature::Wrong
}

/// Compares names as OpenSSL does: neither capitals nor the encoding matter.
fn same_name(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    let folded = |name: &X509Name<'_>| {
        let text = name.to_string_with_registry(oid_registry()).ok()?;
        Some(text.to_lowercase())
    };
    one.as_raw() == other.as_raw() || folded(one).is_some_and(|one| Some(one) == folded(other))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    Right,
    Wrong,
    /// Of an algorithm that cannot be checked here.
    Unknown,
}

/// Checks the signature of `child` with the key of `parent`.
fn signature(child: &X509Certificate<'_>, parent: &X509Certificate<'_>) -> Signature {
    /// RSA-PSS has parameters that are valid and cannot all be checked here.
    const RSA_PSS: &str = "1.2.840.113549.1.1.10";
    match child.verify_signature(Some(parent.public_key())) {
        Ok(()) => Signature::Right,
        Err(x509_parser::error::X509Error::SignatureVerificationError)
            if KeyKind::of_public(parent.public_key()).can_be_checked()
                && child.signature_algorithm.algorithm.to_id_string() != RSA_PSS =>
        {
            Signature::Wrong
        }
        Err(_) => Signature::Unknown,
    }
}
