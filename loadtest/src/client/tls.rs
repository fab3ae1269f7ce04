//! Trust in the certificate of a `wss://` URL: by the machine's authorities, by those of a file, or without any check.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::scenario::options::Options;

/// The settings of all connections. The error is a sentence for the person who typed the options.
pub(crate) fn config(options: &Options) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = if options.insecure {
        let verifier = Arc::new(TrustsAnything(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth()
    } else {
        let roots = match &options.ca {
            Some(path) => from_file(path)?,
            None => from_machine()?,
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let wrong = |what: &str| format!("--ca {}: {what}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(words(&error)))?;
    for (section, certificate) in (1..).zip(certificates) {
        let at = |what: &str| wrong(&format!("certificate {section}: {what}"));
        let certificate = certificate.map_err(|error| at(words(&error)))?;
        roots
            .add(certificate)
            .map_err(|_| at("it is damaged; copy it again, as its authority issued it"))?;
    }
    if roots.is_empty() {
        return Err(wrong(
            "it has no certificate; name a PEM file with those of authorities",
        ));
    }
    Ok(roots)
}

/// The error in words of our own. Those of the library quote the file, and a wrong file may hold a key.
fn words(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::Io(error) => match error.kind() {
            io::ErrorKind::NotFound => "the file does not exist; name a PEM file",
            io::ErrorKind::PermissionDenied => "this user may not read the file",
            _ => "the file cannot be read; name a PEM file",
        },
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no END line; copy the file again, with its line breaks"
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a BEGIN line is malformed; copy the file again, with its line breaks"
        }
        pem::Error::Base64Decode(_) => "its Base64 does not decode; copy the file again",
        pem::Error::NoItemsFound => "it has no certificate; name a PEM file with one",
        _ => "it is no PEM file that can be read; copy the file again",
    }
}

fn from_machine() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            "this machine trusts no certificate authority: name one with --ca, or use --insecure"
                .into(),
        );
    }
    Ok(roots)
}

/// Accepts any certificate. Signatures made with it are checked all the same.
#[derive(Debug)]
struct TrustsAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsAnything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_key_that_is_taken_for_an_authority_is_shown() {
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        for text in [
            key.clone(),
            key.replace('\n', " "),
            key.replace("\n-----END", ""),
            key.replacen('M', "é", 1),
            key.replace("-----END", "-----EDN"),
            key.replace("PRIVATE KEY", "CERTIFICATE"),
            key.replace("PRIVATE KEY-----\n", "CERTIFICATE-----\n!"),
        ] {
            std::fs::write(&path, &text).expect("a file");
            let error = from_file(&path).expect_err("it is a key");
            let shown = error.replace(&path.display().to_string(), "");
            let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
            for six in body.as_bytes().windows(6) {
                let numbers = format!("{}, {}", six[0], six[1]);
                let text = str::from_utf8(six).expect("Base64");
                assert!(
                    !shown.contains(text) && !shown.contains(&numbers),
                    "{shown}"
                );
            }
        }
    }
}
