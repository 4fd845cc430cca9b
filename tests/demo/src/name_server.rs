//! The demo's name server: one zone, on a port of the system's choice, that takes updates signed with one key.
//!
//! It is hickory-server within this process, so it is not what any story ends; what it knows lies in its folder.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::ProtoError;
use hickory_server::proto::rr::Name;
use hickory_server::proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_server::store::sqlite::{SqliteConfig, SqliteZoneHandler, TsigKeyConfig};
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// The zone. `.test` is nobody's (RFC 6761).
pub(crate) const ZONE: &str = "demo.test";
/// The key's name.
pub(crate) const KEY_NAME: &str = "demo-key";
/// As long as the hash, as RFC 8945 wants it.
const KEY_BYTES: u64 = 32;
/// Ports tried until one is free for both TCP and UDP.
const PORT_TRIES_MAX: u32 = 50;
/// A connection on which nothing is asked for so long is closed, in s.
const IDLE_S_MAX: u64 = 10;
/// Answers of one connection that may wait to be sent.
const WAITING_ANSWERS_MAX: usize = 32;
/// How far the clocks may be apart, in s; what RFC 8945 recommends.
const FUDGE_S: u16 = 300;

/// Why there is no name server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameServerError {
    /// A file of its folder.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// No port.
    #[error("no port of 127.0.0.1 is free for both UDP and TCP: {0}")]
    Listen(io::Error),
    /// The zone's name.
    #[error("{ZONE} is no name: {0}")]
    Name(#[from] ProtoError),
    /// hickory does not take the zone.
    #[error("the zone {ZONE}: {0}")]
    Zone(String),
}

/// The server, until it is dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    secret: String,
    _server: Server<Catalog>,
}

impl NameServer {
    /// Starts one that keeps its files in `folder`, which is there. To be called on a tokio runtime that lives on.
    pub(crate) async fn start(folder: &Path) -> Result<Self, NameServerError> {
        let at = |path: PathBuf| move |source| NameServerError::File { path, source };
        let key = random_key().map_err(at("/dev/urandom".into()))?;
        let key_file = folder.join("key");
        std::fs::write(&key_file, &key).map_err(at(key_file.clone()))?;
        let zone_path = folder.join("zone");
        std::fs::write(&zone_path, zone_file()).map_err(at(zone_path.clone()))?;

        let origin = Name::from_ascii(format!("{ZONE}."))?;
        let key = TsigKeyConfig {
            name: format!("{KEY_NAME}."),
            key_file,
            algorithm: TsigAlgorithm::HmacSha256,
            fudge: FUDGE_S,
        };
        let config =
            SqliteConfig { zone_path, journal_path: folder.join("journal"), allow_update: true, tsig_keys: vec![key] };
        let handler: SqliteZoneHandler<TokioRuntimeProvider> = SqliteZoneHandler::try_from_config(
            origin.clone(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
            false,
            Some(folder),
            &config,
            None,
        )
        .await
        .map_err(NameServerError::Zone)?;
        let mut catalog = Catalog::new();
        catalog.upsert(origin.into(), vec![Arc::new(handler)]);

        let (udp, tcp) = bind_both().await.map_err(NameServerError::Listen)?;
        let address = tcp.local_addr().map_err(NameServerError::Listen)?;
        let mut server = Server::new(catalog);
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(IDLE_S_MAX), WAITING_ANSWERS_MAX);
        let secret = BASE64.encode(std::fs::read(folder.join("key")).map_err(at(folder.join("key")))?);
        Ok(Self { address, secret, _server: server })
    }

    /// Where it answers, UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key, as configs and secret files have it.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

fn random_key() -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    std::fs::File::open("/dev/urandom")?.take(KEY_BYTES).read_to_end(&mut key)?;
    Ok(key)
}

/// A zone has to have these; the name that the demo is about is not among them until somebody serves.
fn zone_file() -> String {
    let mut zone = format!("$ORIGIN {ZONE}.\n$TTL 1\n");
    // Writing to a String cannot fail.
    let _ = writeln!(zone, "@ IN SOA ns.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 1");
    let _ = writeln!(zone, "@ IN NS ns.{ZONE}.");
    let _ = writeln!(zone, "ns IN A 127.0.0.1");
    zone
}

async fn bind_both() -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if tries == PORT_TRIES_MAX => return Err(error),
            Err(_) => tries += 1,
        }
    }
}
