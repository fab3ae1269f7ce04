//! The keys that verify tokens, read from the contents of files.
//!
//! `server` reads the files, at the start and on SIGHUP. A [`Keys`] is complete and never changes. Each key has one algorithm,
//! which comes from its entry and never from a token (RFC 8725, section 3.1). An error never has a byte of a file.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::jwk::{KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::crypto;
use crate::config::TokenAlgorithm;

/// The shortest secret for HS256 in bytes (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET_BYTES: usize = 32;

/// The shortest modulus of an RSA key in bits (RFC 7518, section 3.3).
const MIN_RSA_BITS: usize = 2048;

/// The most bits that ring accepts.
const MAX_RSA_BITS: usize = 8192;

/// The most keys of an algorithm without a `kid`. Each costs a bad token one verification.
const MAX_WITHOUT_KID: usize = 4;

/// The most keys in all. A thousand is more than any service has in use.
const MAX_KEYS: usize = 10_000;

/// The object identifier of Ed25519 (RFC 8410, section 3).
const ED25519: &str = "1.3.101.112";

/// The object identifier of the curve P-256 (RFC 5480, section 2.1.1.1).
const P256: &str = "1.2.840.10045.3.1.7";

/// The label of a certificate in PEM (RFC 7468, section 5.1).
const CERTIFICATE: &str = "CERTIFICATE";

/// One key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) algorithm: Algorithm,
    pub(crate) decoding: DecodingKey,
    /// The checks that `jsonwebtoken` makes: only the signature, by this key's algorithm. The claims are ours.
    pub(crate) validation: Validation,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_kid: HashMap<Box<str>, Vec<Key>>,
    without_kid: Vec<Key>,
    count: usize,
}

/// The reason why keys cannot be used, and the remedy. Neither has a part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// It continues a sentence that begins with the file.
    pub problem: String,
    /// The remedy, in the imperative.
    pub fix: String,
}

fn wrong(problem: impl Into<String>, fix: impl Into<String>) -> KeyError {
    KeyError {
        problem: problem.into(),
        fix: fix.into(),
    }
}

