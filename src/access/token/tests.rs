//! Tests of tokens: every algorithm against every fault. Each fault is refused for its own reason, and in bounded time.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::access::signing::{SECRET, Signer, base64};
use crate::config::TokenAlgorithm;

const NOW: u64 = 1_800_000_000;

fn algorithm(signer: &Signer) -> TokenAlgorithm {
    match signer.alg {
        "HS256" => TokenAlgorithm::HS256,
        "RS256" => TokenAlgorithm::RS256,
        "PS256" => TokenAlgorithm::PS256,
        "ES256" => TokenAlgorithm::ES256,
        _ => TokenAlgorithm::EdDSA,
    }
}

/// The keys of some signers.
fn keys(signers: &[&Signer]) -> Keys {
    let mut keys = Keys::new();
    for signer in signers {
        keys.add_file(algorithm(signer), signer.kid, &signer.file)
            .unwrap();
    }
    keys
}

fn claims() -> Value {
    json!({"exp": NOW + 60, "sub": "42", "publish": ["/room/*"], "subscribe": ["/room/*", "/news"]})
}

/// The claims with one more, or with another value of it.
fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn judge_at(token: &str, keys: &Keys, rules: &Rules, now: u64) -> Result<Grants, TokenError> {
    verify(
        token.as_bytes(),
        keys,
        rules,
        WallTime(Duration::from_secs(now)),
    )
}

fn judge(token: &str, keys: &Keys) -> Result<Grants, TokenError> {
    judge_at(token, keys, &Rules::default(), NOW)
}

/// The judgement on claims that the right key has signed.
fn judge_claims(claims: &Value) -> Result<Grants, TokenError> {
    let signer = Signer::hs256(SECRET);
    judge(&signer.token(claims), &keys(&[&signer]))
}

#[test]
fn a_token_of_each_algorithm_gives_its_grants() {
    for signer in Signer::all() {
        let grants = judge(&signer.token(&claims()), &keys(&[&signer])).expect(signer.alg);
        assert!(grants.may_publish("/room/1") && !grants.may_publish("/news"));
        assert!(grants.may_subscribe("/room/1") && grants.may_subscribe("/news"));
        assert!(!grants.may_subscribe("/room/1/2"));
        assert_eq!(grants.expires_at, NOW + 60);
        assert_eq!(grants.subject.as_deref(), Some("42"));
    }
}

#[test]
fn every_algorithm_refuses_every_fault_of_the_signature() {
    let others = [
        Signer::hs256(b"another secret of 32 characters."),
        rsa_4096("RS256", &ring::signature::RSA_PKCS1_SHA256),
        rsa_4096("PS256", &ring::signature::RSA_PSS_SHA256),
        Signer::es256(),
        Signer::eddsa(),
    ];
    for (signer, other) in Signer::all().iter().zip(&others) {
        let good = signer.token(&claims());
        let (message, signature) = good.rsplit_once('.').unwrap();
        let swapped = |at: usize| {
            let mut text = signature.to_owned();
            let digit = if &text[at..=at] == "A" { "B" } else { "A" };
            text.replace_range(at..=at, digit);
            format!("{message}.{text}")
        };
        let half = &signature[..signature.len() / 8 * 4];
        let (wrong, malformed) = (TokenError::Signature, TokenError::Malformed);
        for (what, token, error) in [
            ("a wrong key", other.token(&claims()), wrong),
            ("another first digit", swapped(0), wrong),
            ("another digit", swapped(signature.len() / 2), wrong),
            ("no signature", format!("{message}."), wrong),
            ("half a signature", format!("{message}.{half}"), wrong),
            ("padding", format!("{good}=="), malformed),
            ("a line break", format!("{good}\n"), malformed),
            ("a fourth part", format!("{good}.AAAA"), malformed),
            ("two parts", message.to_owned(), malformed),
        ] {
            let judged = judge(&token, &keys(&[signer]));
            assert_eq!(judged, Err(error), "{}: {what}", signer.alg);
        }
    }
}

