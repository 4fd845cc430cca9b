//! The mirrored volumes of this node: a process for each, what it is told by the core, and what kits and operators ask.
//!
//! A volume's process outlives the daemon, as what it serves does. [`keeper`] finds it or starts it, and tells it what the
//! core says of its right to write; [`attach`] makes a block device of it; [`words`] turns the core's words into the
//! process's and back. Nothing is decided here but when a process is started again.
//!
//! ```text
//! volumes/NAME/config.json   what its process was told
//! volumes/NAME/control       the process's control socket
//! volumes/NAME/nbd           where it serves
//! volumes/NAME/log           its intent log, unless the config names another place
//! volumes/NAME/process.log   what the process has to say
//! volumes/NAME/device/       where it is attached from
//! ```

mod attach;
mod keeper;
mod kernel_nbd;
mod place;
pub mod view;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_core::names::{HierarchyName, NodeName, VolumeName};
use mainstay_core::spec::Spec;
use mainstay_core::volume::ToVolume;
use mainstay_runtime::{VolumeAnswer, VolumeStatus, VolumeTrouble};
use tokio::sync::{mpsc, oneshot};

use crate::certificates::Store;
use crate::clock::Clock;
use crate::happening::Happening;
use keeper::{Keeper, Shown};
use place::Place;
use view::VolumeView;

/// So many orders wait for a volume's keeper, at the most; who finds no room waits.
const ORDERS_MAX: usize = 64;

/// What is executed to be a volume's process; `volume`, `serve` and its config are appended.
#[derive(Clone, Debug)]
pub struct VolumeExe(PathBuf);

impl VolumeExe {
    /// The running binary, also after its file was replaced by an upgrade.
    #[must_use]
    pub fn own() -> Self {
        Self("/proc/self/exe".into())
    }

    /// Another file of the same binary: for who drives a volume without being `mainstay`.
    pub fn binary(program: impl Into<PathBuf>) -> Self {
        Self(program.into())
    }
}

/// What an operator may have done with a volume.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VolumeRequest {
    /// Make this node's copy.
    #[serde(rename_all = "kebab-case")]
    Create {
        /// What is on the backing is the volume's data.
        #[serde(default)]
        first: bool,
        /// What is on it may be lost.
        #[serde(default)]
        overwrite: bool,
        /// Bytes; none: all that there is room for.
        #[serde(default)]
        size_bytes: Option<u64>,
    },
    /// Go on without the other copy.
    Pause,
    /// Meet it again.
    Resume,
    /// Compare both copies.
    Verify,
    /// Do not believe this node's copy any more: copy all of it again.
    Invalidate,
    /// After a split brain: the data of this node survives.
    Resolve(NodeName),
    /// The next restore may promote this node's copy on the operator's word, or by force.
    Allow {
        /// What may be lost was read.
        force: bool,
    },
}

/// What a keeper is told or asked.
#[derive(Debug)]
enum Order {
    Promote(oneshot::Sender<Result<(), VolumeTrouble>>),
    Demote(oneshot::Sender<Result<(), VolumeTrouble>>),
    Request(VolumeRequest, oneshot::Sender<Result<String, String>>),
}

#[derive(Debug)]
struct Handle {
    orders: mpsc::Sender<Order>,
    /// What the core has said is never held up.
    told: mpsc::UnboundedSender<ToVolume>,
    shown: Shown,
    attachment: attach::Attachment,
}

/// The volumes of this node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Volumes(Arc<BTreeMap<VolumeName, Handle>>);

