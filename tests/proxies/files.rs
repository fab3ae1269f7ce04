//! The folder of a test: certificates, socket, configurations and logs. Each test makes one, and it is removed with the test.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::SECRET;
use crate::page::{self, Block};
use crate::processes::{eventually, runs_as_root};

/// The host in all configurations of the page.
pub(crate) const HOST: &str = "relay.example.org";

/// The relay's socket, in the folder. It has a folder of its own, as on the page.
pub(crate) const SOCKET: &str = "fanwire/relay.sock";

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
            let passwd = fs::read_to_string("/etc/passwd").unwrap();
            let mut entries = passwd
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>());
            let entry = entries.find(|entry| entry[0] == user).unwrap();
            chown(&home, entry[2].parse().ok(), entry[3].parse().ok()).unwrap();
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
        page::block(section, language)
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

    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}
