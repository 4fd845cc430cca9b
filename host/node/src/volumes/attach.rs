//! A volume as a block device of this node: `nbdfuse` (libnbd) shows the process's NBD export as a file, and a loop device
//! (`losetup`, util-linux) makes a disk of the file. Both live as long as the volume's process and not as long as the daemon.
//!
//! What is attached is looked up in the kernel each time: whatever a daemon that was killed in the middle has left is found.
//! What was begun is finished, also if nobody waits for it any more.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_runtime::{VolumeAttachment, VolumeTrouble, is_mount_point, mounted_at};
use mainstay_supervisor::Identity;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::place::Place;
use super::view::AttachedView;

/// A program that takes longer hangs: it speaks with the kernel, and with a process that answers at once or is gone.
const PROGRAM: Duration = Duration::from_secs(10);
/// Between two looks whether something is there by now, or gone.
const LOOK: Duration = Duration::from_millis(10);

/// The way to a volume's block device. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Attachment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    nbd: PathBuf,
    control: PathBuf,
    /// Where nbdfuse is mounted, with the file `disk` in it.
    dir: PathBuf,
    note: PathBuf,
    log: PathBuf,
    one_at_a_time: tokio::sync::Mutex<()>,
    known: Mutex<Option<VolumeAttachment>>,
}

/// What is written down of an attachment: only who stands behind it, everything else the kernel knows.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    nbdfuse: Identity,
    server: Identity,
}

impl Attachment {
    pub(super) fn new(place: &Place) -> Self {
        Self(Arc::new(Inner {
            name: place.name.to_string(),
            nbd: place.nbd(),
            control: place.control(),
            dir: place.dir.join("device"),
            note: place.dir.join("device.json"),
            log: place.dir.join("process.log"),
            one_at_a_time: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }))
    }

    /// As it was found last.
    pub(super) fn known(&self) -> Option<AttachedView> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.map(|it| AttachedView { device: it.device.display().to_string(), works: it.works })
    }

    /// As it is.
    pub(super) async fn look(&self) -> Option<VolumeAttachment> {
        let inner = Arc::clone(&self.0);
        // It reads what the kernel has in memory.
        tokio::task::spawn_blocking(move || inner.look()).await.unwrap_or_default()
    }

    pub(super) async fn attach(&self) -> Result<PathBuf, VolumeTrouble> {
        let inner = Arc::clone(&self.0);
        finish(async move {
            let _one = inner.one_at_a_time.lock().await;
            match inner.look() {
                Some(VolumeAttachment { device, works: true }) => return Ok(device),
                Some(dead) => inner.detach(&dead.device).await?,
                None => {}
            }
            // A daemon before this one may have come no further.
            inner.unmount().await?;
            let attached = inner.attach().await;
            if attached.is_err() {
                // The error that counts is the first one; what is left shows at the next attempt.
                let _ = inner.unmount().await;
            }
            inner.look();
            attached
        })
        .await
    }

    pub(super) async fn detach(&self) -> Result<(), VolumeTrouble> {
        let inner = Arc::clone(&self.0);
        finish(async move {
            let _one = inner.one_at_a_time.lock().await;
            if let Some(attached) = inner.look() {
                inner.detach(&attached.device).await?;
            }
            inner.unmount().await?;
            inner.look();
            Ok(())
        })
        .await
    }
}

/// Is finished whether it is waited for or not.
async fn finish<T: Send + 'static>(
    what: impl Future<Output = Result<T, VolumeTrouble>> + Send + 'static,
) -> Result<T, VolumeTrouble> {
    tokio::spawn(what).await.unwrap_or_else(|error| Err(VolumeTrouble::Attachment(error.to_string())))
}

impl Inner {
    fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Whether nbdfuse is mounted.
    fn is_shown(&self) -> Result<bool, VolumeTrouble> {
        is_mount_point(&self.dir).map_err(|error| VolumeTrouble::Attachment(error.to_string()))
    }

    fn look(&self) -> Option<VolumeAttachment> {
        let found = loop_device_of(&self.disk()).map(|device| {
            let note: Option<Note> = fs::read(&self.note).ok().and_then(|note| serde_json::from_slice(&note).ok());
            let works = note.is_some_and(|note| note.nbdfuse.runs() && note.server.runs());
            VolumeAttachment { device, works }
        });
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
        found
    }

