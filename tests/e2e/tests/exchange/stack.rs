//! A real mail stack in the place of Exchange: Postfix and Dovecot, two services of a real systemd of their own, with all their
//! state below a folder of the test's and on ports that nobody else uses.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use mainstay_test_support::guard::Signal;
use mainstay_test_support::systemd::Systemd;
use mainstay_test_support::{Port, WAIT_LIMIT, require_or_skip, skip, wait_until};
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid, User};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

pub(crate) const POSTFIX: &str = "postfix.service";
pub(crate) const DOVECOT: &str = "dovecot.service";
/// Whose mailbox is logged in to, and with what.
pub(crate) const USER: &str = "probe@example.org";
pub(crate) const PASSWORD: &str = "s3cret \"with\\all";
/// The name in the servers' certificate.
pub(crate) const NAME: &str = "mail.example.org";
/// Where the servers listen. Connections to it come from 127.0.0.1: between two ends of one address Dovecot wants no TLS.
const HOST: &str = "127.0.0.2";
/// Who owns the mailboxes: an account that every system has, and that owns nothing else.
const NOBODY: u32 = 65_534;

/// The stack; gone with all it started when dropped.
pub(crate) struct Stack {
    pub(crate) systemd: Systemd,
    /// Dovecot's unit.
    dovecot: String,
    smtp: Port,
    smtps: Port,
    pop3: Port,
    pop3s: Port,
    imap: Port,
    imaps: Port,
    /// The authority of the servers' certificate, and one that has nothing to do with it, in PEM.
    pub(crate) authority: String,
    pub(crate) stranger: String,
}

/// What takes a password before TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passwords {
    InTheClear,
    ThroughTls,
}

impl Stack {
    /// Both services are there, and do not run. None, made known, where it cannot be had.
    pub(crate) fn new(passwords: Passwords) -> Option<Self> {
        let postfix = require_or_skip("postfix", "apt-get install postfix")?;
        let dovecot = require_or_skip("dovecot", "apt-get install dovecot-core dovecot-imapd dovecot-pop3d")?;
        for server in ["imap", "pop3"] {
            require_or_skip(&format!("/usr/lib/dovecot/{server}"), "apt-get install dovecot-imapd dovecot-pop3d")?;
        }
        if !Uid::effective().is_root() {
            skip("needs root, which Postfix and Dovecot start as", "run the tests as root");
            return None;
        }
        let systemd = Systemd::start()?;
        let folder = systemd.folder();
        // Their processes run as accounts of their own, and have to get at what is theirs.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("it is the test's own");
        let (authority, stranger) = certificates(folder.path());
        let [smtp, smtps, pop3, pop3s, imap, imaps] = std::array::from_fn(|_| Port::reserve());
        write_postfix(folder.path(), smtp.number(), smtps.number());
        write_dovecot(folder.path(), passwords, [&pop3, &pop3s, &imap, &imaps].map(Port::number));
        let unit = |command: String| {
            format!(
                "[Unit]\nDescription=Mail\nDefaultDependencies=no\n[Service]\nExecStart={command}\nTimeoutStopSec=60\n"
            )
        };
        let command = format!("{} -c {} start-fg", postfix.display(), folder.join("postfix").display());
        systemd.unit(POSTFIX, &unit(command));
        let dovecot = unit(format!("{} -F -c {}", dovecot.display(), folder.join("dovecot.conf").display()));
        systemd.unit(DOVECOT, &dovecot);
        Some(Self { systemd, dovecot, smtp, smtps, pop3, pop3s, imap, imaps, authority, stranger })
    }

    /// What the kit may connect to.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let ports = [&self.smtp, &self.smtps, &self.pop3, &self.pop3s, &self.imap, &self.imaps];
        ports.map(|port| format!("{HOST}:{}", port.number())).to_vec()
    }

    /// The protocols in the clear.
    pub(crate) fn plain(&self) -> Value {
        json!({
            "smtp": { "host": HOST, "port": self.smtp.number() },
            "pop3": { "host": HOST, "port": self.pop3.number() },
            "imap": { "host": HOST, "port": self.imap.number() },
        })
    }

    /// Through TLS, of which the kit believes the authority in this secret.
    pub(crate) fn secured(&self, tls: &str, trust: &str) -> Value {
        let ports = if tls == "implicit" {
            [&self.smtps, &self.pop3s, &self.imaps]
        } else {
            [&self.smtp, &self.pop3, &self.imap]
        };
        let of = |port: &Port| json!({ "host": HOST, "port": port.number(), "tls": tls, "server-name": NAME, "trust": trust });
        json!({ "smtp": of(ports[0]), "pop3": of(ports[1]), "imap": of(ports[2]) })
    }

    /// IMAP on its usual port, or on that of IMAP over TLS.
    pub(crate) fn imap_at(&self, over_tls: bool) -> Value {
        let port = if over_tls { &self.imaps } else { &self.imap };
        json!({ "host": HOST, "port": port.number(), "server-name": NAME, "trust": "ca", "timeout": "2s" })
    }

    /// From now on Dovecot does not heed that it is to stop: the signal for it is one that it does not know.
    pub(crate) fn make_dovecot_stubborn(&self) {
        self.systemd.unit(DOVECOT, &format!("{}KillSignal=SIGWINCH\n", self.dovecot));
    }

    /// A signal to every process of this service.
    pub(crate) fn signal(&self, unit: &str, signal: Signal) {
        self.systemd.systemctl(&["kill", &format!("--signal={}", signal as i32), unit]);
    }

    /// A signal to its main process alone.
    pub(crate) fn signal_main(&self, unit: &str, signal: Signal) {
        kill(Pid::from_raw(self.systemd.main_pid(unit)), signal).expect("it runs");
    }

    /// Waits until systemd has noticed.
    pub(crate) fn wait_until_not_active(&self, unit: &str) {
        wait_until(WAIT_LIMIT, "the service to be down", || {
            let said = self.systemd.systemctl(&["show", "--property=ActiveState", "--value", unit]);
            ["inactive", "failed"].contains(&said.trim())
        });
    }
}