impl Volumes {
    /// Finds or starts the process of every volume that this node has a copy of, and sees to it from now on.
    ///
    /// # Errors
    /// When there is no room for what a volume needs in the state directory.
    pub fn start(
        spec: &Spec,
        me: &NodeName,
        state: &Path,
        exe: &VolumeExe,
        certificates: Option<&Store>,
        clock: Clock,
        happenings: &mpsc::Sender<Happening>,
    ) -> anyhow::Result<Self> {
        let mut volumes = BTreeMap::new();
        for (hierarchy, name, volume) in of_node(spec, me) {
            let place = Place::new(state, spec, hierarchy, name, volume, me, certificates)?;
            let (orders, queue) = mpsc::channel(ORDERS_MAX);
            let (told, tells) = mpsc::unbounded_channel();
            let shown = Shown::default();
            let attachment = attach::Attachment::new(&place);
            let keeper = Keeper::new(place, exe.clone(), clock, shown.clone(), happenings.clone());
            tokio::spawn(keeper.run(queue, tells));
            volumes.insert(name.clone(), Handle { orders, told, shown, attachment });
        }
        Ok(Self(Arc::new(volumes)))
    }

    /// The core says something.
    pub fn tell(&self, name: &VolumeName, what: ToVolume) {
        if let Some(volume) = self.0.get(name) {
            // Without a keeper the daemon ends.
            let _ = volume.told.send(what);
        }
    }

    /// Everything that is known of all of them.
    #[must_use]
    pub fn view(&self) -> Vec<VolumeView> {
        self.0.values().filter_map(|volume| volume.shown.view(volume.attachment.known())).collect()
    }

    /// An operator asks; what was done, or why not. None: there is no such volume on this node.
    pub async fn request(&self, name: &VolumeName, request: VolumeRequest) -> Option<Result<String, String>> {
        let volume = self.0.get(name)?;
        let (reply, answer) = oneshot::channel();
        let asked = async {
            volume.orders.send(Order::Request(request, reply)).await.ok()?;
            answer.await.ok()
        };
        Some(asked.await.unwrap_or_else(|| Err("the daemon is just stopping".to_owned())))
    }

    fn get(&self, name: &str) -> Result<&Handle, VolumeTrouble> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(VolumeName::as_str).collect();
            let known =
                if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            VolumeTrouble::NoSuchVolume(format!("this node has no volume `{name}`; {known}"))
        })
    }

    async fn order(
        &self,
        name: &str,
        order: impl FnOnce(oneshot::Sender<Result<(), VolumeTrouble>>) -> Order,
    ) -> Result<(), VolumeTrouble> {
        let volume = self.get(name)?;
        let (reply, answer) = oneshot::channel();
        let stopping = || VolumeTrouble::Lost("the daemon is just stopping".to_owned());
        volume.orders.send(order(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// The volumes of which this node has a copy.
fn of_node<'a>(
    spec: &'a Spec,
    me: &'a NodeName,
) -> impl Iterator<Item = (&'a HierarchyName, &'a VolumeName, &'a mainstay_core::spec::VolumeSpec)> {
    let mine = spec.hierarchies.iter().filter(|(_, hierarchy)| hierarchy.nodes.contains(me));
    mine.flat_map(|(name, hierarchy)| hierarchy.volumes.iter().map(move |(volume, spec)| (name, volume, spec)))
}

impl mainstay_runtime::Volumes for Volumes {
    fn status<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, VolumeStatus> {
        Box::pin(async move {
            let volume = self.get(name)?;
            let attachment = volume.attachment.look().await;
            volume.shown.for_kits(attachment)
        })
    }

    fn promote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        Box::pin(self.order(name, Order::Promote))
    }

    fn demote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        Box::pin(async move {
            if let Some(attached) = self.get(name)?.attachment.look().await {
                return Err(VolumeTrouble::Busy(format!("it is attached as {}", attached.device.display())));
            }
            self.order(name, Order::Demote).await
        })
    }

    fn attach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, PathBuf> {
        Box::pin(async move { self.get(name)?.attachment.attach().await })
    }

    fn detach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        Box::pin(async move { self.get(name)?.attachment.detach().await })
    }

    fn device_of<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, Option<PathBuf>> {
        Box::pin(async move { Ok(self.get(name)?.attachment.look().await.map(|attached| attached.device)) })
    }
}