impl Keys {
    /// No keys.
    pub fn new() -> Keys {
        crypto::install();
        Keys::default()
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The keys that may have signed a token whose header has this algorithm and `kid`: the one with that `kid`, or else those
    /// whose entries have none.
    pub(crate) fn candidates(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> impl Iterator<Item = &Key> {
        let named = kid.and_then(|kid| self.by_kid.get(kid));
        let keys = named.unwrap_or(&self.without_kid).iter();
        keys.filter(move |key| key.algorithm == algorithm)
    }

    /// Adds the key in a file: a secret for HS256, and otherwise a public key in PEM.
    pub fn add_file(
        &mut self,
        algorithm: TokenAlgorithm,
        kid: Option<&str>,
        contents: &[u8],
    ) -> Result<(), KeyError> {
        let decoding = match algorithm {
            TokenAlgorithm::HS256 => secret(contents)?,
            TokenAlgorithm::RS256
            | TokenAlgorithm::PS256
            | TokenAlgorithm::ES256
            | TokenAlgorithm::EdDSA => public_key(algorithm, contents)?,
        };
        self.add(algorithm_of(algorithm), kid, decoding)
    }

    /// Adds the keys of a JSON Web Key Set (RFC 7517). Keys for something else are left out, as section 5 says. Returns the
    /// number of keys that are used.
    pub fn add_set(&mut self, contents: &[u8]) -> Result<usize, KeyError> {
        const FIX: &str = "use the JSON of a JWK Set, as in `{\"keys\": [...]}`";
        let set: JwkSet = serde_json::from_slice(contents).map_err(|error| {
            // The text of the error may quote the file.
            let (line, column) = (error.line(), error.column());
            let problem = format!("is not a JSON Web Key Set (line {line}, column {column})");
            wrong(problem, FIX)
        })?;
        let mut used = 0;
        for (index, jwk) in set.keys.iter().enumerate() {
            let placed = |KeyError { problem, fix }| {
                wrong(
                    format!("has a key that cannot be used, keys[{index}]: it {problem}"),
                    fix,
                )
            };
            let Some(algorithm) = algorithm_of_jwk(jwk) else {
                continue;
            };
            let decoding = DecodingKey::from_jwk(jwk)
                .map_err(|_| placed(wrong("is not encoded as RFC 7518 says", FIX)))?;
            check(algorithm, &decoding).map_err(placed)?;
            let kid = jwk.common.key_id.as_deref();
            self.add(algorithm, kid, decoding).map_err(placed)?;
            used += 1;
        }
        if used == 0 {
            return Err(wrong(
                "has no key for HS256, RS256, PS256, ES256 or EdDSA",
                "add the public key of the service that signs the tokens",
            ));
        }
        Ok(used)
    }

    fn add(
        &mut self,
        algorithm: Algorithm,
        kid: Option<&str>,
        decoding: DecodingKey,
    ) -> Result<(), KeyError> {
        let mut validation = Validation::new(algorithm);
        // The clock is an argument here, and the rest is stricter.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let key = Key {
            algorithm,
            decoding,
            validation,
        };
        let keys = match kid {
            Some(kid) => self.by_kid.entry(kid.into()).or_default(),
            None => &mut self.without_kid,
        };
        let others = keys.iter().filter(|other| other.algorithm == algorithm);
        let others = others.count();
        if kid.is_some() && others > 0 {
            return Err(wrong(
                "has the `kid` and the algorithm of another key",
                "give each key a `kid` of its own",
            ));
        }
        if others >= MAX_WITHOUT_KID {
            return Err(wrong(
                format!(
                    "is one of more than {MAX_WITHOUT_KID} keys for its algorithm without a `kid`"
                ),
                "give each key a `kid`, and have tokens name it",
            ));
        }
        if self.count >= MAX_KEYS {
            return Err(wrong(
                format!("is one of more than {MAX_KEYS} keys"),
                "remove keys that sign nothing any more",
            ));
        }
        keys.push(key);
        self.count += 1;
        Ok(())
    }
}

/// A secret: the contents of its file, without a line end at the end.
fn secret(contents: &[u8]) -> Result<DecodingKey, KeyError> {
    const FIX: &str =
        "use a file with a random secret, such as the output of `openssl rand -base64 48`";
    let text = contents.strip_suffix(b"\n").unwrap_or(contents);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(wrong(
            "is PEM, and HS256 needs a secret: whoever knows the public key could sign tokens",
            "name the algorithm of that key, or use a file with a random secret",
        ));
    }
    if text.len() < MIN_SECRET_BYTES {
        let problem = format!(
            "has {} bytes, and HS256 needs a secret of at least {MIN_SECRET_BYTES}",
            text.len()
        );
        return Err(wrong(problem, FIX));
    }
    DecodingKey::from_secret(text).map_err(|_| wrong("has no secret", FIX))
}

/// A public key in PEM, alone or in a certificate.
fn public_key(algorithm: TokenAlgorithm, contents: &[u8]) -> Result<DecodingKey, KeyError> {
    const FIX: &str =
        "use the PEM file of a public key, such as the output of `openssl pkey -in KEY -pubout`";
    let mut found = None;
    for section in Pem::iter_from_buffer(contents) {
        let section = section.map_err(|_| wrong("is not valid PEM", FIX))?;
        let label = section.label.as_str();
        if label.ends_with("PRIVATE KEY") {
            return Err(wrong(
                "has a private key, and the relay only verifies",
                "keep the private key where tokens are made, and use the output of `openssl pkey -in KEY -pubout`",
            ));
        }
        let read = match label {
            "PUBLIC KEY" => SubjectPublicKeyInfo::from_der(&section.contents)
                .ok()
                .and_then(|(_, info)| key_in(&info)),
            "RSA PUBLIC KEY" => RSAPublicKey::from_der(&section.contents)
                .ok()
                .map(|(_, key)| rsa(key.modulus, key.exponent)),
            CERTIFICATE => X509Certificate::from_der(&section.contents)
                .ok()
                .and_then(|(_, certificate)| key_in(certificate.public_key())),
            _ => continue,
        };
        let read = read.ok_or_else(|| wrong("has a key that cannot be read", FIX))?;
        // In a chain of certificates, the first has the key.
        if found.is_none() {
            found = Some(read);
        } else if label != CERTIFICATE {
            return Err(wrong("has several keys", "use one file for each key"));
        }
    }
    let decoding = found.ok_or_else(|| wrong("has no public key", FIX))?;
    let wanted = algorithm_of(algorithm);
    if decoding.family() != wanted.family() {
        let problem = format!("has a key of another kind than {algorithm} needs");
        return Err(wrong(
            problem,
            "name the algorithm of the key, or the right file",
        ));
    }
    check(wanted, &decoding)?;
    Ok(decoding)
}

