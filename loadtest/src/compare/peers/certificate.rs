//! The certificate of the servers of a comparison over TLS. It is made for the comparison, and nobody else trusts it.
//!
//! All servers have the same certificate. Each finds it in its own temporary folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

/// The name of its file in a server's folder; PEM.
pub(super) const CERTIFICATE: &str = "certificate.pem";

/// The name of the file of its key; PEM, PKCS#8.
pub(super) const KEY: &str = "key.pem";

/// A self-signed certificate for 127.0.0.1, ECDSA on P-256, and its key.
pub struct Certificate {
    certificate: String,
    key: String,
}

impl Certificate {
    /// A new one.
    pub fn make() -> Result<Certificate, String> {
        let failed = |error: rcgen::Error| format!("no certificate can be made: {error}");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(failed)?;
        let certificate = parameters.self_signed(&key).map_err(failed)?;
        Ok(Certificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Writes both files into a folder. Nobody else can read the key.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(CERTIFICATE), &self.certificate)?;
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        options
            .open(folder.join(KEY))?
            .write_all(self.key.as_bytes())
    }
}
