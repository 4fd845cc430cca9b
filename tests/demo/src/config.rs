//! The config of the demo's cluster, as an operator would write it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::name_server::{KEY_NAME, ZONE};
use crate::node::Node;
use crate::programs::Programs;
use crate::trouble::Trouble;

/// The cluster.
pub(crate) const CLUSTER: &str = "demo";
/// The hierarchy.
pub(crate) const HIERARCHY: &str = "web";
/// The application's resource.
pub(crate) const SHOP: &str = "shop";
/// The name's resource.
pub(crate) const NAME: &str = "name";
/// The label of the name in the zone.
pub(crate) const LABEL: &str = "shop";
/// The comm path.
pub(crate) const PATH: &str = "lan";
/// The secret that holds the key.
pub(crate) const SECRET: &str = "dns-key";

/// The directory of certificates, as seen from where the config is.
pub(crate) const CERTIFICATES: &str = "tls";

/// What the config is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// The directory of kits.
    pub(crate) kits: &'a Path,
    /// The directory of secrets.
    pub(crate) secrets: &'a Path,
    /// The nodes, in order of priority.
    pub(crate) nodes: &'a [Node],
    /// Where the name server is.
    pub(crate) name_server: SocketAddr,
    /// What starts and stops the shop.
    pub(crate) programs: &'a Programs,
}

/// The text of it.
pub(crate) fn text(parts: Parts<'_>) -> Result<String, Trouble> {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        r#"# The cluster of the demo; each node has a copy of this file.
cluster = "{CLUSTER}"
kits = {kits}
secrets = {secrets}
certificates = "{CERTIFICATES}"                       # beside this file, on each node its own

[path.{PATH}]
heartbeat-interval = "200ms"
dead-after-misses = 5
"#,
        kits = quoted(parts.kits)?,
        secrets = quoted(parts.secrets)?,
    );
    for node in parts.nodes {
        let _ = write!(
            out,
            r#"
[node.{name}]
address.{PATH} = "{link}"      # a relay of the demo's, which can fall silent as a cable that is pulled
listen.{PATH} = "127.0.0.1:0"              # where it leads: any free port
"#,
            name = node.name(),
            link = node.link(),
        );
    }
    let names: Vec<String> = parts.nodes.iter().map(|node| format!("\"{}\"", node.name())).collect();
    let _ = write!(
        out,
        r#"
[hierarchy.{HIERARCHY}]
nodes = [{names}]
failover = "confirm"
# By default two failovers in an hour are enough. The demo has two, and whoever plays with it wants more.
failover-limit = {{ max = 100, window = "1h" }}

[hierarchy.{HIERARCHY}.resource.{NAME}]
kit = "dns"
check-interval = "1s"
grants.net = ["{server}"]
grants.secret = ["{SECRET}"]

[hierarchy.{HIERARCHY}.resource.{NAME}.params]
zone = "{ZONE}"
servers = ["{server}"]
key = {{ name = "{KEY_NAME}", algorithm = "hmac-sha256", secret = "{SECRET}" }}
ttl = "1s"                                  # clients are to ask again soon
records = {{ {LABEL} = {{ type = "A" }} }}

[hierarchy.{HIERARCHY}.resource.{NAME}.params-on]
"#,
        names = names.join(", "),
        server = parts.name_server,
    );
    for node in parts.nodes {
        let _ =
            writeln!(out, r#"{} = {{ records = {{ {LABEL} = {{ values = ["{}"] }} }} }}"#, node.name(), node.address());
    }
    let _ = write!(
        out,
        r#"
[hierarchy.{HIERARCHY}.resource.{SHOP}]
kit = "genapp"
depends-on = ["{NAME}"]
check-interval = "500ms"
grants.command = [{restore}, {remove}, {quick_check}, {recover}]

[hierarchy.{HIERARCHY}.resource.{SHOP}.params]
restore = {restore}
remove = {remove}
quick-check = {quick_check}
recover = {recover}

[hierarchy.{HIERARCHY}.resource.{SHOP}.params-on]
"#,
        restore = quoted(&parts.programs.restore)?,
        remove = quoted(&parts.programs.remove)?,
        quick_check = quoted(&parts.programs.quick_check)?,
        recover = quoted(&parts.programs.recover)?,
    );
    for node in parts.nodes {
        let _ = writeln!(out, r#"{name} = {{ id = "{name}" }}"#, name = node.name());
    }
    Ok(out)
}

/// As a string of TOML: JSON's are, but for one character that TOML wants escaped too.
fn quoted(path: &Path) -> Result<String, Trouble> {
    let text = path.to_str().ok_or_else(|| Trouble::NotUtf8(path.to_owned()))?;
    Ok(serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_quoted() {
        assert_eq!(quoted(Path::new("/a b/\"c\"\\d")).unwrap(), r#""/a b/\"c\"\\d""#);
        assert_eq!(quoted(Path::new("/\u{7f}\u{1}ä")).unwrap(), "\"/\\u007f\\u0001ä\"");
        let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"/\xff");
        assert!(quoted(Path::new(odd)).is_err());
    }
}
