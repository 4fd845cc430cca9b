//! Makes the program's process: everything between the request and `execve`.
//!
//! The child waits at a gate until its process id is written down; if the supervisor dies before it opens the gate,
//! the program is never executed. What the child does is fixed before the fork, since between `fork` and `execve` it
//! may neither allocate nor fail in any way but by saying at which step, and why, through a pipe.
//!
//! The program starts with: its own session, only descriptors 0, 1 and 2, no blocked and no ignored signal (Rust
//! ignores SIGPIPE, and a shell would go on writing into broken pipes for ever), umask 022, its user's groups, its
//! working directory, its environment and no other, and not more shielded from the kernel's out-of-memory killer
//! than an ordinary process.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{ForkResult, Gid, Uid, User};

use crate::check::may_change_user;
use crate::descriptors;
use crate::folder::{Folder, STDIN};
use crate::types::{LaunchFailure, MARKER, Request, Stage};

/// Where programs are looked for by whatever the program itself starts.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Messages in English and UTF-8: checks compare them.
const LANG: &str = "C.UTF-8";
/// Signal numbers are below this on Linux.
const SIGNALS_END: c_int = 65;

/// Whom the program runs as.
#[derive(Debug)]
pub(crate) struct RunAs {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    name: String,
    home: CString,
    /// It is the user we are, and nothing has to be changed for it.
    is_own: bool,
}

impl RunAs {
    /// Whose the files are that the program may open anew, where that is not us.
    pub(crate) fn owner(&self) -> Option<(Uid, Gid)> {
        (!self.is_own).then_some((self.uid, self.gid))
    }

    /// Looks the user up; this may ask a directory service.
    pub(crate) fn find(request: &Request) -> Result<Option<Self>, LaunchFailure> {
        let Some(name) = &request.user else {
            return Ok(None);
        };
        let failed = |errno: Errno| failure(request, Stage::User, errno as i32);
        let user = User::from_name(name).map_err(failed)?.ok_or_else(|| failure(request, Stage::User, 0))?;
        let c_name = CString::new(name.as_str()).map_err(|_| failed(Errno::EINVAL))?;
        let c_home = CString::new(user.dir.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
        let is_own = user.uid == Uid::effective();
        if !is_own && !may_change_user() {
            return Err(failure(request, Stage::Identity, Errno::EPERM as i32));
        }
        let groups = if is_own { Vec::new() } else { nix::unistd::getgrouplist(&c_name, user.gid).map_err(failed)? };
        Ok(Some(Self { uid: user.uid, gid: user.gid, groups, name: name.clone(), home: c_home, is_own }))
    }
}

/// A failure of this request.
pub(crate) fn failure(request: &Request, stage: Stage, errno: i32) -> LaunchFailure {
    LaunchFailure {
        stage,
        program: request.program.clone(),
        user: request.user.clone(),
        cwd: request.cwd.clone().unwrap_or_else(|| "/".into()),
        errno,
    }
}

/// The child, waiting at the gate.
pub(crate) struct Gated {
    pub(crate) pid: i32,
    gate: File,
    failure: File,
}

/// The child behind the gate. It is the program as soon as the descriptor reaches end of file.
pub(crate) struct Launched {
    failure: File,
}

impl Gated {
    /// Makes the process. `door`: the control group's, if there is one.
    pub(crate) fn fork(
        request: &Request,
        run_as: Option<&RunAs>,
        streams: [&File; 3],
        door: Option<&File>,
        id: &str,
    ) -> Result<Self, LaunchFailure> {
        let failed = |stage: Stage| move |errno: Errno| failure(request, stage, errno as i32);
        let invalid = |_| failure(request, Stage::Exec, Errno::EINVAL as i32);
        let (gate_in, gate) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed(Stage::Fork))?;
        let (failure_in, failure_out) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed(Stage::Fork))?;
        let plan = Plan {
            program: CString::new(request.program.as_os_str().as_bytes()).map_err(invalid)?,
            args: arguments(request).map_err(invalid)?,
            env: environment(request, run_as, id).map_err(invalid)?,
            cwd: match &request.cwd {
                Some(cwd) => CString::new(cwd.as_os_str().as_bytes()).map_err(invalid)?,
                None => c"/".to_owned(),
            },
            identity: run_as.filter(|run_as| !run_as.is_own).map(|run_as| {
                let groups: Vec<libc::gid_t> = run_as.groups.iter().map(|gid| gid.as_raw()).collect();
                (run_as.uid.as_raw(), run_as.gid.as_raw(), groups)
            }),
            streams: streams.map(AsRawFd::as_raw_fd),
            door: door.map(AsRawFd::as_raw_fd),
            gate: gate_in.as_raw_fd(),
            gate_writer: gate.as_raw_fd(),
            failure: failure_out.as_raw_fd(),
            descriptors: descriptors::told(),
        };
        let args = pointers(&plan.args);
        let env = pointers(&plan.env);
        // SAFETY: the child calls nothing but `Plan::run`, which neither allocates nor takes a lock nor returns.
        match unsafe { nix::unistd::fork() }.map_err(failed(Stage::Fork))? {
            ForkResult::Child => plan.run(&args, &env),
            ForkResult::Parent { child } => {
                Ok(Self { pid: child.as_raw(), gate: file(gate), failure: file(failure_in) })
            }
        }
    }

    /// Lets the program be executed.
    pub(crate) fn open(mut self) -> Launched {
        // If the child is gone already, the other pipe says so.
        drop(self.gate.write_all(b"1"));
        Launched { failure: self.failure }
    }
}

