//! Makes the relay's side of TLS for connections that it opens itself: to engines, and to their Sentinels.
//!
//! Called at the start and by `--check`. The relay trusts only the authorities that `cluster.ca_file` names.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::ServerName;

use super::chain::{self, Certificate};
use super::contents;
use super::identity::{Named, check_pair, provider};
use super::outgoing::Outgoing;
use crate::config::{Cluster, ConfigError};

const CA_KEY: &str = "cluster.ca_file";
const CERT_KEY: &str = "cluster.cert_file";
const KEY_KEY: &str = "cluster.key_file";

/// The authorities that are trusted, and the certificate that is shown. Copies share both.
#[derive(Clone)]
pub(crate) struct Trust(Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// A session with `host`, which must prove that it is that.
    pub(crate) fn session(&self, host: &str) -> io::Result<Outgoing> {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(host.to_owned())
                .map_err(|_| io::Error::other("the host's name cannot be that of a certificate"))?,
        };
        Outgoing::new(self.0.clone(), name)
    }
}

/// Reads the files that `cluster` names; `None` if no engine speaks TLS.
///
/// # Errors
/// A file is missing, cannot be read, or has the wrong contents.
pub(crate) fn load(cluster: &Cluster) -> Result<Option<Trust>, ConfigError> {
    let Some(path) = &cluster.ca_file else {
        return Ok(None);
    };
    let file = Named::read(CA_KEY, "engines' CA", Some(path))?;
    let roots = roots(&file)?;
    let provider = Arc::new(provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("the provider has suites of both versions")
        .with_root_certificates(roots);
    let Some(cert_file) = &cluster.cert_file else {
        return Ok(Some(Trust(Arc::new(builder.with_no_client_auth()))));
    };
    let chain_file = Named::read(CERT_KEY, "certificate", Some(cert_file))?;
    let key_file = Named::read(KEY_KEY, "private key", cluster.key_file.as_deref())?;
    let layout = chain_file.layout_with(&key_file);
    let chain = chain_file.of(contents::chain(&chain_file.bytes, layout))?;
    let key = key_file.of(contents::private_key(&key_file.bytes, layout))?;
    check_pair(&provider, &chain_file, &chain, &key_file, &key)?;
    chain_file.of(chain::check_chain(&chain))?;
    let certificates = chain.into_iter().map(Certificate::into_der).collect();
    // The error of the library is not shown: it could hold bytes of the file.
    let config = builder
        .with_client_auth_cert(certificates, key)
        .map_err(|_| {
            chain_file.error(
                "has a certificate that cannot be used",
                "have the certificate issued again",
            )
        })?;
    Ok(Some(Trust(Arc::new(config))))
}

fn roots(file: &Named) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for authority in file.of(contents::authorities(&file.bytes))? {
        let place = authority.place().to_owned();
        roots.add(authority.into_der()).map_err(|_| {
            file.error(
                format!("has a certificate in {place} whose extensions are damaged"),
                "name the certificates of the authorities as these issued them",
            )
        })?;
    }
    Ok(roots)
}
