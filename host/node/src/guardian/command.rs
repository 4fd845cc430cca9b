//! A program that is ready to be executed: its process is made beforehand, and waits for one byte.
//!
//! When it counts, nothing has to be allocated, copied or looked up any more.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, pipe2, write};

/// Exit code of a process that could not become the program, as shells have it.
const NOT_EXECUTED: i32 = 127;

/// See the file.
#[derive(Debug)]
pub(super) struct Prepared {
    pid: Pid,
    /// One byte executes it; its end ends the process.
    gate: OwnedFd,
}

/// What a program is executed with, as the kernel wants it.
#[derive(Debug)]
pub(super) struct Program {
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    pub(super) fn new(command: &[String], node: &str, cluster: &str) -> io::Result<Self> {
        let text = |text: &str| CString::new(text).map_err(|_| io::Error::other("there is a zero byte in the command"));
        let args = command.iter().map(|arg| text(arg)).collect::<io::Result<Vec<_>>>()?;
        let program = command.first().ok_or_else(|| io::Error::other("there is no command"))?;
        mainstay_supervisor::check_program(Path::new(program)).map_err(io::Error::other)?;
        let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"].map(str::to_owned).into_iter();
        let env = env.chain([format!("MAINSTAY_NODE={node}"), format!("MAINSTAY_CLUSTER={cluster}")]);
        Ok(Self { args, env: env.map(|variable| text(&variable)).collect::<io::Result<_>>()? })
    }

    /// Makes the process. `output` is where it writes to.
    pub(super) fn prepare(&self, output: &File) -> io::Result<Prepared> {
        let (gate_out, gate) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let args = pointers(&self.args);
        let env = pointers(&self.env);
        // SAFETY: the guardian has one thread, and the child calls nothing but system calls before it executes the
        // program or ends.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Child => become_program(gate_out.as_raw_fd(), output.as_raw_fd(), &args, &env),
            ForkResult::Parent { child } => Ok(Prepared { pid: child, gate }),
        }
    }
}

/// Valid as long as the strings are.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// In the child.
fn become_program(gate: i32, output: i32, args: &[*const c_char], env: &[*const c_char]) -> ! {
    // SAFETY: system calls on descriptors and strings that live as long as this process, which never returns.
    unsafe {
        libc::setsid();
        // The gate becomes standard input, the log output and error; nothing else stays open: neither the guardian's lock,
        // nor its socket, nor the writing end of the gate.
        if libc::dup2(gate, 0) < 0 || libc::dup2(output, 1) < 0 || libc::dup2(output, 2) < 0 {
            libc::_exit(NOT_EXECUTED);
        }
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut byte = 0_u8;
        loop {
            match libc::read(0, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if Errno::last_raw() == libc::EINTR => {}
                // The guardian is gone, or wants another program: nothing is to be done.
                _ => libc::_exit(0),
            }
        }
        libc::execve(args[0], args.as_ptr(), env.as_ptr());
        libc::_exit(NOT_EXECUTED)
    }
}

impl Prepared {
    /// Executes it. Neither allocates nor waits.
    pub(super) fn go(&self) -> nix::Result<()> {
        write(&self.gate, b"1").map(drop)
    }

    /// How it ended, in words; none: it has not. Ok: with success.
    pub(super) fn ended(&self) -> Option<Result<(), String>> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, 0)) => Some(Ok(())),
            Ok(WaitStatus::Exited(_, NOT_EXECUTED)) => Some(Err("it could not be executed (exit code 127)".to_owned())),
            Ok(WaitStatus::Exited(_, code)) => Some(Err(format!("it has ended with exit code {code}"))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Err(format!("it was ended by {signal}"))),
            // It is stopped, or goes on.
            Ok(_) | Err(Errno::EINTR) => None,
            Err(error) => Some(Err(format!("how it ended cannot be found out: {error}"))),
        }
    }
}