impl Launched {
    /// For `poll`: readable when it is known whether the program was executed.
    pub(crate) fn known(&self) -> &File {
        &self.failure
    }

    /// Was it executed? Waits until that is known.
    pub(crate) fn result(mut self, request: &Request) -> Result<(), LaunchFailure> {
        let mut said = Vec::new();
        let read = self.failure.read_to_end(&mut said);
        match (read, said.as_slice()) {
            (Ok(_), []) => Ok(()),
            (Ok(_), &[stage, a, b, c, d]) => Err(failure(request, stage_of(stage), i32::from_ne_bytes([a, b, c, d]))),
            (Ok(_), _) => Err(failure(request, Stage::Exec, Errno::EPROTO as i32)),
            (Err(error), _) => Err(failure(request, Stage::Exec, error.raw_os_error().unwrap_or(0))),
        }
    }
}

fn file(fd: OwnedFd) -> File {
    File::from(fd)
}

fn arguments(request: &Request) -> Result<Vec<CString>, std::ffi::NulError> {
    std::iter::once(CString::new(request.program.as_os_str().as_bytes()))
        .chain(request.args.iter().map(|arg| CString::new(arg.as_str())))
        .collect()
}

/// The request's variables, and the minimum where the request does not name it.
fn environment(request: &Request, run_as: Option<&RunAs>, id: &str) -> Result<Vec<CString>, std::ffi::NulError> {
    let mut minimum = vec![("PATH", PATH), ("LANG", LANG)];
    let home = run_as.map(|run_as| run_as.home.to_string_lossy());
    if let (Some(run_as), Some(home)) = (run_as, &home) {
        minimum.extend([("HOME", home.as_ref()), ("USER", run_as.name.as_str()), ("LOGNAME", run_as.name.as_str())]);
    }
    minimum.retain(|(name, _)| request.env.iter().all(|(given, _)| given != name));
    let given = request.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    minimum
        .into_iter()
        .chain(given)
        .chain([(MARKER, id)])
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect()
}

/// What `execve` wants: pointers, and a null at the end. Valid as long as the strings are.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

const STAGES: [Stage; 8] =
    [Stage::User, Stage::Files, Stage::Fork, Stage::Session, Stage::Streams, Stage::Identity, Stage::Cwd, Stage::Exec];

fn stage_of(number: u8) -> Stage {
    STAGES.get(usize::from(number)).copied().unwrap_or(Stage::Exec)
}

/// All the child needs, made before the fork.
struct Plan {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    identity: Option<(libc::uid_t, libc::gid_t, Vec<libc::gid_t>)>,
    streams: [RawFd; 3],
    door: Option<RawFd>,
    gate: RawFd,
    gate_writer: RawFd,
    failure: RawFd,
    descriptors: Option<u64>,
}

impl Plan {
    /// In the child: becomes the program, or says why not and ends.
    fn run(&self, args: &[*const c_char], env: &[*const c_char]) -> ! {
        let stage = self.become_program(args, env);
        let errno = Errno::last_raw().to_ne_bytes();
        let said = [stage as u8, errno[0], errno[1], errno[2], errno[3]];
        // SAFETY: writes five bytes of ours and ends; neither allocates. If nobody reads, nobody waits for it either.
        unsafe {
            libc::write(self.failure, said.as_ptr().cast(), said.len());
            libc::_exit(127)
        }
    }