#[test]
fn every_algorithm_refuses_every_fault_of_the_header() {
    for signer in Signer::all() {
        let (alg, payload) = (signer.alg, claims().to_string());
        let unsigned = format!(
            "{}.{}.",
            base64(br#"{"alg":"none"}"#),
            base64(payload.as_bytes())
        );
        let twice = format!(r#"{{"alg":"{alg}","alg":"{alg}"}}"#);
        let signed = |header: &str| signer.sign(header, payload.as_bytes());
        let mut tokens = vec![unsigned, signed(&twice), signed("[]"), signed("")];
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "None"}),
            json!({"alg": null}),
            json!({"alg": [alg]}),
            json!({"typ": "JWT"}),
            json!({"alg": alg, "kid": 1}),
            json!({"alg": alg, "crit": []}),
            json!({"alg": alg, "crit": ["exp"], "exp": 1}),
            json!({"alg": alg, "crit": ["b64"], "b64": false}),
            json!({"alg": alg, "b64": false}),
        ] {
            tokens.push(signed(&header.to_string()));
        }
        for token in tokens {
            let judged = judge(&token, &keys(&[&signer]));
            assert_eq!(judged, Err(TokenError::Malformed), "{alg}: {token}");
        }
        for other in ["HS384", "HS512", "RS512", "PS384", "ES384"] {
            let token = signed(&json!({"alg": other}).to_string());
            assert_eq!(judge(&token, &keys(&[&signer])), Err(TokenError::NoKey));
        }
        // Headers that do not count here, and keys that a token brings along (RFC 8725, section 3.10).
        let extra = json!({"alg": alg, "typ": "at+jwt", "jku": "https://evil.example", "x": 1});
        assert!(judge(&signed(&extra.to_string()), &keys(&[&signer])).is_ok());
        let brought = Signer::es256();
        let header = json!({"alg": "ES256", "jwk": brought.jwk()}).to_string();
        let token = brought.sign(&header, payload.as_bytes());
        assert!(judge(&token, &keys(&[&signer])).is_err());
    }
}

fn rsa_4096(alg: &'static str, encoding: &'static dyn ring::signature::RsaEncoding) -> Signer {
    let pem = include_str!("../../../tests/it/keys/rsa4096_pkcs8.pem");
    Signer::rsa(alg, encoding, pem)
}

