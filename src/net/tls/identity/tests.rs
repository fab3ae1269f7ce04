//! Files as operators have them: what is served, what is refused, and in which words.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::*;

mod keys;

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys");

const BOM: &str = "\u{feff}";

fn known(name: &str) -> String {
    std::fs::read_to_string(Path::new(KEYS).join(name)).unwrap()
}

/// A chain of three, each with its key in PEM.
struct World {
    leaf: String,
    key: String,
    intermediate: String,
    root: String,
}

fn params(name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

impl World {
    fn new() -> World {
        World::with_intermediate(|_| ())
    }

    fn with_intermediate(change: impl FnOnce(&mut CertificateParams)) -> World {
        let root_key = KeyPair::generate().unwrap();
        let root = params("root", true).self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(params("root", true), root_key);
        let key = KeyPair::generate().unwrap();
        let mut own = params("intermediate", true);
        change(&mut own);
        let intermediate = own.signed_by(&key, &root_issuer).unwrap();
        let issuer = Issuer::new(own, key);
        let key = KeyPair::generate().unwrap();
        let leaf = params("localhost", false).signed_by(&key, &issuer).unwrap();
        World {
            leaf: leaf.pem(),
            key: key.serialize_pem(),
            intermediate: intermediate.pem(),
            root: root.pem(),
        }
    }
}

/// Files in a folder, as a configuration names them.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn tls(&self, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Tls {
        Tls {
            enabled: true,
            cert_file: Some(self.put("cert.pem", cert)),
            key_file: Some(self.put("key.pem", key)),
            client_ca_file: None,
        }
    }
}

/// The error without the folder; `Ok` if the files are taken.
fn judged(tls: &Tls, folder: &Folder) -> Result<(), String> {
    let shown = format!("{}/", folder.0.path().display());
    let Err(error) = load(tls) else {
        return Ok(());
    };
    let text = error.to_string().replace(&shown, "");
    assert!(!text.contains(['\n', '…']), "too long for one line: {text}");
    Err(text.strip_prefix("configuration: ").unwrap().to_owned())
}