    /// Returns only the step that failed; errno says why.
    fn become_program(&self, args: &[*const c_char], env: &[*const c_char]) -> Stage {
        // SAFETY: plain system calls on descriptors and strings that the plan owns; none of them allocates.
        unsafe {
            // Else the gate would never reach end of file when the supervisor dies.
            libc::close(self.gate_writer);
            let mut opened = 0_u8;
            if libc::read(self.gate, (&raw mut opened).cast(), 1) != 1 {
                // Nobody is left who could be told.
                libc::_exit(127);
            }
            if libc::setsid() < 0 {
                return Stage::Session;
            }
            if let Some(door) = self.door {
                // Without it the tree is found through /proc.
                libc::write(door, c"0".as_ptr().cast(), 1);
            }
            for (to, from) in (0..).zip(self.streams) {
                if libc::dup2(from, to) < 0 {
                    return Stage::Streams;
                }
            }
            self.shed_what_is_inherited();
            if let Some((uid, gid, groups)) = &self.identity
                && (libc::setgroups(groups.len(), groups.as_ptr()) < 0
                    || libc::setgid(*gid) < 0
                    || libc::setuid(*uid) < 0)
            {
                return Stage::Identity;
            }
            if libc::chdir(self.cwd.as_ptr()) < 0 {
                return Stage::Cwd;
            }
            libc::execve(self.program.as_ptr(), args.as_ptr(), env.as_ptr());
            Stage::Exec
        }
    }

    /// Signal dispositions, blocked signals, umask, the number of descriptors, the daemon's shield against the out-of-memory killer.
    fn shed_what_is_inherited(&self) {
        // SAFETY: plain system calls on values of this frame; none of them allocates. None of these can fail in a way
        // that matters: SIGKILL and SIGSTOP are refused, and always default.
        unsafe {
            // The kernel's `struct sigaction` with nothing in it: SIG_DFL. Not by the C library, which keeps two
            // signals to itself and would leave them ignored if somebody before us ignored them.
            let default = [0_u64; 4];
            for signal in 1..SIGNALS_END {
                libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u8>(), 8);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::umask(0o022);
            if let Some(soft) = self.descriptors {
                let mut limit: libc::rlimit = std::mem::zeroed();
                if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
                    limit.rlim_cur = soft.min(limit.rlim_max);
                    libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                }
            }
            let adjust = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            if adjust >= 0 {
                let mut sign = 0_u8;
                if libc::read(adjust, (&raw mut sign).cast(), 1) == 1 && sign == b'-' {
                    libc::lseek(adjust, 0, libc::SEEK_SET);
                    libc::write(adjust, c"0".as_ptr().cast(), 1);
                }
                libc::close(adjust);
            }
        }
    }
}

/// Opens what the program reads: its standard input if there is any, else nothing. `owner`: who may open it anew
/// through `/dev/stdin`.
pub(crate) fn open_stdin(folder: &Folder, owner: Option<(Uid, Gid)>) -> io::Result<File> {
    let file = match File::open(folder.file(STDIN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return File::open("/dev/null"),
        opened => opened?,
    };
    if let Some((uid, gid)) = owner {
        nix::unistd::fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Owner;

    fn request(env: &[(&str, &str)]) -> Request {
        let owner = Owner { tag: "a".to_owned(), operation: "restore".to_owned(), operation_id: "1".to_owned() };
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { env, ..Request::new(owner, "/bin/true") }
    }

    fn texts(strings: Vec<CString>) -> Vec<String> {
        strings.into_iter().map(|string| string.into_string().unwrap()).collect()
    }

    #[test]
    fn the_environment_is_the_minimum_and_what_the_request_says() {
        let env = texts(environment(&request(&[("TERM", "dumb"), ("LANG", "de_DE.UTF-8")]), None, "id").unwrap());
        assert_eq!(env, ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb", "LANG=de_DE.UTF-8", "MAINSTAY_COMMAND=id"]);
    }

    #[test]
    fn a_user_brings_home_and_name() {
        let run_as = RunAs {
            uid: Uid::from_raw(7),
            gid: Gid::from_raw(7),
            groups: Vec::new(),
            name: "app".to_owned(),
            home: c"/srv/app".to_owned(),
            is_own: false,
        };
        let env = texts(environment(&request(&[]), Some(&run_as), "id").unwrap());
        assert_eq!(env[2..], ["HOME=/srv/app", "USER=app", "LOGNAME=app", "MAINSTAY_COMMAND=id"]);
    }

    #[test]
    fn a_step_keeps_its_meaning_through_the_pipe() {
        for stage in STAGES {
            assert_eq!(stage_of(stage as u8), stage);
        }
    }
}
