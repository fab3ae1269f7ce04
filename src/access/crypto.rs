//! The verifying half of the cryptography for tokens, by ring, which TLS has brought into the tree.
//!
//! `jsonwebtoken` reads tokens and calls this for their signatures. Nothing here signs: the relay makes no tokens.
//! [`install`] comes before the first token.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has tokens of this process verified here. A program around the library may have installed another provider; that one then
/// does the work.
pub(crate) fn install() {
    // Only a second call fails, and then there is a provider.
    let _ = PROVIDER.install_default();
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "jsonwebtoken prescribes the signature"
)]
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

/// A key that is ready to verify.
enum Key {
    Hmac(hmac::Key),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    Curve(UnparsedPublicKey<Vec<u8>>),
}

struct RingVerifier {
    algorithm: Algorithm,
    key: Key,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "jsonwebtoken prescribes the signature"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let curve = |by: &'static dyn VerificationAlgorithm| {
        let bytes = key.try_get_as_bytes()?.to_vec();
        Ok(Key::Curve(UnparsedPublicKey::new(by, bytes)))
    };
    let made = match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => {
            let secret = key.try_get_as_bytes()?;
            Ok(Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret)))
        }
        (Algorithm::RS256, AlgorithmFamily::Rsa) => rsa(&RSA_PKCS1_2048_8192_SHA256, key),
        (Algorithm::PS256, AlgorithmFamily::Rsa) => rsa(&RSA_PSS_2048_8192_SHA256, key),
        (Algorithm::ES256, AlgorithmFamily::Ec) => curve(&ECDSA_P256_SHA256_FIXED),
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => curve(&ED25519),
        // A key of one kind never verifies another kind's signature.
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    };
    made.map(|key| {
        let algorithm = *algorithm;
        Box::new(RingVerifier { algorithm, key }) as Box<dyn JwtVerifier>
    })
}

fn rsa(parameters: &'static RsaParameters, key: &DecodingKey) -> Result<Key> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let (n, e) = (n.clone(), e.clone());
            Ok(Key::Rsa(parameters, RsaPublicKeyComponents { n, e }))
        }
        DecodingKeyKind::SecretOrDer(_) => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified = match &self.key {
            Key::Hmac(key) => hmac::verify(key, message, signature),
            Key::Rsa(parameters, key) => key.verify(parameters, message, signature),
            Key::Curve(key) => key.verify(message, signature),
        };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