/// A public key of a kind that is used here.
fn key_in(info: &SubjectPublicKeyInfo<'_>) -> Option<DecodingKey> {
    let bytes = &*info.subject_public_key.data;
    if info.algorithm.algorithm.to_id_string() == ED25519 {
        return Some(DecodingKey::from_ed_der(bytes));
    }
    match info.parsed().ok()? {
        PublicKey::RSA(key) => Some(rsa(key.modulus, key.exponent)),
        PublicKey::EC(_) => {
            let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
            // Other curves have no algorithm here.
            (curve.to_id_string() == P256).then(|| DecodingKey::from_ec_der(bytes))
        }
        _ => None,
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> DecodingKey {
    DecodingKey::from_rsa_raw_components(without_zeros(modulus), without_zeros(exponent))
}

/// A number without zeros in front. ring refuses them.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

/// Refuses a key that could never verify a token, and one that is too weak.
fn check(algorithm: Algorithm, key: &DecodingKey) -> Result<(), KeyError> {
    let (problem, fix) = match (algorithm, key.kind()) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret))
            if secret.len() < MIN_SECRET_BYTES =>
        {
            (
                "is a secret that is too short".to_owned(),
                format!("use a secret of at least {MIN_SECRET_BYTES} bytes"),
            )
        }
        (_, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
            if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits)
                && e.last().is_some_and(|last| last % 2 == 1)
            {
                return Ok(());
            }
            (
                format!("has an RSA key of {bits} bits"),
                format!("use an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits"),
            )
        }
        // An uncompressed point (SEC 1, section 2.3.3).
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point))
            if point.len() != 65 || point[0] != 4 =>
        {
            (
                "has a point that is not an uncompressed one of P-256".to_owned(),
                "use a key of the curve P-256, not compressed".to_owned(),
            )
        }
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) if key.len() != 32 => (
            "has an Ed25519 key of a wrong length".to_owned(),
            "use a key of 32 bytes".to_owned(),
        ),
        _ => return Ok(()),
    };
    Err(wrong(problem, fix))
}

fn algorithm_of(algorithm: TokenAlgorithm) -> Algorithm {
    match algorithm {
        TokenAlgorithm::HS256 => Algorithm::HS256,
        TokenAlgorithm::RS256 => Algorithm::RS256,
        TokenAlgorithm::PS256 => Algorithm::PS256,
        TokenAlgorithm::ES256 => Algorithm::ES256,
        TokenAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// The one algorithm of a key in a set; `None` if it is for something else. A key that names none has the usual one of its kind.
fn algorithm_of_jwk(jwk: &Jwk) -> Option<Algorithm> {
    let common = &jwk.common;
    let is_for_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures || !verifies {
        return None;
    }
    let named = common.key_algorithm;
    let one_of = |allowed: &[(KeyAlgorithm, Algorithm)]| match named {
        None => Some(allowed[0].1),
        Some(named) => {
            let mut allowed = allowed.iter();
            allowed
                .find(|(name, _)| *name == named)
                .map(|&(_, algorithm)| algorithm)
        }
    };
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => one_of(&[
            (KeyAlgorithm::RS256, Algorithm::RS256),
            (KeyAlgorithm::PS256, Algorithm::PS256),
        ]),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            one_of(&[(KeyAlgorithm::ES256, Algorithm::ES256)])
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            one_of(&[(KeyAlgorithm::EdDSA, Algorithm::EdDSA)])
        }
        AlgorithmParameters::OctetKey(_) => one_of(&[(KeyAlgorithm::HS256, Algorithm::HS256)]),
        _ => None,
    }
}
