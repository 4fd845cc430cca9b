//! A real Active Directory: Samba as a domain controller, with the part of the Exchange schema that says where recipients
//! have their home, two Exchange servers and their recipients.
//!
//! It is provisioned once in a test run, in a folder; each test starts a copy of that, in a network namespace of its own
//! where it has the usual ports on loopback. The namespace has no name and is gone with the process that holds it. What the
//! kit did is seen by `ldapsearch`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use mainstay_test_e2e::cli;
use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, require_or_skip, skip, wait_until};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

pub(crate) const BASE: &str = "DC=corp,DC=test";
/// In the certificate.
pub(crate) const SERVER_NAME: &str = "dc1.corp.test";
/// The account that the kit asks with: it may write what a recipient's home is, and nothing else.
pub(crate) const USER: &str = "mainstay@corp.test";
pub(crate) const PASSWORD: &str = "Correct-Horse-7";
/// Recipients of EX01.
pub(crate) const RECIPIENT_COUNT: usize = 1_000;
/// The one that nobody may change.
pub(crate) const REFUSING: &str = "CN=User 7,OU=People,DC=corp,DC=test";
const ADMINISTRATOR_PASSWORD: &str = "Passw0rd-of-the-tests";
const SERVERS: &str = "CN=Servers,CN=Group,CN=Administrative Groups,CN=Corp,CN=Microsoft Exchange,CN=Services,CN=Configuration,DC=corp,DC=test";
/// Provisioning takes nine seconds on an idle machine, and a thousand recipients as long again.
const PREPARE_LIMIT: Duration = Duration::from_secs(400);
/// Where Debian has what a domain controller is made of; the programs come with other packages.
const PROVISION: &str = "/usr/share/samba/setup/ad-schema";

/// A domain controller.
pub(crate) struct Samba {
    dc: RefCell<Option<Guard>>,
    /// Keeps the namespace; ends after what runs in there.
    holder: Guard,
    folder: TempDir,
}

impl Samba {
    /// Starts one, with 1,000 recipients of EX01; none when something that it takes is not there, and then the test is skipped.
    #[must_use]
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        let prepared = prepared()?;
        let folder = TempDir::new();
        let copied = Command::new("cp").arg("-a").arg("--").arg(prepared.join("dc")).arg(folder.path()).status();
        assert!(copied.expect("cp").success());
        let config = configuration(folder.path());
        fs::write(folder.join("dc/etc/smb.conf"), config).expect("the copy is ours");
        certify(folder.path());
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]);
        let mut holder = Guard::start("the namespace", &mut holder).unwrap_or_else(|error| panic!("{error}"));
        holder.wait_for_line(WAIT_LIMIT, "up");
        let it = Self { dc: RefCell::default(), holder, folder };
        it.power_on();
        Some(it)
    }

    /// Starts its process, and waits until it answers.
    pub(crate) fn power_on(&self) {
        // It writes over its arguments and its environment, by which a guard knows what is its own: so it lives and dies
        // with a process that does not.
        let mut samba = self.inside("unshare");
        samba.args(["--pid", "--fork", "--kill-child", "samba"]);
        samba.args(["--interactive", "--no-process-group", "--model=single", "-s"]);
        samba.arg(self.folder.join("dc/etc/smb.conf"));
        let guard = Guard::start("samba", &mut samba).unwrap_or_else(|error| panic!("{error}"));
        *self.dc.borrow_mut() = Some(guard);
        wait_until(WAIT_LIMIT, "Samba to answer", || {
            let mut root = self.inside("ldapsearch");
            root.args(["-x", "-LLL", "-H", "ldap://127.0.0.1", "-s", "base", "-b", "", "defaultNamingContext"]);
            cli::run(&mut root).out.contains(BASE)
        });
    }

    /// Kills its process, without a word.
    pub(crate) fn kill(&self) {
        *self.dc.borrow_mut() = None;
    }

    /// A command in its namespace.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.pid())).arg("--").arg(program);
        command
    }

    /// The file of the authority that its certificate is of.
    pub(crate) fn authority(&self) -> std::path::PathBuf {
        self.folder.join("ca.pem")
    }

    /// Keeps the kit's account from changing an object, whatever it may do elsewhere.
    pub(crate) fn deny(&self, dn: &str) {
        let dc = self.folder.join("dc");
        set_rights(&dc, dn, &format!("(D;;WP;;;{})", account_sid(&dc)));
    }

    /// How many recipients have their home at a server, by all three attributes.
    pub(crate) fn homed_at(&self, server: &str) -> usize {
        let filter = format!(
            "(&(homeMDB={})(homeMTA=CN=Microsoft MTA,{})(msExchHomeServerName={}))",
            store_dn(server).replace('(', "\\28").replace(')', "\\29"),
            server_dn(server),
            legacy_dn(server)
        );
        let found = self.search(&filter, "dn");
        found.lines().filter(|line| line.starts_with("dn: ")).count()
    }

    /// What `ldapsearch` shows of an attribute, as the administrator sees it.
    fn search(&self, filter: &str, attribute: &str) -> String {
        let mut search = self.inside("ldapsearch");
        search.args(["-x", "-LLL", "-o", "ldif-wrap=no", "-E", "pr=500/noprompt", "-H", "ldaps://127.0.0.1"]);
        search.args(["-D", "Administrator@corp.test", "-w", ADMINISTRATOR_PASSWORD, "-b", BASE, filter, attribute]);
        search.env("LDAPTLS_REQCERT", "never");
        let said = cli::run(&mut search);
        assert_eq!(said.code, Some(0), "{said:#?}");
        said.out
    }
}

