//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mainstay_node::certificates::make::{AUTHORITY_DAYS, DAYS_MAX, NODE_DAYS};

/// Keeps applications in service.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// The node's state directory: the daemon's files, and the way to it.
    #[arg(long, global = true, value_name = "DIR", env = "MAINSTAY_STATE", default_value = "/var/lib/mainstay")]
    pub(crate) state: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon of a node.
    Run(Run),
    /// Show every resource on every node, with its state and the reason.
    Status(Status),
    /// Bring a hierarchy in service, or a resource with all it depends on.
    InService(InService),
    /// Take a hierarchy out of service, or a resource with all that depends on it.
    OutOfService(OutOfService),
    /// Move a hierarchy to another node.
    Switchover(Switchover),
    /// State that a silent owner is off, so that its hierarchy is brought in service here.
    Confirm(Confirm),
    /// Go on checking a hierarchy, and do nothing about it: no repair, no move, no takeover.
    Maintenance(Maintenance),
    /// Have nothing in service on a node: what is there moves away, and nothing comes.
    Drain(Drain),
    /// Show what happens.
    Events(Events),
    /// Say why a resource is in its state on this node, and what comes next.
    Explain(Explain),
    /// Play through what would happen, with the nodes' own code: the steps, and why.
    Plan(Plan),
    /// Look at a config.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make what the nodes of a cluster know each other by.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Make what a node shows the others.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Look at this node's copies of mirrored volumes, and say what is to be done with them.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Look at kits, and run them by hand.
    #[command(subcommand)]
    Kit(KitCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The config, the same on every node.
    #[arg(long, value_name = "FILE", default_value = "/etc/mainstay/mainstay.toml")]
    pub(crate) config: PathBuf,
    /// Which of the config's nodes this is [default: the one with the machine's name].
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// What is logged: error, warn, info, debug, or a filter such as info,mainstay::audit=warn.
    #[arg(long, value_name = "FILTER", env = "MAINSTAY_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Everything there is, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every second.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Whether a command waits until what was asked for is done.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Waiting {
    /// Return as soon as the request is accepted.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait at most this long until it is done.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct InService {
    /// A hierarchy's name or a resource's tag.
    pub(crate) target: String,
    /// State that no other node has it in service, and claim it whatever they say.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

impl InService {
    /// Of this, without force.
    pub(crate) fn of(target: &str, waiting: Waiting) -> Self {
        Self { target: target.to_owned(), force: false, waiting }
    }
}

#[derive(Debug, Args)]
pub(crate) struct OutOfService {
    /// A hierarchy's name or a resource's tag.
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Switchover {
    /// The hierarchy.
    pub(crate) hierarchy: String,
    /// The node it moves to.
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// The hierarchy whose owner is silent, or the alarm about it.
    pub(crate) target: String,
    /// Do not ask: the alarm was read, and its owner is off.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(crate) struct Maintenance {
    /// The hierarchy.
    pub(crate) hierarchy: String,
    /// Whether it begins or ends.
    pub(crate) switch: Switch,
}

/// Begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It begins.
    On,
    /// It ends.
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The node.
    pub(crate) node: String,
    /// Let hierarchies be in service there again.
    #[arg(long)]
    pub(crate) end: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on showing what happens.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Only what came after the event of this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// "node NAME dies", "path NAME breaks" or "TAG fails".
    #[arg(long, value_name = "WHAT", required_unless_present = "save")]
    pub(crate) what_if: Option<String>,
    /// Play it through with what this file knows, made by --save, and no daemon.
    #[arg(long, value_name = "FILE", conflicts_with = "save")]
    pub(crate) state_file: Option<PathBuf>,
    /// Write what the daemon knows of the cluster to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "what_if")]
    pub(crate) save: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The resource's tag.
    pub(crate) tag: String,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Tell everything that is wrong with a config, against the kits and this machine.
    Check(ConfigCheck),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    /// The config.
    #[arg(default_value = "/etc/mainstay/mainstay.toml")]
    pub(crate) file: PathBuf,
    /// Check only what concerns this node [default: params of all nodes].
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the cluster's authority: what signs the certificates of its nodes.
    Init(ClusterInit),
}

#[derive(Debug, Args)]
pub(crate) struct ClusterInit {
    /// Where its certificate and key are put: a directory that is kept safe, and is on no node.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The cluster's name, as the config has it.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
    /// For how long it counts.
    #[arg(long, value_name = "NUMBER", default_value_t = AUTHORITY_DAYS, value_parser = days())]
    pub(crate) days: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make a node's certificate and key, for a new node or before the ones it has expire.
    Add(NodeAdd),
}

#[derive(Debug, Args)]
pub(crate) struct NodeAdd {
    /// The node's name, as the config has it.
    pub(crate) name: String,
    /// Where `mainstay cluster init` has put the authority.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where the node's files are put [default: a folder of its name, where the authority is].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// For how long it counts; never longer than the authority.
    #[arg(long, value_name = "NUMBER", default_value_t = NODE_DAYS, value_parser = days())]
    pub(crate) days: u32,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX))
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Show how a volume is: what its copy is worth, and how it stands with the other one.
    Status(VolumeStatus),
    /// Make this node's copy of a volume that the config describes.
    Create(VolumeCreate),
    /// Wait until both copies have everything, with a progress bar.
    Wait(VolumeWait),
    /// Go on without the other copy until resume, also over restarts.
    Pause(VolumeNamed),
    /// Meet the other copy again.
    Resume(VolumeNamed),
    /// Compare both copies, region by region.
    Verify(VolumeNamed),
    /// Do not believe this node's copy any more: all of it is copied again.
    Invalidate(VolumeNamed),
    /// After a split brain: name the node whose data survives. Shows first what is given up.
    Resolve(VolumeResolve),
    /// Bring it in service with this node's copy, although it may not have everything. Shows first what may be lost.
    Promote(VolumePromote),
    /// Be the process of a volume: the daemon starts it.
    #[command(hide = true)]
    Serve {
        /// Written by the daemon.
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VolumeNamed {
    /// The volume.
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeStatus {
    /// One volume [default: all of this node].
    pub(crate) name: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCreate {
    /// The volume.
    pub(crate) name: String,
    /// What is on this node's backing is the volume's data; the other copy is made like it.
    #[arg(long)]
    pub(crate) first: bool,
    /// What is on this node's backing may be lost.
    #[arg(long, conflicts_with = "first")]
    pub(crate) overwrite: bool,
    /// The size of the volume, in bytes, the same on both nodes [default: all that there is room for].
    #[arg(long, value_name = "BYTES")]
    pub(crate) size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeWait {
    /// The volume.
    pub(crate) name: String,
    /// At most this long.
    #[arg(long, value_name = "TIME", default_value = "7days", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeResolve {
    /// The volume.
    pub(crate) name: String,
    /// The node whose data survives.
    #[arg(long, value_name = "NODE")]
    pub(crate) survivor: String,
    /// Do not ask: what is given up was read.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolumePromote {
    /// The volume.
    pub(crate) name: String,
    /// Also a copy that is outdated or inconsistent.
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask: what may be lost was read.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only allow it to the next restore, and do not bring it in service now.
    #[arg(long)]
    pub(crate) no_restore: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KitCommand {
    /// List kits: those the daemon has loaded, or those in a directory.
    List(KitList),
    /// Show what a kit is and needs, and what is wrong with it, without running it.
    Inspect(KitInspect),
    /// Call one of a kit's operations by hand.
    Run(Box<KitRun>),
}

#[derive(Debug, Args)]
pub(crate) struct KitList {
    /// A directory with .wasm files; it is read without the daemon.
    pub(crate) directory: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KitInspect {
    /// The kit.
    pub(crate) file: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KitOperation {
    Restore,
    Remove,
    QuickCheck,
    DeepCheck,
    Recover,
    Assess,
}

#[derive(Debug, Args)]
pub(crate) struct KitRun {
    /// The kit.
    pub(crate) file: PathBuf,
    /// What it is asked.
    pub(crate) operation: KitOperation,
    /// One of its params: a name, or a path such as key.name, and a value, read as JSON if it is JSON.
    #[arg(long = "param", value_name = "KEY=VALUE")]
    pub(crate) param: Vec<String>,
    /// All its params, as a JSON object; --param goes over it.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) params: String,
    /// The resource's tag.
    #[arg(long, value_name = "TAG", default_value = "by-hand")]
    pub(crate) tag: String,
    /// The node's name.
    #[arg(long, value_name = "NAME", default_value = "by-hand")]
    pub(crate) node: String,
    /// A program it may run: PATH, or PATH:USER.
    #[arg(long, value_name = "PATH[:USER]")]
    pub(crate) grant_command: Vec<String>,
    /// A place in the network it may connect to.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) grant_net: Vec<String>,
    /// A secret it may read.
    #[arg(long, value_name = "NAME")]
    pub(crate) grant_secret: Vec<String>,
    /// A volume it may use; it is told that there is none, because no daemon is asked.
    #[arg(long, value_name = "NAME")]
    pub(crate) grant_volume: Vec<String>,
    /// A mount point it may use, with the device if it is not for a volume.
    #[arg(long, value_name = "POINT[:DEVICE]")]
    pub(crate) grant_mount: Vec<String>,
    /// A service of the system it may use.
    #[arg(long, value_name = "NAME")]
    pub(crate) grant_service: Vec<String>,
    /// The directory of secrets.
    #[arg(long, value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// Where its small values are kept [default: nowhere, they are gone afterwards].
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// What the call may take.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    pub(crate) budget: Duration,
    /// What is logged to standard error: a level or a filter; the kit's own lines have the target mainstay::kit.
    #[arg(long, value_name = "FILTER", env = "MAINSTAY_LOG", default_value = "warn,mainstay::kit=info")]
    pub(crate) log: String,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
