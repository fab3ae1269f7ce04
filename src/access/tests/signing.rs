//! Signs tokens, for tests. The relay itself never does.
//!
//! The tests of `tests/it` and the corpus of the fuzz target include this file, so it uses nothing of the relay.

#![allow(dead_code, reason = "each user needs a part")]

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use ring::{hmac, signature};
use serde_json::{Value, json};

const RSA: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/keys/rsa_pkcs8.pem"
));

/// A secret that is long enough.
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Makes tokens of one algorithm with one key.
pub(crate) struct Signer {
    pub(crate) alg: &'static str,
    pub(crate) kid: Option<&'static str>,
    key: Key,
    /// The key as a file for `access.keys`.
    pub(crate) file: Vec<u8>,
}

enum Key {
    Hmac(Vec<u8>),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
}

impl Signer {
    /// HMAC with a secret.
    pub(crate) fn hs256(secret: &[u8]) -> Signer {
        Signer {
            alg: "HS256",
            kid: None,
            key: Key::Hmac(secret.into()),
            file: secret.into(),
        }
    }

    /// A new key on P-256.
    pub(crate) fn es256() -> Signer {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (signing, der) = (&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialize_der());
        let key = EcdsaKeyPair::from_pkcs8(signing, &der, &SystemRandom::new()).unwrap();
        Signer::with("ES256", Key::Ecdsa(key), &pair)
    }

    /// A new key on Ed25519.
    pub(crate) fn eddsa() -> Signer {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pair.serialize_der()).unwrap();
        Signer::with("EdDSA", Key::Ed25519(key), &pair)
    }

    /// The RSA key in the repository, with PKCS #1.
    pub(crate) fn rs256() -> Signer {
        Signer::rsa("RS256", &RSA_PKCS1_SHA256, RSA)
    }

    /// The same key with PSS.
    pub(crate) fn ps256() -> Signer {
        Signer::rsa("PS256", &RSA_PSS_SHA256, RSA)
    }

    /// An RSA key in PEM.
    pub(crate) fn rsa(
        alg: &'static str,
        encoding: &'static dyn signature::RsaEncoding,
        pem: &str,
    ) -> Signer {
        let pair = KeyPair::from_pem(pem).unwrap();
        let key = RsaKeyPair::from_pkcs8(&pair.serialize_der()).unwrap();
        Signer::with(alg, Key::Rsa(key, encoding), &pair)
    }

    fn with(alg: &'static str, key: Key, pair: &KeyPair) -> Signer {
        Signer {
            alg,
            kid: None,
            key,
            file: pair.public_key_pem().into_bytes(),
        }
    }

    /// One of each algorithm.
    pub(crate) fn all() -> [Signer; 5] {
        [
            Signer::hs256(SECRET),
            Signer::rs256(),
            Signer::ps256(),
            Signer::es256(),
            Signer::eddsa(),
        ]
    }

    /// The same key with a name.
    pub(crate) fn named(self, kid: &'static str) -> Signer {
        Signer {
            kid: Some(kid),
            ..self
        }
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), claims.to_string().as_bytes())
    }

    /// The usual header.
    pub(crate) fn header(&self) -> Value {
        match self.kid {
            Some(kid) => json!({"alg": self.alg, "typ": "JWT", "kid": kid}),
            None => json!({"alg": self.alg, "typ": "JWT"}),
        }
    }

    /// A token with any header and any payload.
    pub(crate) fn sign(&self, header: &str, payload: &[u8]) -> String {
        let message = format!("{}.{}", base64(header.as_bytes()), base64(payload));
        format!("{message}.{}", base64(&self.signature(message.as_bytes())))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &self.key {
            Key::Hmac(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().into()
            }
            Key::Ecdsa(key) => key.sign(&rng, message).unwrap().as_ref().into(),
            Key::Ed25519(key) => key.sign(message).as_ref().into(),
            Key::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &rng, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The public key as an entry of a JSON Web Key Set.
    pub(crate) fn jwk(&self) -> Value {
        use ring::signature::KeyPair as _;
        let mut jwk = match &self.key {
            Key::Hmac(secret) => json!({"kty": "oct", "k": base64(secret)}),
            Key::Ecdsa(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..])})
            }
            Key::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key().as_ref())})
            }
            Key::Rsa(key, _) => {
                let public: signature::RsaPublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "n": base64(&public.n), "e": base64(&public.e)})
            }
        };
        jwk["alg"] = self.alg.into();
        if let Some(kid) = self.kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut number = 0;
        for at in 0..3 {
            number = number << 8 | u32::from(chunk.get(at).copied().unwrap_or_default());
        }
        for at in 0..=chunk.len() {
            let digit = number >> (18 - 6 * at) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}
