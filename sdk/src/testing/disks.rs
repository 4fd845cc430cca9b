//! The fake host's volumes, devices and mount points, and what each function of `volume` and `mount` does to them.
//!
//! It keeps to the contract where a kit could lean on a difference: what is refused in which state, and with which code
//! (`docs/reference/kit-faults.md`). Nothing is mounted; what matters of a file system is a word.

use std::collections::{BTreeMap, BTreeSet};

use super::refusals::denied;
use crate::mount::{Checked, Content, Mounted, Outcome, Place, Room, Source, User};
use crate::volume::{Attachment, CopyState, MirrorState, Role, Standing};
use crate::{Fault, FaultKind};

/// What a fake file system says of its room.
const ROOM: Room = Room { size_bytes: 1 << 30, free_bytes: 1 << 29, inodes: 65_536, free_inodes: 65_000 };

/// What is on a fake disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Nothing, all zeroes.
    Empty,
    /// Something that nobody knows.
    Unknown,
    /// This, which is no file system.
    Other(String),
    /// A file system of this sort that was unmounted in order.
    Clean(String),
    /// One that was not; a check repairs it.
    Unclean(String),
    /// One that no check repairs.
    Damaged(String),
}

/// A fake volume, granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeVolume {
    /// Whether the host holds the right to write for it.
    pub right: bool,
    /// What this node's copy is.
    pub role: Role,
    /// What it is worth.
    pub copy: CopyState,
    /// How it stands with the other one.
    pub mirror: MirrorState,
    /// Whether the source goes on without it.
    pub alone: bool,
    /// As which device it is attached.
    pub attachment: Option<Attachment>,
    /// What is on it.
    pub disk: Disk,
    /// What its status says.
    pub summary: String,
    /// How often it was attached: each time as another device.
    pub attached_times: u32,
}

impl FakeVolume {
    /// A target that is up to date and connected, with a clean ext4 on it, for which the host holds the right.
    #[must_use]
    pub fn standby() -> Self {
        Self {
            right: true,
            role: Role::Target,
            copy: CopyState::UpToDate,
            mirror: MirrorState::Connected,
            alone: false,
            attachment: None,
            disk: Disk::Clean("ext4".into()),
            summary: "a fake volume".into(),
            attached_times: 0,
        }
    }
}

/// What is mounted at a fake mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeMounted {
    /// The device.
    pub device: String,
    /// The options it was mounted with.
    pub options: Vec<String>,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// What the kernel has noted.
    pub trouble: Option<String>,
    /// What it says of its room.
    pub room: Option<Room>,
}

/// A fake mount point, granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakePlace {
    /// Whether the folder is there.
    pub folder: bool,
    /// What is mounted there, the lowest first.
    pub mounted: Vec<FakeMounted>,
    /// Who uses it.
    pub users: Vec<User>,
    /// Those that cannot be ended.
    pub stubborn: bool,
    /// The device of its grant; none: the volumes.
    pub device: Option<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Disks {
    pub(super) volumes: BTreeMap<String, FakeVolume>,
    /// By path. One that is not here does not exist.
    pub(super) devices: BTreeMap<String, Disk>,
    pub(super) places: BTreeMap<String, FakePlace>,
    pub(super) missing_programs: BTreeSet<String>,
}

impl Disks {
    fn volume(&mut self, name: &str) -> Result<&mut FakeVolume, Fault> {
        self.volumes.get_mut(name).ok_or_else(|| denied(format_args!("the volume {name}")))
    }

    pub(crate) fn status(&mut self, name: &str) -> Result<Standing, Fault> {
        let volume = self.volume(name)?;
        Ok(Standing {
            role: volume.role,
            copy: volume.copy,
            mirror: volume.mirror,
            alone: volume.alone,
            attachment: volume.attachment.clone(),
            size_bytes: 1 << 30,
            dirty_bytes: 0,
            resync_percent: (volume.mirror == MirrorState::Resync).then_some(50),
            summary: volume.summary.clone(),
            details: Vec::new(),
        })
    }