    async fn attach(&self) -> Result<PathBuf, VolumeTrouble> {
        let trouble = |what: String| VolumeTrouble::Attachment(what);
        let server = server_of(&self.control)
            .map_err(|error| VolumeTrouble::Unavailable(format!("the process of volume {}: {error}", self.name)))?;
        fs::create_dir_all(&self.dir).map_err(|error| trouble(format!("{}: {error}", self.dir.display())))?;
        let nbdfuse = self.start_nbdfuse().map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                trouble("nbdfuse is not installed on this node (Debian: libnbd-bin, Fedora: nbdfuse)".to_owned())
            } else {
                trouble(format!("nbdfuse cannot be started: {error}"))
            }
        })?;
        let note = serde_json::to_vec(&Note { nbdfuse, server }).map_err(|error| trouble(error.to_string()))?;
        fs::write(&self.note, note).map_err(|error| trouble(format!("{}: {error}", self.note.display())))?;
        let until = Instant::now() + PROGRAM;
        while !self.is_shown()? {
            if !nbdfuse.runs() || Instant::now() >= until {
                let log = self.log.display();
                return Err(trouble(format!("nbdfuse does not show volume {} as a file: see {log}", self.name)));
            }
            sleep(LOOK).await;
        }
        let disk = self.disk();
        let disk = disk.to_string_lossy();
        let device = program("losetup", &["--find", "--show", "--direct-io=on", &disk]).await.map_err(trouble)?;
        Ok(PathBuf::from(device.trim()))
    }

    fn start_nbdfuse(&self) -> io::Result<Identity> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let escaped = |path: &Path| path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        let uri = format!("nbd+unix:///{}?socket={}", self.name, escaped(&self.nbd));
        let mut command = std::process::Command::new("nbdfuse");
        command.arg(self.disk()).arg(uri).current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // Signals to the group of the daemon do not reach it.
        command.process_group(0);
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let process = Identity::of(pid)?;
        std::thread::Builder::new().name("nbdfuse".into()).spawn(move || child.wait())?;
        Ok(process)
    }

    /// Takes the loop device away, if nothing uses it.
    async fn detach(&self, device: &Path) -> Result<(), VolumeTrouble> {
        if let Some(user) = user_of(device).map_err(|error| VolumeTrouble::Attachment(error.to_string()))? {
            return Err(VolumeTrouble::Busy(format!("{} is in use: {user}", device.display())));
        }
        let text = device.to_string_lossy();
        program("losetup", &["--detach", &text]).await.map_err(VolumeTrouble::Attachment)?;
        // One that is open is taken away by the kernel when it is closed, and losetup says that all is well.
        let until = Instant::now() + PROGRAM;
        while loop_device_of(&self.disk()).is_some_and(|left| left == device) {
            if Instant::now() >= until {
                return Err(VolumeTrouble::Busy(format!("{} is held open by somebody", device.display())));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Takes the file away, and with it nbdfuse.
    async fn unmount(&self) -> Result<(), VolumeTrouble> {
        let trouble = |what: String| VolumeTrouble::Attachment(what);
        let dir = self.dir.to_string_lossy();
        let until = Instant::now() + PROGRAM;
        while self.is_shown()? {
            if let Err(error) = program("umount", &[&dir]).await {
                // What is behind it may be dead; nothing is written through it any more, the loop device is gone.
                program("umount", &["--lazy", &dir]).await.map_err(|_| trouble(error))?;
            }
            if Instant::now() >= until {
                return Err(trouble(format!("{dir} stays mounted")));
            }
        }
        if let Some(note) = fs::read(&self.note).ok().and_then(|note| serde_json::from_slice::<Note>(&note).ok()) {
            let ends = Instant::now() + PROGRAM;
            while note.nbdfuse.runs() {
                if Instant::now() >= ends {
                    let pid = note.nbdfuse.pid;
                    let killed = note.nbdfuse.signal(nix::sys::signal::Signal::SIGKILL);
                    killed.map_err(|error| trouble(format!("nbdfuse {pid} does not end: {error}")))?;
                    break;
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

/// Who serves at this socket now.
fn server_of(control: &Path) -> io::Result<Identity> {
    let stream = std::os::unix::net::UnixStream::connect(control)?;
    let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)?;
    Identity::of(peer.pid())
}

/// The loop device that shows this file.
fn loop_device_of(file: &Path) -> Option<PathBuf> {
    let devices = fs::read_dir("/sys/block").ok()?;
    devices.filter_map(Result::ok).find_map(|entry| {
        let shown = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        // " (deleted)" follows when what is behind it is gone.
        let shown = shown.trim_end().trim_end_matches(" (deleted)");
        (Path::new(shown) == file).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

/// What is mounted from a device, or stands on it.
fn user_of(device: &Path) -> io::Result<Option<String>> {
    if let Some(point) = mounted_at(device)? {
        return Ok(Some(format!("mounted at {point}")));
    }
    let holder = || {
        let mut holders = fs::read_dir(Path::new("/sys/block").join(device.file_name()?).join("holders")).ok()?;
        Some(format!("{} stands on it", holders.next()?.ok()?.file_name().to_string_lossy()))
    };
    Ok(holder())
}

/// Runs a program, and gives what it said.
async fn program(name: &str, args: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(name);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(PROGRAM, command.output()).await {
        Err(_) => Err(format!("{name} {} has not ended within {} s", args.join(" "), PROGRAM.as_secs())),
        Ok(Err(error)) => Err(format!("{name} cannot be run: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(format!("{name} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}