#[test]
fn the_algorithm_is_that_of_the_key_and_never_that_of_the_token() {
    // The classic: the public key, which everybody knows, as a secret (RFC 8725, section 2.1).
    for signer in Signer::all() {
        let forged = Signer::hs256(&signer.file).token(&claims());
        if signer.alg != "HS256" {
            assert_eq!(
                judge(&forged, &keys(&[&signer])),
                Err(TokenError::NoKey),
                "{}",
                signer.alg
            );
            let with_secret = keys(&[&signer, &Signer::hs256(SECRET)]);
            assert_eq!(judge(&forged, &with_secret), Err(TokenError::Signature));
        }
    }
    // Keys of one kind, for another algorithm.
    let (pkcs1, pss) = (Signer::rs256(), Signer::ps256());
    assert_eq!(
        judge(&pss.token(&claims()), &keys(&[&pkcs1])),
        Err(TokenError::NoKey)
    );
    let lying = pkcs1.sign(r#"{"alg":"PS256"}"#, claims().to_string().as_bytes());
    assert_eq!(judge(&lying, &keys(&[&pss])), Err(TokenError::Signature));
}

#[test]
fn a_kid_chooses_the_key_and_only_that_key() {
    let (a, b) = (Signer::es256().named("a"), Signer::es256().named("b"));
    let nameless = Signer::es256();
    let all = keys(&[&a, &b, &nameless]);
    for signer in [&a, &b, &nameless] {
        assert!(judge(&signer.token(&claims()), &all).is_ok());
    }
    let claim = |signer: &Signer, kid: &str| {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        signer.sign(&header, claims().to_string().as_bytes())
    };
    assert_eq!(judge(&claim(&a, "b"), &all), Err(TokenError::Signature));
    assert_eq!(
        judge(&claim(&nameless, "a"), &all),
        Err(TokenError::Signature)
    );
    // A name that no key has is for the keys without one.
    assert_eq!(judge(&claim(&a, "c"), &all), Err(TokenError::Signature));
    assert!(judge(&claim(&nameless, "c"), &all).is_ok());
    assert_eq!(judge(&claim(&a, "c"), &keys(&[&a])), Err(TokenError::NoKey));
    let without = a.sign(r#"{"alg":"ES256"}"#, claims().to_string().as_bytes());
    assert_eq!(judge(&without, &keys(&[&a])), Err(TokenError::NoKey));
}

#[test]
fn times_have_half_a_minute_of_leeway() {
    let soon = NOW + 60;
    for (claims, expected) in [
        (json!({"exp": NOW - 29}), None),
        (json!({"exp": NOW - 30}), Some(TokenError::Expired)),
        (
            json!({"exp": (NOW as f64) - 29.5}),
            Some(TokenError::Expired),
        ),
        (json!({"exp": (NOW as f64) + 0.5}), None),
        (json!({"exp": 0}), Some(TokenError::Expired)),
        (json!({"exp": -5}), Some(TokenError::Expired)),
        (json!({"exp": u64::MAX}), None),
        (json!({"exp": 1e300}), None),
        (json!({"exp": soon, "nbf": NOW + 30}), None),
        (
            json!({"exp": soon, "nbf": NOW + 31}),
            Some(TokenError::TooEarly),
        ),
        (
            json!({"exp": soon, "nbf": 1e300}),
            Some(TokenError::TooEarly),
        ),
        (json!({"exp": soon, "nbf": -1.5}), None),
        (json!({"exp": soon, "nbf": null}), None),
        (json!({"exp": soon, "iat": NOW + 1000}), None),
        (json!({}), Some(TokenError::Claims)),
        (json!({"exp": null}), Some(TokenError::Claims)),
        (json!({"exp": soon.to_string()}), Some(TokenError::Claims)),
        (json!({"exp": [soon]}), Some(TokenError::Claims)),
        (json!({"exp": soon, "nbf": "now"}), Some(TokenError::Claims)),
    ] {
        assert_eq!(judge_claims(&claims).err(), expected, "{claims}");
    }
}

#[test]
fn claims_are_read_strictly_and_others_are_ignored() {
    for (claims, expected) in [
        (with("sub", 42), None),
        (with("sub", Value::Null), None),
        (with("sub", true), Some(TokenError::Claims)),
        (with("sub", json!(["42"])), Some(TokenError::Claims)),
        (with("publish", Value::Null), None),
        (with("publish", json!([])), None),
        (with("publish", "/room"), Some(TokenError::Claims)),
        (with("publish", json!(["/a", 1])), Some(TokenError::Claims)),
        (with("subscribe", true), Some(TokenError::Claims)),
        (
            with("subscribe", json!({"/a": true})),
            Some(TokenError::Claims),
        ),
        (with("publish", json!(["/a*"])), Some(TokenError::Pattern)),
        (
            with("subscribe", json!(["room"])),
            Some(TokenError::Pattern),
        ),
        (
            with("subscribe", json!(["/**/a"])),
            Some(TokenError::Pattern),
        ),
        (with("scope", json!({"a": [1, 2, {"b": null}]})), None),
        (json!([]), Some(TokenError::Claims)),
        (json!("exp"), Some(TokenError::Claims)),
    ] {
        assert_eq!(judge_claims(&claims).err(), expected, "{claims}");
    }
    let none = judge_claims(&json!({"exp": NOW})).unwrap();
    assert!(
        !none.may_publish("/") && !none.may_subscribe("/"),
        "an absent claim grants nothing"
    );
    assert_eq!(none.subject, None);
}

#[test]
fn the_issuer_and_the_audience_count_if_they_are_configured() {
    let signer = Signer::hs256(SECRET);
    let keys = keys(&[&signer]);
    let (us, them) = ("https://us.example", "https://them.example");
    let rules = |issuer: Option<&str>, audience: Option<&str>| Rules {
        issuer: issuer.map(str::to_owned),
        audience: audience.map(str::to_owned),
    };
    let any = rules(None, None);
    let from_us = rules(Some(us), None);
    let for_us = rules(None, Some(us));
    for (rules, claims, expected) in [
        (&any, with("iss", us), None),
        (&any, with("iss", 5), None),
        (&from_us, with("iss", us), None),
        (&from_us, with("iss", them), Some(TokenError::Issuer)),
        (&from_us, with("iss", json!([us])), Some(TokenError::Issuer)),
        (&from_us, claims(), Some(TokenError::Issuer)),
        (&any, with("aud", us), Some(TokenError::Audience)),
        (&any, with("aud", json!([])), Some(TokenError::Audience)),
        (&any, with("aud", Value::Null), None),
        (&for_us, with("aud", us), None),
        (&for_us, with("aud", json!([them, us])), None),
        (&for_us, with("aud", them), Some(TokenError::Audience)),
        (
            &for_us,
            with("aud", json!([them])),
            Some(TokenError::Audience),
        ),
        (&for_us, with("aud", json!([])), Some(TokenError::Audience)),
        (
            &for_us,
            with("aud", json!([us, 5])),
            Some(TokenError::Audience),
        ),
        (
            &for_us,
            with("aud", json!([[us]])),
            Some(TokenError::Audience),
        ),
        (
            &for_us,
            with("aud", json!({us: us})),
            Some(TokenError::Audience),
        ),
        (&for_us, with("aud", 5), Some(TokenError::Audience)),
        (&for_us, claims(), Some(TokenError::Audience)),
    ] {
        let judged = judge_at(&signer.token(&claims), &keys, rules, NOW);
        assert_eq!(judged.err(), expected, "{claims} {rules:?}");
    }
}

#[test]
fn what_is_no_json_is_refused_whoever_signed_it() {
    let signer = Signer::hs256(SECRET);
    let keys = keys(&[&signer]);
    let header = signer.header().to_string();
    let deep = format!(
        r#"{{"exp":{NOW},"a":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let twice = |name: &str| format!(r#"{{"exp":{NOW},"{name}":null,"{name}":null}}"#);
    for (payload, expected) in [
        (b"".to_vec(), TokenError::Claims),
        (b"{".to_vec(), TokenError::Claims),
        (
            b"{\"exp\":1800000000,\"sub\":\"\xff\"}".to_vec(),
            TokenError::Claims,
        ),
        (
            b"{\"exp\":1800000000,\"a\":\"\xff\"}".to_vec(),
            TokenError::Claims,
        ),
        (
            b"\xef\xbb\xbf{\"exp\":1800000000}".to_vec(),
            TokenError::Claims,
        ),
        (deep.into_bytes(), TokenError::Claims),
        (
            format!(r#"{{"exp":{NOW},"exp":{NOW}}}"#).into_bytes(),
            TokenError::Claims,
        ),
        (twice("publish").into_bytes(), TokenError::Claims),
        (twice("subscribe").into_bytes(), TokenError::Claims),
        (twice("aud").into_bytes(), TokenError::Claims),
        (twice("nbf").into_bytes(), TokenError::Claims),
        (twice("iss").into_bytes(), TokenError::Claims),
        (twice("sub").into_bytes(), TokenError::Claims),
    ] {
        let token = signer.sign(&header, &payload);
        assert_eq!(
            judge(&token, &keys),
            Err(expected),
            "{}",
            String::from_utf8_lossy(&payload)
        );
    }
    let twice = signer.sign(
        &header,
        format!(r#"{{"exp":{NOW},"a":1,"a":2}}"#).as_bytes(),
    );
    assert!(
        judge(&twice, &keys).is_ok(),
        "claims that do not count may be there twice"
    );
    for bytes in [
        &b""[..],
        b".",
        b"..",
        b"...",
        b"\xff\xfe.\x00.\x00",
        b"e30.e30.e30",
        &[b'.'; 10_000],
    ] {
        let judged = verify(
            bytes,
            &keys,
            &Rules::default(),
            WallTime(Duration::from_secs(NOW)),
        );
        assert_eq!(judged, Err(TokenError::Malformed));
    }
}

#[test]
fn large_tokens_are_judged_like_small_ones() {
    let patterns: Vec<String> = (0..800).map(|n| format!("/room-{n}/*")).collect();
    assert!(patterns.concat().len() > 8 << 10);
    let grants = judge_claims(&with("subscribe", patterns)).unwrap();
    assert!(grants.may_subscribe("/room-799/x") && !grants.may_subscribe("/room-800/x"));
    let huge = with("picture", "x".repeat(1 << 20));
    assert!(judge_claims(&huge).is_ok());
    let one = format!("/{}", "*/".repeat(20_000));
    let grants = judge_claims(&with("subscribe", [one])).unwrap();
    assert!(!grants.may_subscribe(&"/".repeat(512)));
}

#[test]
fn another_form_of_a_signature_gives_no_other_grants() {
    // A signature has 64 bytes, so the last digit of its Base64 has four bits that must be zero.
    let signer = Signer::eddsa();
    let keys = keys(&[&signer]);
    let good = signer.token(&claims());
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = good.chars().last().unwrap();
    let others = digits.chars().filter(|&digit| digit != last);
    for digit in others {
        let token = format!("{}{digit}", &good[..good.len() - 1]);
        assert!(judge(&token, &keys).is_err(), "{digit}");
    }
    let standard = good.replace('-', "+").replace('_', "/");
    if standard != good {
        assert!(judge(&standard, &keys).is_err());
    }
}

#[test]
fn a_set_of_a_thousand_keys_finds_each_by_its_kid() {
    let names: Vec<String> = (0..1000).map(|n| format!("key-{n}")).collect();
    let signer = Signer::es256();
    let other = Signer::eddsa();
    let jwks: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let mut jwk = if n % 2 == 0 {
                signer.jwk()
            } else {
                other.jwk()
            };
            jwk["kid"] = name.as_str().into();
            jwk
        })
        .collect();
    let mut keys = Keys::new();
    let set = json!({"keys": jwks}).to_string();
    assert_eq!(keys.add_set(set.as_bytes()), Ok(1000));
    let claim = |signer: &Signer, kid: &str| {
        let header = json!({"alg": signer.alg, "kid": kid}).to_string();
        signer.sign(&header, claims().to_string().as_bytes())
    };
    assert!(judge(&claim(&signer, "key-0"), &keys).is_ok());
    assert!(judge(&claim(&other, "key-999"), &keys).is_ok());
    assert_eq!(
        judge(&claim(&signer, "key-999"), &keys),
        Err(TokenError::NoKey)
    );
    assert_eq!(
        judge(&claim(&signer, "key-1000"), &keys),
        Err(TokenError::NoKey)
    );
}

#[test]
fn keys_of_a_set_are_bound_to_one_algorithm_each_and_those_for_something_else_are_left_out() {
    for signer in Signer::all() {
        let signer = signer.named("k");
        let mut jwk = signer.jwk();
        let set = |jwk: &Value| {
            let mut keys = Keys::new();
            keys.add_set(json!({"keys": [jwk]}).to_string().as_bytes())
                .map(|_| keys)
        };
        let token = signer.token(&claims());
        assert!(judge(&token, &set(&jwk).unwrap()).is_ok(), "{}", signer.alg);
        // Without a name of the algorithm, RSA is RS256.
        jwk.as_object_mut().unwrap().remove("alg");
        let expected = if signer.alg == "PS256" {
            Err(TokenError::NoKey)
        } else {
            Ok(())
        };
        assert_eq!(judge(&token, &set(&jwk).unwrap()).map(|_| ()), expected);
        for (name, value) in [
            ("use", json!("enc")),
            ("key_ops", json!(["encrypt"])),
            ("alg", json!("RSA-OAEP")),
            ("alg", json!("ES384")),
            ("kty", json!("unknown")),
        ] {
            let mut jwk = jwk.clone();
            jwk[name] = value;
            let error = set(&jwk).unwrap_err();
            assert!(
                error.problem.starts_with("has no key for HS256"),
                "{error:?}"
            );
        }
        jwk["use"] = "sig".into();
        jwk["key_ops"] = json!(["sign", "verify"]);
        assert!(set(&jwk).is_ok());
    }
}

#[test]
fn a_file_without_a_usable_key_is_refused_with_the_reason_and_without_its_contents() {
    let (ec, ed) = (Signer::es256(), Signer::eddsa());
    let rsa = Signer::rs256();
    let private = include_bytes!("../../../tests/it/keys/rsa_pkcs8.pem");
    let certificate = include_bytes!("../../../tests/it/keys/rsa_cert.pem");
    let p521 = rcgen::KeyPair::from_pem(include_str!("../../../tests/it/keys/p521_pkcs8.pem"));
    let twice = [&ec.file[..], &ec.file].concat();
    let mut cut = rsa.file.clone();
    cut.truncate(200);
    for (algorithm, contents, problem) in [
        (TokenAlgorithm::HS256, &b""[..], "has 0 bytes"),
        (TokenAlgorithm::HS256, b"\n", "has 0 bytes"),
        (
            TokenAlgorithm::HS256,
            b"secret4711\r\n",
            "has 10 bytes, and HS256 needs",
        ),
        (
            TokenAlgorithm::HS256,
            &rsa.file,
            "is PEM, and HS256 needs a secret",
        ),
        (TokenAlgorithm::ES256, b"", "has no public key"),
        (TokenAlgorithm::ES256, b"secret4711", "has no public key"),
        (TokenAlgorithm::ES256, &twice, "has several keys"),
        (
            TokenAlgorithm::ES256,
            &ed.file,
            "has a key of another kind than ES256 needs",
        ),
        (
            TokenAlgorithm::EdDSA,
            &ec.file,
            "has a key of another kind than EdDSA needs",
        ),
        (
            TokenAlgorithm::PS256,
            &ec.file,
            "has a key of another kind than PS256 needs",
        ),
        (
            TokenAlgorithm::RS256,
            private,
            "has a private key, and the relay only verifies",
        ),
        (TokenAlgorithm::RS256, &cut, "is not valid PEM"),
        (
            TokenAlgorithm::RS256,
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "has a key that cannot be read",
        ),
    ] {
        let error = Keys::new().add_file(algorithm, None, contents).unwrap_err();
        assert!(error.problem.starts_with(problem), "{algorithm}: {error:?}");
        assert!(!format!("{error:?}").contains("4711"), "{error:?}");
    }
    drop(p521);
    let mut keys = Keys::new();
    keys.add_file(TokenAlgorithm::RS256, None, certificate)
        .unwrap();
    assert!(
        judge(&rsa.token(&claims()), &keys).is_ok(),
        "a certificate has a public key, too"
    );
    let mut keys = Keys::new();
    let secret = [SECRET, b"\n"].concat();
    keys.add_file(TokenAlgorithm::HS256, None, &secret).unwrap();
    assert!(judge(&Signer::hs256(SECRET).token(&claims()), &keys).is_ok());
}

#[test]
fn a_set_that_cannot_be_used_is_refused_with_the_place() {
    let refuse = |text: &str| Keys::new().add_set(text.as_bytes()).unwrap_err().problem;
    assert_eq!(refuse("{"), "is not a JSON Web Key Set (line 1, column 1)");
    assert!(refuse("[]").starts_with("is not a JSON Web Key Set"));
    assert!(refuse(r#"{"keys": 4711}"#).starts_with("is not a JSON Web Key Set"));
    assert!(!refuse(r#"{"keys": "secret4711"}"#).contains("4711"));
    assert!(refuse(r#"{"keys": []}"#).starts_with("has no key for HS256"));
    let weak = r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#;
    assert_eq!(
        refuse(weak),
        "has a key that cannot be used, keys[0]: it has an RSA key of 17 bits"
    );
    let short = r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#;
    assert!(refuse(short).ends_with("keys[0]: it is a secret that is too short"));
    let empty = r#"{"keys": [{"kty": "oct", "k": ""}]}"#;
    assert!(refuse(empty).ends_with("keys[0]: it is not encoded as RFC 7518 says"));
    let point = r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}]}"#;
    assert!(refuse(point).contains("has a point that is not"));
    let jwk = Signer::es256().named("a").jwk();
    let twice = json!({"keys": [jwk, jwk]}).to_string();
    assert!(refuse(&twice).ends_with("keys[1]: it has the `kid` and the algorithm of another key"));
    let nameless = Signer::es256().jwk();
    let many = json!({"keys": vec![nameless; 5]}).to_string();
    assert!(
        refuse(&many)
            .ends_with("keys[4]: it is one of more than 4 keys for its algorithm without a `kid`")
    );
}

#[test]
fn keys_are_never_shown() {
    let shown = format!("{:?}", keys(&[&Signer::hs256(SECRET)]));
    assert!(
        !shown.contains("0123456789abcdef") && !shown.contains("48, 49, 50"),
        "{shown}"
    );
}
