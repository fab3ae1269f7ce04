//! The cost of judging a token, by algorithm: what an upgrade with one costs more than an upgrade without.
//!
//! `cargo bench --bench tokens`. Each token has two patterns and chooses its key by a `kid` out of a thousand.

#![allow(clippy::unwrap_used, reason = "a bench may panic where it stands")]

use std::time::Duration;

use divan::Bencher;
use fanwire::internals::WallTime;
use fanwire::internals::access::{Keys, Rules, verify};
use serde_json::{Value, json};

#[path = "../src/access/tests/signing.rs"]
mod signing;

use self::signing::{SECRET, Signer};

const NOW: u64 = 1_800_000_000;

fn main() {
    divan::main();
}

#[divan::bench(args = ["HS256", "ES256", "EdDSA", "RS256", "PS256"])]
fn judge(bencher: Bencher<'_, '_>, alg: &str) {
    let signer = match alg {
        "HS256" => Signer::hs256(SECRET),
        "ES256" => Signer::es256(),
        "EdDSA" => Signer::eddsa(),
        "RS256" => Signer::rs256(),
        _ => Signer::ps256(),
    };
    let signer = signer.named("key-500");
    let set: Vec<Value> = (0..1000)
        .map(|n| {
            let mut jwk = signer.jwk();
            jwk["kid"] = format!("key-{n}").into();
            jwk
        })
        .collect();
    let mut keys = Keys::new();
    keys.add_set(json!({"keys": set}).to_string().as_bytes())
        .unwrap();
    let claims =
        json!({"exp": NOW + 60, "sub": "42", "subscribe": ["/room/*"], "publish": ["/room/*"]});
    let token = signer.token(&claims);
    let (rules, now) = (Rules::default(), WallTime(Duration::from_secs(NOW)));
    bencher.bench(|| verify(divan::black_box(token.as_bytes()), &keys, &rules, now).unwrap());
}
