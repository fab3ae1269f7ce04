//! Reads certificates and keys from the files that the configuration names.
//!
//! Called at the start, by `--check`, and when the files are read again. An error names the file, what is wrong with it, and
//! what to do. Nothing is kept here.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{ConfigError, Tls, pem_file};

/// The largest file that is read, in bytes: a hundred times a long chain.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The protocol that is spoken inside (RFC 7301). Without it, a browser might choose HTTP/2.
const ALPN: &[u8] = b"http/1.1";

/// Tickets for resumption that a client gets after a handshake of TLS 1.3. Each takes 200 bytes, and most clients use one
/// at most.
const TICKETS: usize = 1;

const CERT_KEY: &str = "server.tls.cert_file";
const KEY_KEY: &str = "server.tls.key_file";
const CLIENT_CA_KEY: &str = "server.tls.client_ca_file";

/// The certificate of the relay, and the rules for those of clients.
#[derive(Debug)]
pub(crate) struct Identity {
    /// For rustls. Its sessions share it.
    pub(crate) config: Arc<ServerConfig>,
    /// When the certificate of the relay expires, in seconds since the Unix epoch.
    pub(crate) expires_at: i64,
}

/// Reads the files that `tls` names.
///
/// # Errors
/// A file is missing, cannot be read, or has the wrong contents.
pub(crate) fn load(tls: &Tls) -> Result<Identity, ConfigError> {
    let chain = Named::read(CERT_KEY, "certificate", tls.cert_file.as_deref())?;
    let key = Named::read(KEY_KEY, "private key", tls.key_file.as_deref())?;
    let certificates = chain.certificates()?;
    let expires_at = chain.expiry(&certificates[0])?;
    let private_key = key.private_key()?;
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("the provider has suites of both versions");
    let builder = match client_verifier(tls, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates, private_key)
        .map_err(|error| refused_pair(&chain, &key, &error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A ticket holds the whole session, so the relay stores none. The keys of tickets live as long as the identity, so no
    // resumed session is older than the rules for client certificates in force.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    config.ticketer = ticketer().map_err(|error| {
        let problem = format!("no keys for session tickets could be made: {error}");
        ConfigError::new(
            problem,
            "give the process access to the system's randomness",
        )
    })?;
    Ok(Identity {
        config: Arc::new(config),
        expires_at,
    })
}

#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as backend;

#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as backend;

fn provider() -> CryptoProvider {
    backend::default_provider()
}

fn ticketer() -> Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    backend::Ticketer::new()
}

