//! Two nodes with a mirrored volume between them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_test_e2e::node::put_kit;
use mainstay_test_e2e::{Cluster, Status};
use mainstay_test_support::{Etcd, Port, TempDir, require_or_skip, skip, wait_for};
use serde_json::Value;

/// Of the backings, in bytes, the label included.
pub(crate) const BACKING_BYTES: u64 = 96 << 20;
/// A first copy, a restore or a failover on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const NODES: [&str; 2] = ["a", "b"];

/// Nodes `a` and `b`, hierarchy `mail` with the volume `store`.
pub(crate) struct Pair {
    pub(crate) cluster: Cluster,
    folder: TempDir,
    _port: Port,
}

impl Pair {
    /// None: something is missing, and the test is skipped. `more` is added to the volume in the config; with `mounted`
    /// the hierarchy has the volume kit's resource on it, else only the null kit's.
    pub(crate) fn new(more: &str, mounted: bool) -> Option<Self> {
        Self::with("failover = \"confirm\"\n", "", more, mounted)
    }

    /// The same with an arbiter, whose permits last 5 s. Nobody who loses one is fenced: the power is what is pulled here.
    pub(crate) fn by_arbiter(etcd: &Etcd, more: &str) -> Option<Self> {
        let top = format!(
            "\n[arbiter]\netcd = {:?}\nlease = \"5s\"\nrenew-interval = \"1s\"\nrequest-timeout = \"500ms\"\n\
             tries = 2\n\n[self-fence]\nby = \"command\"\ncommand = [\"/bin/true\"]\n",
            etcd.endpoints()
        );
        Self::with("failover = \"arbiter\"\n", &top, more, true)
    }