/// A server's certificate; its authority, and another one.
fn certificates(folder: &Path) -> (String, String) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        (pem, Issuer::new(params, key))
    };
    let (pem, issuer) = authority("the test's");
    let (stranger, _) = authority("a stranger");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    std::fs::write(folder.join("server.pem"), certificate).expect("the folder is there");
    std::fs::write(folder.join("server.key"), key.serialize_pem()).expect("the folder is there");
    (pem, stranger)
}

fn write_postfix(folder: &Path, smtp: u16, smtps: u16) {
    let config = folder.join("postfix");
    let (spool, data) = (folder.join("spool"), folder.join("postfix-data"));
    for made in [&config, &spool, &data] {
        std::fs::create_dir(made).expect("the folder is there");
    }
    let postfix = User::from_name("postfix").ok().flatten().expect("the package makes the account");
    chown(&data, Some(postfix.uid.as_raw()), Some(postfix.gid.as_raw())).expect("as root");
    let (folder, spool, data) = (folder.display(), spool.display(), data.display());
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {spool}\ndata_directory = {data}\ncommand_directory = /usr/sbin\n\
         daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\nmyhostname = {NAME}\n\
         mydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\n\
         maillog_file = {folder}/postfix.log\nmaillog_file_prefixes = {folder}\nalias_maps =\nalias_database =\n\
         smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {folder}/server.pem\nsmtpd_tls_key_file = {folder}/server.key\n"
    );
    let master = format!(
        "{HOST}:{smtp} inet n - n - - smtpd\n\
         {HOST}:{smtps} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n\
         pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\ntlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\nverify unix - - n - 1 verify\nflush unix n - n 1000? 0 flush\n\
         proxymap unix - - n - - proxymap\nproxywrite unix - - n - 1 proxymap\nsmtp unix - - n - - smtp\n\
         relay unix - - n - - smtp\nshowq unix n - n - - showq\nerror unix - - n - - error\nretry unix - - n - - error\n\
         discard unix - - n - - discard\nlocal unix - n n - - local\nvirtual unix - n n - - virtual\nlmtp unix - - n - - lmtp\n\
         anvil unix - - n - 1 anvil\nscache unix - - n - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n"
    );
    std::fs::write(config.join("main.cf"), main).expect("the folder is there");
    std::fs::write(config.join("master.cf"), master).expect("the folder is there");
}

fn write_dovecot(folder: &Path, passwords: Passwords, ports: [u16; 4]) {
    let mail = folder.join("mail");
    std::fs::create_dir(&mail).expect("the folder is there");
    chown(&mail, Some(NOBODY), Some(NOBODY)).expect("as root");
    let [pop3, pop3s, imap, imaps] = ports;
    let (ssl, plaintext) = match passwords {
        Passwords::InTheClear => ("yes", "no"),
        Passwords::ThroughTls => ("required", "yes"),
    };
    let shown = folder.display();
    let config = format!(
        "protocols = imap pop3\nbase_dir = {shown}/dv\nstate_dir = {shown}/dv\nlisten = {HOST}\nlog_path = {shown}/dovecot.log\n\
         ssl = {ssl}\nssl_cert = <{shown}/server.pem\nssl_key = <{shown}/server.key\ndisable_plaintext_auth = {plaintext}\n\
         auth_failure_delay = 0\nservice anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n\
         mail_location = maildir:{shown}/mail/%n\n\
         passdb {{\n  driver = passwd-file\n  args = scheme=plain username_format=%u {shown}/users\n}}\n\
         userdb {{\n  driver = static\n  args = uid={NOBODY} gid={NOBODY} home={shown}/mail/%n allow_all_users=yes\n}}\n\
         service imap-login {{\n  inet_listener imap {{\n    port = {imap}\n  }}\n  inet_listener imaps {{\n    port = {imaps}\n    ssl = yes\n  }}\n}}\n\
         service pop3-login {{\n  inet_listener pop3 {{\n    port = {pop3}\n  }}\n  inet_listener pop3s {{\n    port = {pop3s}\n    ssl = yes\n  }}\n}}\n"
    );
    std::fs::write(folder.join("dovecot.conf"), config).expect("the folder is there");
    std::fs::write(folder.join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}::::::\n")).expect("the folder is there");
}