    pub(crate) fn promote(&mut self, name: &str) -> Result<(), Fault> {
        let volume = self.volume(name)?;
        if volume.role == Role::Source {
            return Ok(());
        }
        if !volume.right {
            return Err(Fault::new(
                FaultKind::Unavailable,
                "no-right",
                format!("this node holds no right to write for the volume {name}"),
            ));
        }
        match volume.copy {
            CopyState::UpToDate | CopyState::LastKnownGood => {
                volume.role = Role::Source;
                Ok(())
            }
            CopyState::Outdated | CopyState::Inconsistent | CopyState::Failed => Err(Fault::new(
                FaultKind::Failed,
                "not-promotable",
                format!("the copy of {name} here is not good enough"),
            )),
        }
    }

    pub(crate) fn demote(&mut self, name: &str) -> Result<(), Fault> {
        let volume = self.volume(name)?;
        if volume.attachment.is_some() {
            return Err(Fault::new(FaultKind::Unavailable, "busy", format!("the volume {name} is attached")));
        }
        volume.role = Role::Target;
        Ok(())
    }

    pub(crate) fn attach(&mut self, name: &str) -> Result<String, Fault> {
        let attachment = self.volume(name)?.attachment.clone();
        if let Some(Attachment { device, works }) = attachment {
            if works {
                return Ok(device);
            }
            if self.is_mounted(&device) {
                return Err(Fault::new(FaultKind::Unavailable, "busy", format!("{device} is dead, and still mounted")));
            }
        }
        let volume = self.volume(name)?;
        if volume.role == Role::Target {
            return Err(Fault::new(FaultKind::Failed, "volume", format!("the copy of {name} here is not the source")));
        }
        let device = format!("/dev/fake{}", volume.attached_times);
        volume.attached_times += 1;
        volume.attachment = Some(Attachment { device: device.clone(), works: true });
        Ok(device)
    }

    pub(crate) fn detach(&mut self, name: &str) -> Result<(), Fault> {
        let Some(Attachment { device, .. }) = self.volume(name)?.attachment.clone() else { return Ok(()) };
        if self.is_mounted(&device) {
            return Err(Fault::new(FaultKind::Unavailable, "busy", format!("{device} is mounted")));
        }
        self.volume(name)?.attachment = None;
        Ok(())
    }

    fn is_mounted(&self, device: &str) -> bool {
        self.places.values().flat_map(|place| &place.mounted).any(|mounted| mounted.device == device)
    }

    fn granted(&mut self, source: &Source, point: Option<&str>) -> Result<(), Fault> {
        let at = |(name, place): (&String, &FakePlace)| {
            point.is_none_or(|point| name == point)
                && match source {
                    Source::Volume(_) => place.device.is_none(),
                    Source::Device(path) => place.device.as_ref() == Some(path),
                }
        };
        let volume = match source {
            Source::Volume(name) => self.volumes.contains_key(name),
            Source::Device(_) => true,
        };
        if volume && self.places.iter().any(at) {
            return Ok(());
        }
        let point = point.map_or_else(String::new, |point| format!(" at {point}"));
        Err(denied(format_args!("mounting {source}{point}")))
    }

    /// The device, if there is one now.
    fn device_of(&self, source: &Source) -> Option<String> {
        match source {
            Source::Volume(name) => Some(self.volumes.get(name)?.attachment.as_ref()?.device.clone()),
            Source::Device(path) => self.devices.contains_key(path).then(|| path.clone()),
        }
    }

    fn need(&self, source: &Source) -> Result<String, Fault> {
        self.device_of(source)
            .ok_or_else(|| Fault::new(FaultKind::Unavailable, "not-attached", format!("{source} is no device here")))
    }

    fn works(&self, source: &Source) -> bool {
        match source {
            Source::Volume(name) => self
                .volumes
                .get(name)
                .is_some_and(|volume| volume.attachment.as_ref().is_some_and(|attachment| attachment.works)),
            Source::Device(_) => true,
        }
    }

    fn disk(&mut self, source: &Source) -> Result<&mut Disk, Fault> {
        self.need(source)?;
        if !self.works(source) {
            return Err(Fault::new(FaultKind::Failed, "device", format!("{source} cannot be read")));
        }
        match source {
            Source::Volume(name) => Ok(&mut self.volume(name)?.disk),
            Source::Device(path) => self
                .devices
                .get_mut(path)
                .ok_or_else(|| Fault::new(FaultKind::Unavailable, "not-attached", format!("there is no {path}"))),
        }
    }

