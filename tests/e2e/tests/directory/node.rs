//! A node as far as the kit sees one: the shipped component, run by the binary, with its secrets, beside the directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mainstay_test_e2e::cli::{self, Said};
use mainstay_test_support::systemd::Systemd;
use mainstay_test_support::{TempDir, binary, kit};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::LIMIT;
use crate::samba::{PASSWORD, SERVER_NAME, Samba, USER};

/// Secrets that are nobody's.
pub(crate) const WRONG_PASSWORD: &str = "wrong-password";
pub(crate) const WRONG_AUTHORITY: &str = "wrong-ca";

/// The one service of the Exchange server, which has nothing to do here but to run.
const SERVICE: &str = "store.service";

/// Where the kit is run.
pub(crate) struct Kit<'a> {
    samba: &'a Samba,
    systemd: Systemd,
    secrets: TempDir,
}

impl<'a> Kit<'a> {
    /// With the right secrets, and with wrong ones. None, made known, where there is no systemd to be had.
    pub(crate) fn new(samba: &'a Samba) -> Option<Self> {
        let systemd = Systemd::start()?;
        systemd.unit(SERVICE, "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n");
        let secrets = TempDir::new();
        let mut stranger = CertificateParams::new(Vec::new()).expect("no names");
        stranger.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let stranger = stranger.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let authority = fs::read_to_string(samba.authority()).expect("it was written");
        for (name, content) in [
            ("directory", PASSWORD),
            (WRONG_PASSWORD, "guessed"),
            ("ca", &authority),
            (WRONG_AUTHORITY, &stranger.pem()),
        ] {
            let file = secrets.write(name, content);
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("it was just written");
        }
        Some(Self { samba, systemd, secrets })
    }

    fn command(&self, operation: &str, node: &str, directory: &Value) -> Command {
        let mut params = json!({
            "version": "2003", "services": [SERVICE],
            "servers": { "ex01": "EX01", "ex02": "EX02" },
            "directory": {
                "servers": ["127.0.0.1"], "server-name": SERVER_NAME, "trust": "ca",
                "bind": { "user": USER, "secret": "directory" },
            },
        });
        for (key, value) in directory.as_object().expect("a table") {
            params["directory"][key] = value.clone();
        }
        let mut command = self.samba.inside(binary("mainstay"));
        command.args(["kit", "run", "--json", "--budget", "4m", "--node", node, "--params", &params.to_string()]);
        command.args(["--grant-service", SERVICE]).env("DBUS_SYSTEM_BUS_ADDRESS", self.systemd.address());
        for place in ["127.0.0.1:389", "127.0.0.1:636"] {
            command.args(["--grant-net", place]);
        }
        for secret in ["directory", WRONG_PASSWORD, "ca", WRONG_AUTHORITY] {
            command.args(["--grant-secret", secret]);
        }
        command.arg("--secrets").arg(self.secrets.path()).arg(kit("exchange")).arg(operation);
        command
    }

    /// Restore on a node, to be started.
    pub(crate) fn restore(&self, node: &str, directory: &Value) -> Command {
        self.command("restore", node, directory)
    }

    /// Restore that has to work.
    #[track_caller]
    pub(crate) fn done(&self, node: &str, directory: &Value) -> Value {
        let said = cli::run_within(LIMIT, &mut self.restore(node, directory));
        assert_eq!(said.code, Some(0), "{said:#?}");
        json_of(&said)
    }

    /// Restore that has to fail.
    #[track_caller]
    pub(crate) fn error(&self, node: &str, directory: &Value) -> Value {
        let said = cli::run_within(LIMIT, &mut self.restore(node, directory));
        assert_eq!(said.code, Some(1), "{said:#?}");
        json_of(&said)
    }

    /// What a standby finds.
    #[track_caller]
    pub(crate) fn assess(&self, node: &str, directory: &Value) -> Value {
        json_of(&cli::run(&mut self.command("assess", node, directory)))
    }
}

#[track_caller]
fn json_of(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error} in {said:#?}"))
}
