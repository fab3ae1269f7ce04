//! Key files: which are taken, what is said of the others, and that no byte of a key is ever shown.

use proptest::prelude::*;

use super::*;

#[test]
fn a_key_file_has_one_key_that_is_not_encrypted() {
    let World { leaf, key, .. } = World::new();
    let named = "server.tls.key_file: the private key `key.pem`";
    for (text, expected) in [
        (
            format!("{}{key}", with_body("EC PARAMETERS", "BggqhkjOPQMBBw==")),
            None,
        ),
        (format!("{BOM}{}", indented(&key)), None),
        (
            format!("{key}{key}"),
            Some("holds two private keys, section 1 (line 1) and section 2 (line 6); keep"),
        ),
        (
            known("rsa_encrypted.pem"),
            Some("has no private key in it, but an encrypted key; decrypt it: openssl"),
        ),
        (
            with_body(
                "RSA PRIVATE KEY",
                "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n\nAAAA",
            ),
            Some("has no private key in it, but an encrypted key; decrypt it: openssl"),
        ),
        (
            with_body("EC PARAMETERS", "BggqhkjOPQMBBw=="),
            Some("has no private key in it; name a PEM file"),
        ),
        (
            known("ec_cert.pem"),
            Some("has no private key in it, but a certificate; name a PEM file"),
        ),
        (
            with_body("PUBLIC KEY", "AAAA"),
            Some("has no private key in it, but a public key; name"),
        ),
        (
            with_body("OPENSSH PRIVATE KEY", "AAAA"),
            Some("has no private key in it, but a key for SSH; name"),
        ),
        (
            known("ec_sec1.pem"),
            Some("is not the key of the certificate in `"),
        ),
        (
            key.replace('\n', " "),
            Some("has a whole section on line 1: its line breaks are lost; write it"),
        ),
        (
            key.replace('\n', "\\n"),
            Some("has \\n as two characters on line 1, in place of line breaks; turn"),
        ),
        (
            key.lines().nth(1).unwrap().to_owned(),
            Some("is damaged: line 1 looks like Base64, but no BEGIN line stands before it"),
        ),
        (
            String::new(),
            Some("is empty; name a PEM file with contents"),
        ),
    ] {
        match expected {
            None => assert_eq!(pair(&leaf, &text), Ok(())),
            Some(expected) => refused(pair(&leaf, &text), &format!("{named} {expected}")),
        }
    }
}

#[test]
fn a_key_that_this_build_cannot_use_is_called_by_its_name() {
    let everywhere = [
        (
            "rsa_pss.pem",
            "an RSA-PSS key",
            "plain RSA keys sign as RSA-PSS, too",
        ),
        (
            "secp256k1_sec1.pem",
            "a key of secp256k1",
            "make a key of P-256, P-384",
        ),
        ("ed448.pem", "an Ed448 key", "make a key of P-256, P-384"),
        (
            "ec_explicit.pem",
            "a key of a curve that is not given by its name",
            "-param_enc named_curve",
        ),
    ];
    let with_ring = [
        (
            "rsa2560_pkcs8.pem",
            "an RSA key of 2560 bits",
            "an RSA key of 2048, 3072 or 4096 bits; a fanwire built with",
        ),
        (
            "rsa8192_pkcs1.pem",
            "an RSA key of 8192 bits",
            "an RSA key of 2048, 3072 or 4096 bits; a fanwire built with",
        ),
        (
            "rsa_exponent3.pem",
            "an RSA key of 2048 bits with a public exponent below 65537",
            "make a key of",
        ),
        (
            "p521_pkcs8.pem",
            "a P-521 key",
            "a fanwire built with `--features aws-lc` takes P-521",
        ),
    ];
    for (key, noun, fix) in everywhere {
        let judged = pair(known("ec_cert.pem"), known(key));
        let problem =
            format!("the private key `key.pem` holds {noun}, which this build cannot use; ");
        refused(judged.clone(), &problem);
        refused(judged, fix);
    }
    for (key, noun, fix) in with_ring {
        let judged = pair(known("ec_cert.pem"), known(key));
        if cfg!(feature = "aws-lc") {
            refused(judged, "is not the key of the certificate");
        } else {
            refused(
                judged.clone(),
                &format!("holds {noun}, which this build cannot use; "),
            );
            refused(judged, fix);
        }
    }
}

/// Whether `text` shows bytes of `secret`: six characters of its Base64, or three bytes of it as numbers.
fn shows(text: &str, secret: &str) -> bool {
    let body: String = secret
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let bytes = body.as_bytes();
    let quoted = bytes
        .windows(6)
        .any(|six| text.contains(str::from_utf8(six).unwrap()));
    quoted
        || bytes
            .windows(3)
            .any(|three| text.contains(&format!("{}, {}, {}", three[0], three[1], three[2])))
}

#[test]
fn the_test_for_shown_bytes_finds_them() {
    let key = known("ec_sec1.pem");
    let line = key.lines().nth(1).unwrap();
    assert!(shows(&format!("found `{}`", &line[10..16]), &key));
    assert!(shows(
        &format!("marker: {:?}", &line.as_bytes()[10..14]),
        &key
    ));
}

proptest! {
    /// However a key is damaged, the error is in our own words.
    #[test]
    fn no_byte_of_a_key_is_shown(
        name in prop::sample::select(vec!["ec_sec1.pem", "rsa_pkcs8.pem", "rsa_pkcs1.pem", "rsa_encrypted.pem", "ed448.pem"]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[\n\r \\\\n:=-]|-----|-----BEGIN |-----END |\u{feff}|A|", 0..40usize), 1..4),
    ) {
        let whole = known(name);
        let mut text = whole.clone();
        for (at, inserted, removed) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &inserted);
            }
        }
        for refusal in [
            contents::private_key(text.as_bytes(), Layout::Separate).err(),
            contents::chain(text.as_bytes(), Layout::Separate).err(),
            contents::authorities(text.as_bytes()).err(),
            contents::private_key(text.as_bytes(), Layout::Separate).ok().map(|key| KeyKind::of_private(&key).flaw()),
        ].into_iter().flatten() {
            let shown = format!("{} {}", refusal.problem, refusal.fix);
            prop_assert!(!shows(&shown, &whole), "{}", shown);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = contents::chain(&bytes, Layout::Separate);
        let wrapped = with_body("PRIVATE KEY", &String::from_utf8_lossy(&bytes));
        if let Ok(key) = contents::private_key(wrapped.as_bytes(), Layout::Separate) {
            let _ = KeyKind::of_private(&key);
        }
    }
}