    fn place(&mut self, point: &str) -> Result<&mut FakePlace, Fault> {
        self.places.get_mut(point).ok_or_else(|| denied(format_args!("the mount point {point}")))
    }

    pub(crate) fn look(&mut self, point: &str) -> Result<Place, Fault> {
        let place = self.place(point)?.clone();
        let Some(top) = place.mounted.last() else { return Ok(Place { folder: place.folder, mounted: None }) };
        let sources: Vec<Source> = match &place.device {
            Some(device) => vec![Source::Device(device.clone())],
            None => self.volumes.keys().cloned().map(Source::Volume).collect(),
        };
        let source = sources.into_iter().find(|source| self.device_of(source).as_ref() == Some(&top.device));
        Ok(Place {
            folder: true,
            mounted: Some(Mounted {
                source,
                device: top.device.clone(),
                file_system: "ext4".into(),
                options: top.options.clone(),
                read_only: top.read_only,
                trouble: top.trouble.clone(),
                room: top.room,
                layers: u32::try_from(place.mounted.len()).unwrap_or(u32::MAX),
                details: Vec::new(),
            }),
        })
    }

    pub(crate) fn probe(&mut self, source: &Source) -> Result<Option<Content>, Fault> {
        self.granted(source, None)?;
        let content =
            |kind: &str, file_system| Some(Content { kind: kind.to_owned(), file_system, label: None, uuid: None });
        Ok(match self.disk(source)? {
            Disk::Empty | Disk::Unknown => None,
            Disk::Other(kind) => content(kind, false),
            Disk::Clean(kind) | Disk::Unclean(kind) | Disk::Damaged(kind) => content(kind, true),
        })
    }

    pub(crate) fn make_file_system(&mut self, source: &Source, file_system: &str) -> Result<(), Fault> {
        self.granted(source, None)?;
        let device = self.need(source)?;
        if self.is_mounted(&device) {
            return Err(Fault::new(FaultKind::Unavailable, "mounted", format!("{device} is mounted")));
        }
        let disk = self.disk(source)?;
        if *disk != Disk::Empty {
            return Err(Fault::new(FaultKind::Failed, "not-empty", format!("{device} is not empty")));
        }
        *disk = Disk::Clean(file_system.to_owned());
        Ok(())
    }

    pub(crate) fn check(&mut self, source: &Source, file_system: &str) -> Result<Checked, Fault> {
        self.granted(source, None)?;
        let device = self.need(source)?;
        if self.is_mounted(&device) {
            return Err(Fault::new(FaultKind::Unavailable, "mounted", format!("{device} is mounted")));
        }
        let disk = self.disk(source)?;
        let checked = |outcome, said: &str| Ok(Checked { outcome, said: said.to_owned() });
        if file_system == "xfs" {
            return checked(Outcome::AtMount, "nothing was looked at");
        }
        match disk {
            Disk::Clean(_) => checked(Outcome::Clean, "clean"),
            Disk::Unclean(kind) => {
                *disk = Disk::Clean(kind.clone());
                checked(Outcome::Repaired, "recovering journal")
            }
            Disk::Damaged(_) => checked(Outcome::Damaged, "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY"),
            Disk::Empty | Disk::Unknown | Disk::Other(_) => {
                Err(Fault::new(FaultKind::Failed, "check", "bad magic number in super-block"))
            }
        }
    }