pub(crate) fn server_dn(name: &str) -> String {
    format!("CN={name},{SERVERS}")
}

fn store_dn(server: &str) -> String {
    format!("CN=Mailbox Store (all),CN=First Storage Group,CN=InformationStore,{}", server_dn(server))
}

fn legacy_dn(server: &str) -> String {
    format!("/o=Corp/ou=Group/cn=Configuration/cn=Servers/cn={server}")
}

/// The folder that copies are made of.
#[track_caller]
fn prepared() -> Option<&'static Path> {
    static PREPARED: LazyLock<TempDir> = LazyLock::new(prepare);
    if !nix::unistd::geteuid().is_root() {
        skip("needs to make a network namespace", "run it as root");
        return None;
    }
    for (program, package) in [
        ("samba", "samba"),
        ("samba-tool", "samba-common-bin"),
        ("ldbmodify", "ldb-tools"),
        ("ldapsearch", "ldap-utils"),
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
    ] {
        require_or_skip(program, &format!("apt-get install {package}"))?;
    }
    if !Path::new(PROVISION).is_dir() {
        skip("needs what a domain controller is made of", "apt-get install samba-ad-provision");
        return None;
    }
    Some(PREPARED.path())
}

fn prepare() -> TempDir {
    let folder = TempDir::new();
    let dc = folder.join("dc");
    let database = dc.join("private/sam.ldb");
    let run = |command: &mut Command| {
        let guard = Guard::start("samba's tools", command);
        let mut guard = guard.unwrap_or_else(|error| panic!("{error}"));
        let status = guard.wait(PREPARE_LIMIT);
        assert!(status.is_some_and(|status| status.success()), "{command:?}: {status:?}: {}", guard.output());
    };
    let mut provision = Command::new("samba-tool");
    provision.args(["domain", "provision", "--realm=CORP.TEST", "--domain=CORP", "--server-role=dc"]);
    provision.args(["--dns-backend=NONE", "--host-name=dc1", "--host-ip=127.0.0.1", "--option=ldb:nosync=true"]);
    provision.arg(format!("--adminpass={ADMINISTRATOR_PASSWORD}")).arg(format!("--targetdir={}", dc.display()));
    run(&mut provision);
    fs::write(dc.join("etc/smb.conf"), configuration(folder.path())).expect("it was just made");
    let config = format!("--configfile={}", dc.join("etc/smb.conf").display());
    let change = |text: &str| {
        let file = folder.write("change.ldif", text);
        run(Command::new("ldbmodify").args(["--nosync", "-H"]).arg(&database).arg(&config).arg(file));
    };
    // Each of them sees the schema as the one before it left it.
    change(include_str!("schema.ldif"));
    change(include_str!("classes.ldif"));
    change(
        "dn: CN=User,CN=Schema,CN=Configuration,DC=corp,DC=test\nchangetype: modify\n\
         add: auxiliaryClass\nauxiliaryClass: msExchMailRecipient\n-\n",
    );
    change(&servers());
    change(&recipients());
    let mut account = Command::new("samba-tool");
    account.args(["user", "create", "mainstay", PASSWORD]);
    run(account.arg("-H").arg(&database).arg(&config));
    // As Exchange's own setup does: every account may read its configuration.
    let organisation = "CN=Microsoft Exchange,CN=Services,CN=Configuration,DC=corp,DC=test";
    set_rights(&dc, organisation, "(A;CI;RPLCLORC;;;AU)");
    set_rights(&dc, "OU=People,DC=corp,DC=test", &format!("(A;CI;WP;;;{})", account_sid(&dc)));
    folder
}