fn pair(cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<(), String> {
    let folder = Folder::new();
    judged(&folder.tls(cert, key), &folder)
}

fn authorities(text: impl AsRef<[u8]>) -> Result<(), String> {
    let folder = Folder::new();
    let mut tls = folder.tls(known("ec_cert.pem"), known("ec_sec1.pem"));
    tls.client_ca_file = Some(folder.put("ca.pem", text));
    judged(&tls, &folder)
}

#[track_caller]
fn refused(judged: Result<(), String>, expected: &str) {
    let text = judged.expect_err(expected);
    assert!(text.contains(expected), "{text}");
}

/// The text with blanks in front of each line.
fn indented(text: &str) -> String {
    format!("  {}", text.replace('\n', "\n  "))
}

fn first_lines(text: &str, count: usize) -> String {
    text.split_inclusive('\n').take(count).collect()
}

/// A section with other contents that are valid Base64.
fn with_body(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

#[test]
fn keys_in_pkcs8_pkcs1_and_sec1_are_read() {
    for (cert, key) in [
        ("rsa_cert.pem", "rsa_pkcs8.pem"),
        ("rsa_cert.pem", "rsa_pkcs1.pem"),
        ("ec_cert.pem", "ec_sec1.pem"),
    ] {
        assert_eq!(pair(known(cert), known(key)), Ok(()), "{key}");
    }
    let folder = Folder::new();
    let identity = load(&folder.tls(known("ec_cert.pem"), known("ec_sec1.pem"))).unwrap();
    assert!(identity.expires_at > 4_000_000_000, "in a hundred years");
}

#[test]
fn a_chain_is_served_as_nginx_would_serve_it() {
    let World {
        leaf,
        key,
        intermediate,
        root,
    } = World::new();
    let without_breaks = leaf.trim_end();
    for (name, text) in [
        ("the leaf alone", leaf.clone()),
        ("a chain", format!("{leaf}{intermediate}")),
        (
            "a chain with its root",
            format!("{leaf}{intermediate}{root}"),
        ),
        ("a mark in front", format!("{BOM}{leaf}{intermediate}")),
        ("a mark in the middle", format!("{leaf}{BOM}{intermediate}")),
        ("indentation", format!("{leaf}{}", indented(&intermediate))),
        (
            "tabs",
            format!("{leaf}{intermediate}").replace('\n', "\t\n\t"),
        ),
        (
            "line breaks of Windows",
            format!("{leaf}{intermediate}").replace('\n', "\r\n"),
        ),
        (
            "line breaks of an old Mac",
            format!("{leaf}{intermediate}").replace('\n', "\r"),
        ),
        (
            "no line break at the end",
            format!("{leaf}{}", intermediate.trim_end()),
        ),
        (
            "one blank line",
            format!("{without_breaks}\n\n{intermediate}"),
        ),
        (
            "text between",
            format!(
                "Bag Attributes\n    localKeyID: 01 02\nsubject=CN = a\n{leaf}# the next: {}\n{intermediate}",
                "ab".repeat(32)
            ),
        ),
        (
            "parameters",
            format!("{leaf}{intermediate}{}", with_body("DH PARAMETERS", "AAAA")),
        ),
        (
            "the old name",
            format!("{leaf}{intermediate}").replace("CERTIFICATE", "X509 CERTIFICATE"),
        ),
    ] {
        let folder = Folder::new();
        let tls = folder.tls(&text, &key);
        assert_eq!(judged(&tls, &folder), Ok(()), "{name}");
        let bytes = std::fs::read(tls.cert_file.unwrap()).unwrap();
        let served = contents::chain(&bytes, Layout::Separate).unwrap();
        let expected = match name {
            "the leaf alone" => 1,
            "a chain with its root" => 3,
            _ => 2,
        };
        assert_eq!(served.len(), expected, "{name}");
    }
}

#[test]
fn a_certificate_that_would_not_be_served_is_refused() {
    let World {
        leaf,
        key,
        intermediate,
        ..
    } = World::new();
    let joined = format!("{}{intermediate}", leaf.trim_end());
    let line = leaf.lines().count() + 1;
    for (text, expected) in [
        (
            joined,
            format!(
                "has the END of a section and the BEGIN of the next on one line, line {}; put a line break",
                line - 1
            ),
        ),
        (
            format!("{leaf}{}", &intermediate[..200]),
            format!("is cut short: section 2 (line {line}) has no END line; copy"),
        ),
        (
            format!("{}{intermediate}", first_lines(&leaf, 3)),
            "is damaged: section 1 (line 1) has no END line before the BEGIN on line".into(),
        ),
        (
            format!("{leaf}{}", intermediate.split_once('\n').unwrap().1),
            format!("is damaged: line {line} looks like Base64, but no BEGIN line"),
        ),
        (
            format!("{leaf}-----END CERTIFICATE-----\n"),
            format!("is damaged: line {line} is an END without a BEGIN"),
        ),
        (
            format!("{leaf}{}", intermediate.replace("-----BEGIN", "----BEGIN")),
            format!("has a malformed BEGIN or END on line {line}; write"),
        ),
        (
            format!("{leaf}{}", intermediate.replace("-----", "–––––")),
            format!("has a malformed BEGIN or END on line {line}; write"),
        ),
        (
            format!("{leaf}{}", intermediate.to_lowercase()),
            format!("has a malformed BEGIN or END on line {line}; write"),
        ),
        (
            format!(
                "{leaf}{}",
                intermediate.replace("END CERTIFICATE", "END TRUSTED CERTIFICATE")
            ),
            format!(
                "is damaged: section 2 (line {line}) begins with another name than it ends with"
            ),
        ),
        (
            format!(
                "{leaf}{}",
                intermediate.replace("CERTIFICATE", "TRUSTED CERTIFICATE")
            ),
            format!(
                "holds a certificate in OpenSSL's own format in section 2 (line {line}); convert"
            ),
        ),
        (
            format!("{leaf}{}", with_body("CERTIFICATE", "MIIBAAAA")),
            format!("is damaged: section 2 (line {line}) is valid Base64, but no certificate"),
        ),
        (
            format!("{leaf}{}", with_body("CERTIFICATE", "AAAAA")),
            format!("is damaged: the Base64 of section 2 (line {line}) does not decode"),
        ),
        (
            format!("{leaf}{}", with_body("CERTIFICATE", "")),
            format!("is damaged: the Base64 of section 2 (line {line}) does not decode"),
        ),
        (
            format!("{leaf}{}", with_body("CERTIFICATE", "AA!A")),
            format!(
                "is damaged: line {} has a character that is not Base64",
                line + 1
            ),
        ),
    ] {
        refused(
            pair(&text, &key),
            &format!("server.tls.cert_file: the certificate `cert.pem` {expected}"),
        );
    }
}

#[test]
fn a_file_with_other_contents_or_in_another_order_is_refused() {
    let World {
        leaf,
        key,
        intermediate,
        root,
    } = World::new();
    let line = leaf.lines().count() + 1;
    for (text, expected) in [
        (
            format!("{leaf}{}", with_body("PKCS7", "AAAA")),
            format!("holds a PKCS#7 bundle in section 2 (line {line}); convert"),
        ),
        (
            format!("{leaf}{}", with_body("X509 CRL", "AAAA")),
            format!("holds a list of revoked certificates in section 2 (line {line});"),
        ),
        (
            format!("{leaf}{}", with_body("FANCY", "AAAA")),
            format!(
                "holds a section of a kind that fanwire does not know in section 2 (line {line}); remove it"
            ),
        ),
        (
            format!("{leaf}{leaf}{intermediate}"),
            format!(
                "has the same certificate twice, in section 1 (line 1) and section 2 (line {line})"
            ),
        ),
        (
            format!("{leaf}{root}{intermediate}"),
            "is out of order: section 3 (line".into(),
        ),
        (
            format!("{leaf}{root}"),
            format!("does not fit: section 1 (line 1) is not issued by section 2 (line {line})"),
        ),
        (
            format!("{intermediate}{leaf}"),
            "is out of order: the key in `key.pem` belongs to section 2 (line".into(),
        ),
        (
            format!("{leaf}{intermediate}{root}{}", World::new().root),
            "is out of order: section 3 (line".into(),
        ),
        (
            leaf.replace('\n', ""),
            "has a whole section on line 1: its line breaks are lost; write it".into(),
        ),
        (
            leaf.replace('\n', " "),
            "has a whole section on line 1: its line breaks are lost; write it".into(),
        ),
        (
            leaf.replace('\n', "\\n"),
            "has \\n as two characters on line 1, in place of line breaks; turn".into(),
        ),
    ] {
        refused(
            pair(&text, &key),
            &format!("server.tls.cert_file: the certificate `cert.pem` {expected}"),
        );
    }
}

#[test]
fn an_intermediate_that_did_not_sign_the_certificate_is_refused() {
    let World { leaf, key, .. } = World::new();
    // The same name with another key, as after a renewal of the authority.
    let other = World::new().intermediate;
    refused(
        pair(format!("{leaf}{other}"), &key),
        "has the name of the issuer of section 1 (line 1), but did not sign it",
    );
}

#[test]
fn a_certificate_with_the_name_of_its_authority_is_served() {
    let authority_key = KeyPair::generate().unwrap();
    let authority = params("localhost", true);
    let root = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = params("localhost", false).signed_by(&key, &issuer).unwrap();
    let (leaf, key) = (leaf.pem(), key.serialize_pem());
    assert_eq!(pair(&leaf, &key), Ok(()));
    assert_eq!(pair(format!("{leaf}{root}"), &key), Ok(()));
    refused(
        authorities(&leaf),
        "has a certificate in section 1 (line 1) that is not an authority's",
    );
}

#[test]
fn an_issuer_that_is_no_authority_is_refused() {
    let world = World::with_intermediate(|params| params.is_ca = IsCa::ExplicitNoCa);
    refused(
        pair(format!("{}{}", world.leaf, world.intermediate), &world.key),
        "issued section 1 (line 1), but is not the certificate of an authority",
    );
}

#[test]
fn a_damaged_intermediate_is_refused_wherever_the_damage_is() {
    let World {
        leaf,
        key,
        intermediate,
        root,
    } = World::new();
    for line in 2..intermediate.lines().count() - 1 {
        let damaged: Vec<String> = intermediate
            .lines()
            .enumerate()
            .map(|(at, text)| {
                if at == line {
                    text.chars().rev().collect()
                } else {
                    text.to_owned()
                }
            })
            .collect();
        let damaged = damaged.join("\n") + "\n";
        let text = format!("{leaf}{damaged}{root}");
        assert!(pair(&text, &key).is_err(), "line {line} of the section");
    }
}

#[test]
fn a_certificate_of_version_1_is_refused_with_the_way_to_version_3() {
    refused(
        pair(known("ec_v1_cert.pem"), known("ec_sec1.pem")),
        "has a certificate of version 1 in section 1 (line 1); clients need version 3; make it with an extension",
    );
}

#[test]
fn an_intermediate_of_version_1_is_named_as_such_with_the_way_to_version_3() {
    let chain = known("ec_v1_chain.pem");
    refused(
        pair(&chain, known("ec_sec1.pem")),
        "is refused by clients: section 2 (line 11) issued section 1 (line 1), but has version 1; an authority of that \
         version cannot say that it is one; let its issuer make it with version 3, for example: openssl x509 -req -extfile \
         FILE, with basicConstraints=critical,CA:TRUE in that file",
    );
    let (_, intermediate) = chain.split_once("-----END CERTIFICATE-----\n").unwrap();
    refused(
        authorities(intermediate),
        "has a certificate of version 1 in section 1 (line 1); an authority of that version cannot say that it is one",
    );
}

#[test]
fn one_file_may_hold_the_chain_and_the_key() {
    let World {
        leaf,
        key,
        intermediate,
        ..
    } = World::new();
    let folder = Folder::new();
    for text in [
        format!("{leaf}{intermediate}{key}"),
        format!("{key}{leaf}{intermediate}"),
    ] {
        let path = folder.put("both.pem", text);
        let folder = Folder::new();
        let link = folder.0.path().join("link.pem");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for key_path in [&path, &link] {
            let tls = Tls {
                enabled: true,
                cert_file: Some(path.clone()),
                key_file: Some(key_path.clone()),
                client_ca_file: None,
            };
            assert_eq!(judged(&tls, &folder), Ok(()));
        }
    }
    refused(
        pair(format!("{leaf}{key}"), &key),
        "cert_file: the certificate `cert.pem` holds a private key in section 2",
    );
    refused(
        pair(&leaf, format!("{key}{leaf}")),
        "key_file: the private key `key.pem` also holds a certificate in section 2",
    );
}

#[test]
fn other_formats_are_named_with_the_way_to_pem() {
    let utf16: Vec<u8> = BOM
        .encode_utf16()
        .chain("a".encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    for (bytes, expected) in [
        (
            &utf16[..],
            "is UTF-16 text, as PowerShell writes it; save it as ASCII or UTF-8",
        ),
        (
            &[0x30, 0x82, 1, 1, 0x30, 0x82, 0, 0],
            "is not PEM, and looks like DER; convert it: openssl x509 -inform DER",
        ),
        (
            &[0x30, 0x82, 1, 1, 2, 1, 3, 0x30],
            "is not PEM, and looks like PKCS#12; convert it: openssl pkcs12",
        ),
        (
            b"hello",
            "has no certificate in it; name a PEM file with a CERTIFICATE section",
        ),
        (
            b"\0\0\0",
            "has no certificate in it; name a PEM file with a CERTIFICATE section",
        ),
    ] {
        refused(pair(bytes, known("ec_sec1.pem")), expected);
    }
}

#[test]
fn the_file_of_authorities_is_used_whole_or_refused() {
    let World {
        leaf,
        intermediate,
        root,
        key,
    } = World::new();
    assert_eq!(
        authorities(format!("{BOM}{root}text\n{BOM}{}", indented(&intermediate))),
        Ok(())
    );
    // A client's own certificate, if it signs itself.
    assert_eq!(authorities(known("ec_cert.pem")), Ok(()));
    for (text, expected) in [
        (
            format!("{root}{leaf}"),
            "has a certificate in section 2 (line ",
        ),
        (
            format!("{}{intermediate}", root.trim_end()),
            "has the END of a section and the BEGIN of the next on one line",
        ),
        (
            format!("{root}{}", with_body("CERTIFICATE", "MIIBAAAA")),
            "is damaged: section 2 (line ",
        ),
        (
            format!("{root}{}", with_body("X509 CRL", "AAAA")),
            "holds a list of revoked certificates in section 2",
        ),
        (format!("{root}{key}"), "holds a private key in section 2"),
        (key, "has no certificate in it, but a private key"),
        (String::new(), "is empty"),
    ] {
        refused(
            authorities(&text),
            &format!("server.tls.client_ca_file: the client CA `ca.pem` {expected}"),
        );
    }
}

#[cfg(not(feature = "aws-lc"))]
#[test]
fn an_authority_whose_signatures_cannot_be_checked_is_refused() {
    refused(
        authorities(known("p521_ca.pem")),
        "has an authority in section 1 (line 1) with a P-521 key; this build cannot check what it issued",
    );
}
