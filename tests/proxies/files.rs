//! The folder of a test: certificates, socket, configurations and logs. Each test makes one, and it is removed with the test.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::page::{self, Block};
use crate::support::{HOST, SECRET, eventually, runs_as_root};

/// The relay's socket, in the folder. It has a folder of its own, as on the page.
pub(crate) const SOCKET: &str = "fanwire/relay.sock";

/// The output of the proxy, in the folder.
pub(crate) const LOG: &str = "proxy.log";

/// Warnings that are not about the configuration.
const EXPECTED_WARNINGS: &[&str] = &[
    // HAProxy, about a process that ends after a reload, as it should.
    "stopped (cumulated conns",
    "Former worker",
    // Caddy, about the test's certificates. No authority signed them.
    "stapling OCSP",
    // Apache, about the version of OpenSSL on this machine.
    "compiled against a newer library",
];

pub(crate) struct Files {
    folder: TempDir,
    client: Arc<ClientConfig>,
    renewed: Certificate,
}

struct Certificate {
    der: CertificateDer<'static>,
    pem: String,
    key: String,
}

impl Certificate {
    fn new() -> Certificate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        Certificate {
            der: cert.der().clone(),
            pem: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Files {
    pub(crate) fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let first = Certificate::new();
        let renewed = Certificate::new();
        let mut roots = RootCertStore::empty();
        roots.add(first.der.clone()).unwrap();
        roots.add(renewed.der.clone()).unwrap();
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // In a resumed session, a client would not see the renewed certificate.
        client.resumption = Resumption::disabled();
        let files = Files {
            folder,
            client: Arc::new(client),
            renewed,
        };
        // A proxy that root starts continues as another user.
        fs::set_permissions(files.path(""), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(files.path("fanwire")).unwrap();
        files.write_certificate(&first);
        files
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.into_os_string().into_string().unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A folder that `user` may write to if root runs the test.
    pub(crate) fn home_of(&self, user: &str) -> String {
        let home = self.path(user);
        fs::create_dir(&home).unwrap();
        if runs_as_root() {
            let owner = format!("{user}:{user}");
            let status = Command::new("chown").args([&owner, &home]).status();
            assert!(status.unwrap().success());
        }
        home
    }

    /// A file to which several processes append.
    pub(crate) fn log(&self, name: &str) -> File {
        let mut options = File::options();
        options.append(true).create(true);
        options.open(self.path(name)).unwrap()
    }

    /// A configuration of the page, with the certificates and the socket of this folder.
    pub(crate) fn block(&self, section: &str, language: &str) -> Block {
        self.block_of(page::PROXIES, section, language)
    }

    /// The same, of another page.
    pub(crate) fn block_of(&self, page: &str, section: &str, language: &str) -> Block {
        page::block(page, section, language)
            .adapted("/run/fanwire/relay.sock", &self.path(SOCKET))
            .adapted("/etc/ssl/relay/cert.pem", &self.path("cert.pem"))
            .adapted("/etc/ssl/relay/key.pem", &self.path("key.pem"))
            .adapted("/etc/haproxy/relay.pem", &self.path("relay.pem"))
    }

    /// Puts another certificate and key in place of the first. A proxy shows them only after it was reloaded.
    pub(crate) fn renew_certificate(&self) {
        self.write_certificate(&self.renewed);
    }

    pub(crate) fn renewed_certificate(&self) -> &CertificateDer<'static> {
        &self.renewed.der
    }

    fn write_certificate(&self, certificate: &Certificate) {
        let Certificate { pem, key, .. } = certificate;
        fs::write(self.path("cert.pem"), pem).unwrap();
        fs::write(self.path("key.pem"), key).unwrap();
        fs::write(self.path("relay.pem"), format!("{pem}{key}")).unwrap();
    }

    /// Waits until a log names the path at which clients meet, and asserts that it has no query.
    pub(crate) fn await_path_without_query(&self, log: &str) {
        eventually("clients are logged", || self.read(log).contains("/room"));
        assert!(!self.read(log).contains(SECRET), "{}", self.read(log));
    }

    /// Asserts that the proxy's output has no warning.
    pub(crate) fn assert_no_warning(&self) {
        assert_no_warning(&self.read(LOG));
    }

    /// Asserts that the proxy's output has no token.
    pub(crate) fn assert_no_token(&self) {
        let log = self.read(LOG);
        assert!(!log.contains(SECRET), "{log}");
    }

    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}

/// The proxies mark warnings as `[warn]`, `[WARNING]`, `[mpm_event:warn]` or `"level":"warn"`.
pub(crate) fn assert_no_warning(output: &str) {
    let is_expected = |line: &str| EXPECTED_WARNINGS.iter().any(|words| line.contains(words));
    let is_warning = |line: &&str| line.to_lowercase().contains("warn") && !is_expected(line);
    assert_eq!(output.lines().find(is_warning), None, "in\n{output}");
}