/// The judge of client certificates, if the relay demands them.
fn client_verifier(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, ConfigError> {
    let Some(path) = &tls.client_ca_file else {
        return Ok(None);
    };
    let file = Named::read(CLIENT_CA_KEY, "client CA", Some(path))?;
    let mut roots = RootCertStore::empty();
    for certificate in file.certificates()? {
        roots.add(certificate).map_err(|error| {
            file.error(
                format!("holds a certificate that cannot be a CA's: {error}"),
                "name a file with the certificates of the CAs",
            )
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map(Some)
        .map_err(|error| {
            file.error(
                format!("cannot be used to judge clients: {error}"),
                "name a file with the certificates of the CAs",
            )
        })
}

/// Explains why rustls refuses the certificate and the key together.
fn refused_pair(chain: &Named, key: &Named, error: &rustls::Error) -> ConfigError {
    match error {
        rustls::Error::InconsistentKeys(_) => key.error(
            format!("is not the key of the certificate in `{}`", chain.shown()),
            "name the key that the certificate was issued for",
        ),
        rustls::Error::InvalidCertificate(reason) => chain.error(
            format!("holds a certificate that is not valid: {reason:?}"),
            "name the certificate chain as its CA issued it",
        ),
        other => key.error(
            format!("holds a key that cannot be used: {other}"),
            "use an RSA key of 2048 bits or more, or one of P-256, P-384 or Ed25519",
        ),
    }
}

/// A file that the configuration names, and its contents.
struct Named {
    key: &'static str,
    noun: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Named {
    fn read(
        key: &'static str,
        noun: &'static str,
        path: Option<&Path>,
    ) -> Result<Named, ConfigError> {
        let file = pem_file(key, noun, path)?;
        let mut named = Named {
            key,
            noun,
            path: path.unwrap_or(Path::new("")).into(),
            bytes: Vec::new(),
        };
        let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut named.bytes);
        match read {
            Ok(_) if named.bytes.len() as u64 <= MAX_FILE_BYTES => Ok(named),
            Ok(_) => Err(named.error("is larger than 1 MiB", "name the PEM file itself")),
            Err(error) => Err(named.error(
                format!("cannot be read: {error}"),
                "name a PEM file that the relay's user may read",
            )),
        }
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    fn error(&self, problem: impl std::fmt::Display, fix: &str) -> ConfigError {
        let problem = format!("the {} `{}` {problem}", self.noun, self.shown());
        ConfigError::new(problem, fix).of_key(self.key)
    }

    /// The certificates, at least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let certificates = parsed.map_err(|error| self.not_pem(&error))?;
        if certificates.is_empty() {
            return Err(self.error(
                format!("has no certificate in it{}", self.instead()),
                "name a PEM file with a CERTIFICATE section",
            ));
        }
        Ok(certificates)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => self.error(
                format!("has no private key in it{}", self.instead()),
                "name a PEM file with a PRIVATE KEY section, not encrypted (PKCS#8, PKCS#1 or SEC1)",
            ),
            other => self.not_pem(&other),
        })
    }

    /// Names what the file holds instead, if that is known.
    fn instead(&self) -> &'static str {
        let holds = |needle: &str| {
            self.bytes
                .windows(needle.len())
                .any(|at| at == needle.as_bytes())
        };
        if holds("-----BEGIN ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED") {
            ", but an encrypted key"
        } else if holds("PRIVATE KEY-----") {
            ", but a private key"
        } else if holds("-----BEGIN CERTIFICATE-----") {
            ", but a certificate"
        } else if self.bytes.is_empty() {
            ", nor anything else"
        } else if self.bytes[0] == 0x30 {
            ", and looks like DER"
        } else {
            ""
        }
    }

    fn not_pem(&self, error: &pem::Error) -> ConfigError {
        self.error(
            format!("is not PEM: {error}"),
            "write it anew, for example with openssl",
        )
    }

    /// When the certificate expires, in seconds since the Unix epoch.
    fn expiry(&self, certificate: &CertificateDer<'_>) -> Result<i64, ConfigError> {
        match x509_parser::parse_x509_certificate(certificate) {
            Ok((_, parsed)) => Ok(parsed.validity().not_after.timestamp()),
            Err(error) => Err(self.error(
                format!("holds a certificate that is not valid: {error}"),
                "name the certificate chain as its CA issued it",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys");

    fn named(cert: &str, key: &str) -> Tls {
        let path = |name: &str| Some(Path::new(KEYS).join(name));
        Tls {
            enabled: true,
            cert_file: path(cert),
            key_file: path(key),
            client_ca_file: None,
        }
    }

    /// The error for a refused pair, without the paths.
    fn refusal(cert: &str, key: &str) -> String {
        load(&named(cert, key))
            .unwrap_err()
            .to_string()
            .replace(&format!("{KEYS}/"), "")
    }

    #[test]
    fn keys_in_pkcs8_pkcs1_and_sec1_are_read() {
        for (cert, key) in [
            ("rsa_cert.pem", "rsa_pkcs8.pem"),
            ("rsa_cert.pem", "rsa_pkcs1.pem"),
            ("ec_cert.pem", "ec_sec1.pem"),
        ] {
            let identity = load(&named(cert, key)).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert!(identity.expires_at > 4_000_000_000, "in a hundred years");
        }
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said_in_one_line() {
        for (cert, key, expected) in [
            (
                "absent.pem",
                "rsa_pkcs8.pem",
                "server.tls.cert_file: the certificate `absent.pem` cannot be read: No such file",
            ),
            (
                "rsa_pkcs8.pem",
                "rsa_pkcs8.pem",
                "server.tls.cert_file: the certificate `rsa_pkcs8.pem` has no certificate in it, but a private key;",
            ),
            (
                "README.md",
                "rsa_pkcs8.pem",
                "server.tls.cert_file: the certificate `README.md` has no certificate in it;",
            ),
            (
                "rsa_cert.pem",
                "ec_cert.pem",
                "server.tls.key_file: the private key `ec_cert.pem` has no private key in it, but a certificate;",
            ),
            (
                "rsa_cert.pem",
                "rsa_encrypted.pem",
                "server.tls.key_file: the private key `rsa_encrypted.pem` has no private key in it, but an encrypted key;",
            ),
            (
                "rsa_cert.pem",
                "ec_sec1.pem",
                "server.tls.key_file: the private key `ec_sec1.pem` is not the key of the certificate in `rsa_cert.pem`;",
            ),
        ] {
            let refusal = refusal(cert, key);
            assert!(refusal.contains(expected), "{refusal}");
            assert!(!refusal.contains('\n'));
        }
    }

    #[test]
    fn what_a_damaged_file_holds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.pem");
        for text in [
            "",
            "\0\0\0",
            "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            for (cert, key, at_fault) in [
                (&*path, &Path::new(KEYS).join("rsa_pkcs8.pem"), "cert_file"),
                (&Path::new(KEYS).join("rsa_cert.pem"), &path, "key_file"),
            ] {
                let tls = Tls {
                    enabled: true,
                    cert_file: Some(cert.into()),
                    key_file: Some(key.into()),
                    client_ca_file: None,
                };
                let refusal = load(&tls).unwrap_err();
                assert_eq!(
                    refusal.key(),
                    Some(&*format!("server.tls.{at_fault}")),
                    "{text:?}: {refusal}"
                );
            }
        }
    }

    #[test]
    fn a_client_ca_without_certificates_is_refused() {
        let mut tls = named("rsa_cert.pem", "rsa_pkcs8.pem");
        tls.client_ca_file = Some(Path::new(KEYS).join("rsa_pkcs8.pem"));
        let refusal = load(&tls).unwrap_err();
        assert_eq!(refusal.key(), Some("server.tls.client_ca_file"));
    }
}