    pub(crate) fn mount(
        &mut self,
        source: &Source,
        point: &str,
        file_system: &str,
        options: &[String],
    ) -> Result<bool, Fault> {
        self.granted(source, Some(point))?;
        let refused = ["dev", "suid", "remount", "bind", "defaults", "errors=continue", "nobarrier"];
        if let Some(option) = options.iter().find(|option| refused.contains(&option.as_str())) {
            return Err(Fault::new(FaultKind::Invalid, "mount-option", format!("{option} is not allowed")));
        }
        let device = self.need(source)?;
        let place = self.place(point)?;
        if let Some(top) = place.mounted.last() {
            if top.device == device {
                return Ok(false);
            }
            return Err(Fault::new(
                FaultKind::Failed,
                "foreign-mount",
                format!("{} is mounted at {point} already", top.device),
            ));
        }
        let folder = place.folder;
        if self.is_mounted(&device) {
            return Err(Fault::new(FaultKind::Unavailable, "mounted", format!("{device} is mounted elsewhere")));
        }
        if !folder {
            return Err(Fault::new(FaultKind::NotFound, "no-mount-point", format!("there is no folder {point}")));
        }
        let disk = self.disk(source)?;
        match disk {
            Disk::Clean(kind) | Disk::Unclean(kind) if kind == file_system => {
                // Until it is unmounted in order.
                *disk = Disk::Unclean(kind.clone());
            }
            Disk::Damaged(kind) if kind == file_system => {
                return Err(Fault::new(FaultKind::Failed, "damaged", "Structure needs cleaning"));
            }
            Disk::Empty | Disk::Unknown | Disk::Other(_) | Disk::Clean(_) | Disk::Unclean(_) | Disk::Damaged(_) => {
                return Err(Fault::new(FaultKind::Failed, "mount", "wrong fs type, bad option, bad superblock"));
            }
        }
        let mounted =
            FakeMounted { device, options: options.to_vec(), read_only: false, trouble: None, room: Some(ROOM) };
        self.place(point)?.mounted.push(mounted);
        Ok(true)
    }

    pub(crate) fn unmount(&mut self, source: &Source, point: &str) -> Result<bool, Fault> {
        self.granted(source, Some(point))?;
        let device = self.device_of(source);
        let place = self.place(point)?;
        let is_ours = |mounted: &FakeMounted| Some(&mounted.device) == device.as_ref();
        if !place.mounted.iter().any(is_ours) {
            return Ok(false);
        }
        if !place.mounted.last().is_some_and(is_ours) {
            return Err(Fault::new(FaultKind::Unavailable, "covered", format!("something is mounted over {source}")));
        }
        if !place.users.is_empty() {
            let users: Vec<String> = place.users.iter().map(ToString::to_string).collect();
            return Err(Fault::new(FaultKind::Unavailable, "busy", format!("{point} is used by {}", users.join(", "))));
        }
        place.mounted.pop();
        if self.works(source) {
            let disk = self.disk(source)?;
            if let Disk::Unclean(kind) = disk {
                *disk = Disk::Clean(kind.clone());
            }
        }
        Ok(true)
    }

    pub(crate) fn users(&mut self, source: &Source, point: &str) -> Result<Vec<User>, Fault> {
        self.granted(source, Some(point))?;
        Ok(self.place(point)?.users.clone())
    }

    pub(crate) fn end_users(&mut self, source: &Source, point: &str) -> Result<Vec<User>, Fault> {
        self.granted(source, Some(point))?;
        let place = self.place(point)?;
        if place.stubborn && !place.users.is_empty() {
            return Err(Fault::new(
                FaultKind::Unavailable,
                "busy",
                format!("{point} is used still: {}", place.users[0]),
            ));
        }
        Ok(std::mem::take(&mut place.users))
    }

    pub(crate) fn write_marker(&mut self, source: &Source, point: &str) -> Result<u32, Fault> {
        self.granted(source, Some(point))?;
        let device = self.device_of(source);
        let works = self.works(source);
        let place = self.place(point)?;
        match place.mounted.last() {
            Some(top) if Some(&top.device) == device.as_ref() => {
                if works && !top.read_only {
                    return Ok(1);
                }
                Err(Fault::new(FaultKind::Failed, "marker", format!("{point}: cannot write the marker")))
            }
            Some(_) | None => {
                Err(Fault::new(FaultKind::NotFound, "not-mounted", format!("{source} is not mounted at {point}")))
            }
        }
    }

    pub(crate) fn missing_programs(&mut self, file_system: &str) -> Result<Vec<String>, Fault> {
        if self.places.is_empty() {
            return Err(denied("mounting anything"));
        }
        if !["ext4", "xfs"].contains(&file_system) {
            return Err(Fault::new(FaultKind::Invalid, "file-system", format!("{file_system} cannot be used")));
        }
        Ok(self.missing_programs.iter().cloned().collect())
    }
}