    fn with(failover: &str, top: &str, more: &str, mounted: bool) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            skip("needs root", "run the tests as root");
            return None;
        }
        require_or_skip("nbdfuse", "apt-get install libnbd-bin")?;
        require_or_skip("mkfs.ext4", "apt-get install e2fsprogs")?;
        let cluster = Cluster::new(&NODES);
        let (folder, port) = (TempDir::new(), Port::reserve());
        let mut text = format!("{top}{}{failover}", cluster.hierarchy("mail"));
        text += &format!("[hierarchy.mail.volume.store]\naddress.b = \"127.0.0.1:{}\"\n{more}\n", port.number());
        for node in NODES {
            put_kit(&cluster.node(node).kits(), "volume");
            let backing = folder.join(format!("backing-{node}"));
            File::create(&backing).and_then(|file| file.set_len(BACKING_BYTES)).expect("there is room");
            text += &format!("backing.{node} = \"{}\"\n", backing.display());
        }
        if mounted {
            text += "[hierarchy.mail.resource.store]\nkit = \"volume\"\ncheck-interval = \"500ms\"\n\
                     standby-check-interval = \"1s\"\ngrants.volume = [\"store\"]\n";
            for node in NODES {
                let point = folder.folder(format!("mail-{node}"));
                text += &format!("params-on.{node} = {{ mount-point = \"{}\" }}\n", point.display());
            }
            let points: Vec<String> =
                NODES.map(|node| format!("\"{}\"", folder.join(format!("mail-{node}")).display())).into();
            text += &format!("params = {{ make-file-system = true }}\ngrants.mount = [{}]\n", points.join(", "));
        } else {
            text += "[hierarchy.mail.resource.idle]\nkit = \"null\"\n";
        }
        cluster.configure(&text);
        Some(Self { cluster, folder, _port: port })
    }

    /// Both nodes on, both copies made, `a` has the data.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        self.cluster.start_all();
        self.ask("a", &["create", "store", "--first"]);
        self.ask("b", &["create", "store"]);
    }

    /// `mainstay volume ...` on a node; what it says.
    #[track_caller]
    pub(crate) fn ask(&self, node: &str, args: &[&str]) -> String {
        self.cluster.node(node).mainstay(&[&["volume"], args].concat()).ok()
    }

    /// What a node's daemon says of the volume.
    #[track_caller]
    pub(crate) fn volume(&self, node: &str) -> Value {
        let text = self.ask(node, &["status", "store", "--json"]);
        let mut all: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
        all.pop().expect("there is one")
    }

    #[track_caller]
    pub(crate) fn wait_for_volume(&self, node: &str, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_for(LONG, &format!("the volume on {node}: {what}"), || {
            last = self.volume(node);
            is(&last).then(|| last.clone())
        })
    }

    /// Until the resource is in service on that node and both copies have everything.
    #[track_caller]
    pub(crate) fn wait_until_served_by(&self, node: &str) -> Status {
        wait_for(LONG, &format!("store to serve on {node}"), || {
            let status = self.cluster.node(node).status();
            (status.state("store", node) == "ISP").then_some(status)
        })
    }

    #[track_caller]
    pub(crate) fn wait_until_mirrored(&self, node: &str) {
        self.wait_for_volume(node, "connected", |volume| volume["status"]["link"] == "connected");
    }

    /// Until that node, too, knows that the other one could take it.
    #[track_caller]
    pub(crate) fn wait_until_ready(&self, other: &str, as_seen_by: &str) {
        wait_for(LONG, &format!("{other} to be ready, as {as_seen_by} sees it"), || {
            let status = self.cluster.node(as_seen_by).status();
            let nodes = status.hierarchy("mail")?["nodes"].as_array()?;
            let on = nodes.iter().find(|on| on["node"] == other)?;
            on["not_ready"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }

    pub(crate) fn point(&self, node: &str) -> PathBuf {
        self.folder.join(format!("mail-{node}"))
    }

    pub(crate) fn backing(&self, node: &str) -> PathBuf {
        self.folder.join(format!("backing-{node}"))
    }

    /// Writes a file there, and returns when it is durable.
    #[track_caller]
    pub(crate) fn put(&self, node: &str, name: &str, text: &[u8]) {
        let mut file = File::create(self.point(node).join(name)).expect("it can be made");
        file.write_all(text).and_then(|()| file.sync_all()).expect("it can be written");
    }

    /// What is in a file there; none: there is no such file.
    #[track_caller]
    pub(crate) fn get(&self, node: &str, name: &str) -> Option<Vec<u8>> {
        match fs::read(self.point(node).join(name)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{name} on {node}: {error}"),
        }
    }

    /// The data of both copies, without the labels, is the same.
    #[track_caller]
    pub(crate) fn copies_are_the_same(&self) {
        let [a, b] = NODES.map(|node| fs::read(self.backing(node)).expect("it can be read"));
        let data = a.len() - 8192;
        let different =
            (0..data).step_by(65536).find(|at| a[*at..(*at + 65536).min(data)] != b[*at..(*at + 65536).min(data)]);
        assert_eq!(different, None, "the first region that differs");
    }

    /// The power cord: everything of the node is gone, and so is what its kernel had mounted.
    #[track_caller]
    pub(crate) fn power_off(&mut self, node: &str) {
        let (state, point) = (self.cluster.node(node).state(), self.point(node));
        // The machine is gone before anything of it says so.
        self.cluster.power_off(node);
        forget_mounts(&state, &point);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for node in NODES {
            let (state, point) = (self.cluster.node(node).state(), self.point(node));
            self.cluster.end(node);
            forget_mounts(&state, &point);
        }
    }
}

/// What a kernel that has lost its power has mounted: nothing.
fn forget_mounts(state: &Path, point: &Path) {
    let device = state.join("volumes/store/device");
    let loops = fs::read_dir("/sys/block").into_iter().flatten().flatten().filter_map(|entry| {
        let shown = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        shown.starts_with(&*device.to_string_lossy()).then(|| Path::new("/dev").join(entry.file_name()))
    });
    let loops: Vec<PathBuf> = loops.collect();
    // Each may be gone already.
    let run = |program: &str, args: &[&Path]| drop(Command::new(program).args(args).output());
    run("umount", &[Path::new("--lazy"), point]);
    for device in &loops {
        run("losetup", &[Path::new("--detach"), device]);
    }
    run("umount", &[Path::new("--lazy"), &device]);
}
