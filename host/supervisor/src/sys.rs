//! The few system calls that have no safe wrapper at hand. Each function here is safe to call; what makes it so is
//! beside the call. Nothing is decided here.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::signal::Signal;

use crate::types::Ending;

/// A handle on the process that has this number now. It never comes to mean another process.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers, touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us (close-on-exec), and nobody else knows it. It fits: descriptors are ints.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// Sends a signal to the process behind the handle. `ESRCH` when it has been collected.
pub(crate) fn pidfd_send_signal(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    // SAFETY: the third argument may be null, and the call reads no other memory of ours.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes what this process inherited beyond standard input, output and error.
///
/// For the first moment of a process only: whoever holds such a descriptor as an owned value loses it.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: takes three integers. The caller has opened nothing yet, so no owned descriptor is pulled from under anybody.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if closed == 0 {
        return Ok(());
    }
    // Before Linux 5.9. The listing's own descriptor is among the numbers and closed by then, so a failure means nothing.
    let open: Vec<c_int> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Asks for one SIGIO when a file in this folder is next written to. Unlike inotify this has no limit per user,
/// which counts where every command of a node has a supervisor; unlike looking every so often it costs nothing
/// while nothing happens.
pub(crate) fn notify_once_modified(folder: &std::fs::File) -> io::Result<()> {
    /// From `linux/fcntl.h`; the libc crate lacks it.
    const DN_MODIFY: c_int = 0x2;
    // SAFETY: takes integers, touches no memory of ours.
    let set = unsafe { libc::fcntl(folder.as_raw_fd(), libc::F_NOTIFY, DN_MODIFY) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What there is to collect among our children.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// This one ended, and is collected.
    Ended(i32, Ending),
    /// There are children, and none has ended.
    Nobody,
    /// There is no child, so nothing at all is below this process: orphans would have become its children.
    NoChildren,
}

/// Collects one child that has ended. Not `nix`'s: that takes a death by a real-time signal for an error.
pub(crate) fn reap() -> io::Result<Reaped> {
    let mut status: c_int = 0;
    // SAFETY: the status is written to a place of ours.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid == 0 {
        return Ok(Reaped::Nobody);
    }
    if pid < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(Reaped::NoChildren) } else { Err(error) };
    }
    let ending = if libc::WIFSIGNALED(status) {
        Ending::Signalled(libc::WTERMSIG(status))
    } else {
        Ending::Exited(libc::WEXITSTATUS(status))
    };
    Ok(Reaped::Ended(pid, ending))
}
