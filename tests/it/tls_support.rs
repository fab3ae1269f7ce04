//! Support for TLS tests: an authority that issues certificates, files with them, and an independent client of rustls
//! and tungstenite.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use fanwire::config::Config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::support::{Client, PATIENCE, World, config};

/// The server name that clients use.
pub(crate) const NAME: &str = "localhost";

pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::until(2090)
    }

    /// An authority whose own certificate is valid until the end of `year`.
    pub(crate) fn until(year: i32) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of tests");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for [`NAME`] that is valid until the end of `year`.
    pub(crate) fn issue_until(&self, year: i32) -> Issued {
        self.issue_with(|params| params.not_after = rcgen::date_time_ymd(year, 12, 31))
    }

    /// A certificate for [`NAME`] that is valid from and to these times.
    pub(crate) fn issue_between(&self, from: SystemTime, to: SystemTime) -> Issued {
        self.issue_with(|params| {
            params.not_before = from.into();
            params.not_after = to.into();
        })
    }

    fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn issue(&self) -> Issued {
        self.issue_until(2090)
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(parse(&self.pem)).unwrap();
        roots
    }

    /// A client that trusts this authority and uses these versions.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// The same, with a client certificate.
    pub(crate) fn client_with(&self, own: &Issued) -> ClientConfig {
        use rustls::pki_types::pem::PemObject as _;
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![parse(&own.cert)], key)
            .unwrap()
    }
}

pub(crate) fn parse(pem: &str) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A relay with TLS, the files of its certificate, and a client's settings.
pub(crate) struct TlsWorld {
    pub(crate) world: World,
    pub(crate) authority: Authority,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) files: Files,
}

/// A certificate and its key on disk.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn of(issued: &Issued) -> Files {
        let files = Files {
            folder: tempfile::tempdir().unwrap(),
        };
        files.replace(issued);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn replace(&self, issued: &Issued) {
        fs::write(self.path("cert.pem"), &issued.cert).unwrap();
        fs::write(self.path("key.pem"), &issued.key).unwrap();
    }

    pub(crate) fn enable(&self, config: &mut Config) {
        let tls = &mut config.server.tls;
        tls.enabled = true;
        tls.cert_file = Some(self.path("cert.pem"));
        tls.key_file = Some(self.path("key.pem"));
    }
}

impl TlsWorld {
    pub(crate) fn start() -> TlsWorld {
        TlsWorld::with(config(2))
    }

    pub(crate) fn with(config: Config) -> TlsWorld {
        TlsWorld::prepare(config, |_, _, _| ())
    }

    /// `adjust` can change the whole configuration last.
    pub(crate) fn prepare(
        mut config: Config,
        adjust: impl FnOnce(&mut Config, &Authority, &Files),
    ) -> TlsWorld {
        let authority = Authority::new();
        let files = Files::of(&authority.issue());
        files.enable(&mut config);
        adjust(&mut config, &authority, &files);
        TlsWorld {
            world: World::with(&config),
            client: Arc::new(authority.client(rustls::ALL_VERSIONS)),
            authority,
            files,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.world.relay.address()
    }

    pub(crate) fn connect(&self, path: &str) -> TlsClient {
        self.connect_as(&self.client, path)
    }

    pub(crate) fn connect_as(&self, client: &Arc<ClientConfig>, path: &str) -> TlsClient {
        TlsClient::secure(self.address(), client, path)
    }

    /// A client with a small receive buffer, so that it soon looks slow to the relay.
    pub(crate) fn connect_narrowly(&self, path: &str) -> TlsClient {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        socket.connect(&self.address().into()).unwrap();
        let stream = secure(&self.client, socket.into());
        TlsClient::over(stream, self.address(), path)
    }

    /// A connection on which no byte has been sent, not even of the handshake.
    pub(crate) fn dial_as(&self, client: &Arc<ClientConfig>) -> TlsStream {
        secure(client, TcpStream::connect(self.address()).unwrap())
    }

    pub(crate) fn dial(&self) -> TlsStream {
        self.dial_as(&self.client)
    }
}

pub(crate) fn secure(client: &Arc<ClientConfig>, stream: TcpStream) -> TlsStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let connection = ClientConnection::new(client.clone(), NAME.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, stream)
}

/// Asserts that the relay ends a connection without an answer to the `ClientHello`.
pub(crate) fn expect_cut(mut stream: TlsStream) {
    if stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock).unwrap();
    }
    match stream.sock.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("an end was expected: {other:?}"),
    }
}

/// The slowest common kind of key, in files, and a client that trusts its certificate.
pub(crate) fn slow_key() -> (Files, Arc<ClientConfig>) {
    let issued = Issued {
        cert: include_str!("keys/rsa4096_cert.pem").into(),
        key: include_str!("keys/rsa4096_pkcs8.pem").into(),
    };
    let mut roots = RootCertStore::empty();
    roots.add(parse(&issued.cert)).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Files::of(&issued), Arc::new(client))
}

/// tungstenite's client over a rustls stream.
pub(crate) type TlsClient = Client<TlsStream>;

impl Client<TlsStream> {
    pub(crate) fn secure(address: SocketAddr, client: &Arc<ClientConfig>, path: &str) -> Self {
        let stream = secure(client, TcpStream::connect(address).unwrap());
        TlsClient::over(stream, address, path)
    }

    fn over(stream: TlsStream, address: SocketAddr, path: &str) -> TlsClient {
        let url = format!("wss://{address}{path}");
        let (socket, _) = tungstenite::client(url, stream).expect("an upgrade");
        TlsClient { socket }
    }

    pub(crate) fn tls(&self) -> &ClientConnection {
        &self.socket.get_ref().conn
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.socket.get_ref().sock
    }
}
