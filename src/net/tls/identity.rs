//! Makes the relay's side of TLS from the files that the configuration names.
//!
//! Called at the start, by `--check`, and when the files are read again. An error names the file, what is wrong with it, and
//! what to do. It never holds a byte of a file: [`super::pem`] says why. Nothing is kept here.

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::PrivateKeyDer;

use super::chain::{self, Certificate};
use super::contents::{self, Layout};
use super::key::KeyKind;
use super::pem::Flaw;
use super::validity::{Dated, Whose};
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
    /// The dates of all certificates, for warnings.
    pub(super) dated: Vec<Dated>,
}

/// Reads the files that `tls` names.
///
/// # Errors
/// A file is missing, cannot be read, or has the wrong contents.
pub(crate) fn load(tls: &Tls) -> Result<Identity, ConfigError> {
    let chain_file = Named::read(CERT_KEY, "certificate", tls.cert_file.as_deref())?;
    let key_file = Named::read(KEY_KEY, "private key", tls.key_file.as_deref())?;
    let layout = chain_file.layout_with(&key_file);
    let chain = chain_file.of(contents::chain(&chain_file.bytes, layout))?;
    let key = key_file.of(contents::private_key(&key_file.bytes, layout))?;
    let provider = Arc::new(provider());
    check_pair(&provider, &chain_file, &chain, &key_file, &key)?;
    chain_file.of(chain::check_chain(&chain))?;
    let mut dated = chain_file.dated(Whose::Server, &chain);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("the provider has suites of both versions");
    let builder = match client_verifier(tls, provider, &mut dated)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let expires_at = chain[0].not_after;
    let certificates = chain.into_iter().map(Certificate::into_der).collect();
    // The error of the library is not shown, here and below: it could hold bytes of the file.
    let mut config = builder.with_single_cert(certificates, key).map_err(|_| {
        chain_file.error(
            "has a certificate in section 1 whose extensions are damaged or contradict each other",
            "have the certificate issued again",
        )
    })?;
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
        dated,
    })
}

#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring as backend;

#[cfg(feature = "aws-lc")]
use rustls::crypto::aws_lc_rs as backend;

pub(super) fn provider() -> CryptoProvider {
    backend::default_provider()
}

fn ticketer() -> Result<Arc<dyn rustls::server::ProducesTickets>, rustls::Error> {
    backend::Ticketer::new()
}

/// The judge of client certificates, if the relay demands them. Adds the dates of its authorities to `dated`.
fn client_verifier(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
    dated: &mut Vec<Dated>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, ConfigError> {
    let Some(path) = &tls.client_ca_file else {
        return Ok(None);
    };
    let file = Named::read(CLIENT_CA_KEY, "client CA", Some(path))?;
    let authorities = file.of(contents::authorities(&file.bytes))?;
    dated.extend(file.dated(Whose::Authority, &authorities));
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let place = authority.place().to_owned();
        roots.add(authority.into_der()).map_err(|_| {
            file.error(
                format!("has a certificate in {place} whose extensions are damaged"),
                "name the certificates of the authorities as these issued them",
            )
        })?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(Some(verifier.expect(
        "there is an authority, and no list of revoked certificates",
    )))
}

/// Checks that the key can be used, and that it is the key of the first certificate.
pub(super) fn check_pair(
    provider: &CryptoProvider,
    chain_file: &Named,
    chain: &[Certificate],
    key_file: &Named,
    key: &PrivateKeyDer<'static>,
) -> Result<(), ConfigError> {
    let kind = KeyKind::of_private(key);
    let unusable = || key_file.of(Err(kind.flaw()));
    if kind == KeyKind::UnnamedCurve {
        return unusable();
    }
    let Ok(signing) = provider.key_provider.load_private_key(key.clone_key()) else {
        return unusable();
    };
    let Some(public) = signing.public_key() else {
        return Ok(());
    };
    let fits = |certificate: &Certificate| certificate.public_key() == public.as_ref();
    match chain.iter().position(fits) {
        Some(0) => Ok(()),
        Some(other) => Err(chain_file.error(
            format!(
                "is out of order: the key in `{}` belongs to {}",
                key_file.shown(),
                chain[other].place()
            ),
            "put the server's certificate first, and behind each one the certificate of its issuer",
        )),
        None => Err(key_file.error(
            format!(
                "is not the key of the certificate in `{}`",
                chain_file.shown()
            ),
            "name the key that the certificate was issued for",
        )),
    }
}

/// A file that the configuration names, and its contents.
pub(super) struct Named {
    key: &'static str,
    noun: &'static str,
    path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Named {
    /// Reads the file that `key` names.
    pub(super) fn read(
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

    /// An error about the file.
    pub(super) fn error(
        &self,
        problem: impl std::fmt::Display,
        fix: impl Into<String>,
    ) -> ConfigError {
        let problem = format!("the {} `{}` {problem}", self.noun, self.shown());
        ConfigError::new(problem, fix).of_key(self.key)
    }

    /// Makes a flaw of the contents an error of this file.
    pub(super) fn of<T>(&self, read: Result<T, Flaw>) -> Result<T, ConfigError> {
        read.map_err(|flaw| self.error(flaw.problem, flaw.fix))
    }

    /// Whether `other` is this file under the same or another name.
    pub(super) fn layout_with(&self, other: &Named) -> Layout {
        let is_same = match (self.path.canonicalize(), other.path.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => self.path == other.path,
        };
        if is_same {
            Layout::Combined
        } else {
            Layout::Separate
        }
    }

    fn dated(&self, whose: Whose, certificates: &[Certificate]) -> Vec<Dated> {
        let dated = |certificate: &Certificate| {
            let dates = (certificate.not_before, certificate.not_after);
            Dated::new(whose, &self.path, certificate.place(), dates)
        };
        certificates.iter().map(dated).collect()
    }
}
