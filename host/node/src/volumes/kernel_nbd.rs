//! The kernel's NBD devices: which there are, which is free, and whose it is. Reads `/sys/block`, and changes nothing.
//!
//! A device is connected by a program (`nbd-client`) that stays for as long as it is: with the program goes the connection,
//! and when the server ends, so does the program. The kernel names it in the device's `pid`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mainstay_runtime::mounted_at;
use mainstay_supervisor::Identity;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;

/// The devices that nobody uses, the last one first: by hand people take the first one.
pub(super) fn free_devices() -> Vec<PathBuf> {
    let is_block = |device: &Path| fs::metadata(device).is_ok_and(|metadata| metadata.file_type().is_block_device());
    let mut free: Vec<(u32, PathBuf)> = devices().filter(|(_, device)| is_block(device) && is_free(device)).collect();
    free.sort_unstable_by(|a, b| b.cmp(a));
    free.into_iter().map(|(_, device)| device).collect()
}

/// Whether nobody has connected it or uses it.
pub(super) fn is_free(device: &Path) -> bool {
    let has_size = fs::read_to_string(sys(device).join("size")).is_ok_and(|sectors| sectors.trim() != "0");
    connected_by(device).is_none() && !has_size && matches!(mounted_at(device), Ok(None))
}

/// The number of the process that has connected it, also of one that is gone while something is still mounted from it; none:
/// it is not connected.
pub(super) fn connected_by(device: &Path) -> Option<i32> {
    fs::read_to_string(sys(device).join("pid")).ok()?.trim().parse().ok()
}

/// Keeps others from connecting it at the same time, as long as it is held: a client that comes second is refused by the
/// kernel, but only after it has changed the size. None: another has it.
pub(super) fn claim(device: &Path) -> Option<Flock<File>> {
    let file = OpenOptions::new().read(true).open(device).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Writes what the kernel has not written to it yet. `ResourceBusy` where a mount or another device has it.
pub(super) fn flush(device: &Path) -> std::io::Result<()> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_EXCL).open(device)?.sync_all()
}

/// The clients that are connected to this socket.
pub(super) fn clients_of(socket: &Path) -> Vec<Identity> {
    let with_socket = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|arg| arg == socket.as_os_str().as_encoded_bytes())
    };
    let pids = devices().filter_map(|(_, device)| connected_by(&device)).filter(with_socket);
    pids.filter_map(|pid| Identity::of(pid).ok()).collect()
}

fn devices() -> impl Iterator<Item = (u32, PathBuf)> {
    let names = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name.strip_prefix("nbd")?.parse().ok()?, Path::new("/dev").join(name)))
    })
}

fn sys(device: &Path) -> PathBuf {
    Path::new("/sys/block").join(device.file_name().unwrap_or_default())
}
