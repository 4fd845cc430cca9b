//! What the process of a volume is told when it is started: one JSON file, written by the daemon or by hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use mainstay_core::time::Millis;
use mainstay_volume_core::io as volume;
use mainstay_volume_core::types::{Side, VolumeId};
use serde::Deserialize;

use crate::disk::EngineKind;
use crate::link::End;
use crate::link::credentials::Files;

/// A longer config is none, in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// One copy of a volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What clients see it as, and people.
    pub name: String,
    /// 32 hexadecimal digits, the same on both nodes, and of no other volume.
    pub volume: String,
    /// `A` on the node whose name sorts first, else `B`.
    pub side: Side,
    /// The file or block device with the data; its last 8 KiB are the label's.
    pub backing: PathBuf,
    /// The intent log's file. On another disk than the backing it does not slow it down.
    pub log: PathBuf,
    /// Where clients connect (NBD).
    pub nbd: PathBuf,
    /// Where the daemon connects.
    pub control: PathBuf,
    /// The other copy; none: there is no other copy yet.
    #[serde(default)]
    pub link: Option<LinkConfig>,
    /// When writes are answered.
    #[serde(default)]
    pub mode: Mode,
    /// Whether there is an arbiter (V3).
    #[serde(default)]
    pub arbiter: bool,
    /// No request is held for longer, in ms (V1).
    #[serde(default)]
    pub stall_ms: Option<u64>,
    /// A peer that is silent for so long is gone, in ms.
    #[serde(default)]
    pub peer_timeout_ms: Option<u64>,
    /// How long a peer has to come back before this copy sets out to go on alone, in ms.
    #[serde(default)]
    pub alone_after_ms: Option<u64>,
    /// What a resync may use of the line, in bytes a second.
    #[serde(default)]
    pub resync_bytes_per_s: Option<u64>,
    /// Who carries out disk operations.
    #[serde(default)]
    pub disk: DiskEngine,
}

/// How the other copy is reached.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LinkConfig {
    /// Where this side listens; side `B` does.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Where the peer listens; side `A` connects.
    #[serde(default)]
    pub connect: Option<SocketAddr>,
    /// By what both ends know each other.
    #[serde(default)]
    pub tls: Option<Files>,
    /// No encryption, and no look at who is at the other end: whoever reaches the address can read and write the volume.
    /// For measurements on one machine; it is said in the log and in the status.
    #[serde(default)]
    pub insecure_for_benchmarks_only: bool,
}

/// See [`volume::Mode`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mode {
    /// Both copies have it.
    #[default]
    Sync,
    /// The other copy is behind by so much at the most.
    #[serde(rename_all = "kebab-case")]
    Async {
        /// In bytes.
        lag_bytes_max: u64,
        /// In ms.
        lag_ms_max: u64,
    },
}

/// See [`EngineKind`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskEngine {
    /// io_uring where it is permitted, else threads.
    #[default]
    Best,
    /// io_uring, or it does not start.
    Uring,
    /// Threads.
    Threads,
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no config.
    #[error("{path} is no config of a volume: {source}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Something in it does not do.
    #[error("in the config of the volume: {0}")]
    Value(&'static str),
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// With where the mistake is.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(failed)?.len() > BYTES_MAX {
            return Err(failed(io::Error::other(format!("it is longer than {BYTES_MAX} bytes"))));
        }
        let text = fs::read(path).map_err(failed)?;
        let config: Self =
            serde_json::from_slice(&text).map_err(|source| ConfigError::Json { path: path.to_owned(), source })?;
        config.end()?;
        config.id()?;
        Ok(config)
    }

    /// The volume's number.
    ///
    /// # Errors
    /// When it is none.
    pub fn id(&self) -> Result<VolumeId, ConfigError> {
        let is_hex = self.volume.len() == 32 && self.volume.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(&self.volume, 16).ok().filter(|_| is_hex);
        id.map(VolumeId).ok_or(ConfigError::Value("`volume` is 32 hexadecimal digits"))
    }

    /// Which end of the link this is.
    ///
    /// # Errors
    /// When it is both or neither, or nobody would be known by anything.
    pub fn end(&self) -> Result<Option<End>, ConfigError> {
        let Some(link) = &self.link else { return Ok(None) };
        if link.tls.is_some() == link.insecure_for_benchmarks_only {
            return Err(ConfigError::Value("`link` needs `tls` with the certificates of both nodes"));
        }
        match (self.side, link.listen, link.connect) {
            (Side::A, None, Some(address)) => Ok(Some(End::Connects(address))),
            (Side::B, Some(address), None) => Ok(Some(End::Listens(address))),
            (Side::A, ..) => Err(ConfigError::Value("`link` of side A has `connect`, and no `listen`")),
            (Side::B, ..) => Err(ConfigError::Value("`link` of side B has `listen`, and no `connect`")),
        }
    }

    /// What the core is told.
    ///
    /// # Errors
    /// When the volume's number is none.
    pub fn for_core(&self, backing_bytes: u64) -> Result<volume::Config, ConfigError> {
        let mut config = volume::Config::new(self.id()?, self.side, backing_bytes);
        config.arbiter = self.arbiter;
        config.resync_bytes_per_s = self.resync_bytes_per_s;
        config.mode = match self.mode {
            Mode::Sync => volume::Mode::Sync,
            Mode::Async { lag_bytes_max, lag_ms_max } => {
                volume::Mode::Async { lag_bytes_max, lag_max: Millis(lag_ms_max) }
            }
        };
        let set = |to: &mut Millis, ms: Option<u64>| *to = ms.map_or(*to, Millis);
        set(&mut config.stall_time, self.stall_ms);
        set(&mut config.peer_timeout, self.peer_timeout_ms);
        set(&mut config.alone_after, self.alone_after_ms);
        Ok(config)
    }
}

impl From<DiskEngine> for EngineKind {
    fn from(engine: DiskEngine) -> Self {
        match engine {
            DiskEngine::Best => Self::Best,
            DiskEngine::Uring => Self::Uring,
            DiskEngine::Threads => Self::Threads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(link: serde_json::Value, side: &str) -> Result<Option<End>, String> {
        let config = json!({
            "name": "mail", "volume": "0123456789abcdef0123456789abcdef", "side": side, "backing": "/b", "log": "/l",
            "nbd": "/n", "control": "/c", "link": link
        });
        serde_json::from_value::<Config>(config).unwrap().end().map_err(|error| error.to_string())
    }

    #[test]
    fn a_link_has_one_end_here_and_both_are_known() {
        let address: SocketAddr = "192.0.2.1:7500".parse().unwrap();
        let insecure = |key: &str| json!({ key: address, "insecure-for-benchmarks-only": true });
        assert_eq!(check(serde_json::Value::Null, "A"), Ok(None));
        assert_eq!(check(insecure("connect"), "A"), Ok(Some(End::Connects(address))));
        assert_eq!(check(insecure("listen"), "B"), Ok(Some(End::Listens(address))));
        assert!(check(insecure("listen"), "A").unwrap_err().contains("side A has `connect`"));
        assert!(check(json!({ "listen": address }), "B").unwrap_err().contains("needs `tls`"));
    }
}