/// The kit's account.
fn account_sid(dc: &Path) -> String {
    let mut search = Command::new("ldbsearch");
    search.arg("-H").arg(dc.join("private/sam.ldb")).args(["(sAMAccountName=mainstay)", "objectSid"]);
    let said = cli::run(&mut search);
    let sid = said.out.lines().find_map(|line| line.strip_prefix("objectSid: "));
    sid.unwrap_or_else(|| panic!("{said:#?}")).to_owned()
}

/// Adds to who may do what with an object.
fn set_rights(dc: &Path, dn: &str, entry: &str) {
    let mut tool = Command::new("samba-tool");
    tool.args(["dsacl", "set", "--objectdn", dn, &format!("--sddl={entry}")]);
    tool.arg("-H").arg(dc.join("private/sam.ldb")).arg("--configfile").arg(dc.join("etc/smb.conf"));
    let said = cli::run(&mut tool);
    assert_eq!(said.code, Some(0), "{said:#?}");
}

/// The settings, for a domain controller in a folder.
fn configuration(folder: &Path) -> String {
    let dc = folder.join("dc");
    let mut text = "[global]\n".to_owned();
    for (name, value) in [
        ("netbios name", "DC1"),
        ("realm", "CORP.TEST"),
        ("workgroup", "CORP"),
        ("server role", "active directory domain controller"),
        ("server services", "ldap"),
        ("interfaces", "lo"),
        ("bind interfaces only", "yes"),
        ("dsdb:schema update allowed", "yes"),
        ("log level", "1"),
        // Nobody cuts the power of this machine, and what a killed process wrote is there.
        ("ldb:nosync", "true"),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {value}");
    }
    for (name, place) in [
        ("private dir", "private"),
        ("state directory", "state"),
        ("cache directory", "cache"),
        ("lock directory", "."),
        ("pid directory", "run"),
        ("ncalrpc dir", "run/ncalrpc"),
        ("winbindd socket directory", "run/winbindd"),
        ("ntp signd socket directory", "run/ntp_signd"),
        ("binddns dir", "bind-dns"),
        ("tls keyfile", "../dc.key"),
        ("tls certfile", "../dc.pem"),
        ("tls cafile", "../ca.pem"),
    ] {
        let _ = writeln!(text, "{name} = {}", dc.join(place).display());
    }
    text
}

/// Gives it a certificate, of an authority of its own.
fn certify(folder: &Path) {
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    fs::write(folder.join("ca.pem"), ca.self_signed(&key).expect("a certificate").pem()).expect("our folder");
    let issuer = Issuer::new(ca, key);
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    fs::write(folder.join("dc.pem"), certificate.pem()).expect("our folder");
    fs::write(folder.join("dc.key"), key.serialize_pem()).expect("our folder");
    // Samba takes no key that others may read.
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(folder.join("dc.key"), private).expect("it was just written");
}

/// EX01 and EX02, alike.
fn servers() -> String {
    let mut text = String::new();
    let mut add = |dn: &str, class: &str, more: &str| {
        let _ = writeln!(text, "dn: {dn}\nchangetype: add\nobjectClass: {class}\n{more}");
    };
    let containers: Vec<&str> = SERVERS.split(',').collect();
    let depth = containers.iter().position(|part| *part == "CN=Services").expect("it is there");
    for at in (0..depth).rev() {
        add(&containers[at..].join(","), "container", "");
    }
    for name in ["EX01", "EX02"] {
        let server = server_dn(name);
        let more = format!(
            "serialNumber: Version 6.5 (Build 7638.2: Service Pack 2)\nlegacyExchangeDN: {}\n",
            legacy_dn(name)
        );
        add(&server, "msExchExchangeServer", &more);
        add(&format!("CN=Microsoft MTA,{server}"), "mTA", "");
        let store = store_dn(name);
        let parents: Vec<&str> = store.splitn(3, ',').collect();
        add(parents[2], "container", "");
        add(&parents[1..].join(","), "container", "");
        add(&store, "msExchPrivateMDB", "");
    }
    text
}

/// The recipients of EX01.
fn recipients() -> String {
    let mut text = "dn: OU=People,DC=corp,DC=test\nchangetype: add\nobjectClass: organizationalUnit\n\n".to_owned();
    for n in 0..RECIPIENT_COUNT {
        let _ = writeln!(
            text,
            "dn: CN=User {n},OU=People,{BASE}\nchangetype: add\nobjectClass: user\nsAMAccountName: user{n}\nhomeMDB: {}\n\
             homeMTA: CN=Microsoft MTA,{}\nmsExchHomeServerName: {}\n",
            store_dn("EX01"),
            server_dn("EX01"),
            legacy_dn("EX01")
        );
    }
    text
}
