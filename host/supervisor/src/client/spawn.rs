//! From a request to a supervisor that cares for it: refuses what nobody could run, writes the request down, starts
//! the supervisor. Blocking, for a thread that may wait for a disk.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use super::{FolderError, StartError, SupervisorExe};
use crate::descriptors;
use crate::folder::{FORMAT, Folder, REQUEST, RequestRecord, STDIN};
use crate::types::{ARGUMENTS_BYTES_MAX, MARKER, OUTPUT_BYTES_MAX, Request, STDIN_BYTES_MAX, TIMEOUT_MS_MAX};

/// Longest single argument or variable, in bytes: the kernel's limit (MAX_ARG_STRLEN) less the final zero.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// A supervisor that was just started.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) folder: Folder,
    pub(super) child: tokio::process::Child,
}

/// Writes the request down and starts a supervisor for it. On an error nothing is left of either.
pub(super) fn spawn(
    dir: &Path,
    exe: &SupervisorExe,
    boot_id: &str,
    id: &str,
    request: &Request,
) -> Result<Spawned, StartError> {
    let folder = Folder::new(dir.join(id));
    write(dir, &folder, boot_id, request).and_then(|()| supervise(exe, &folder)).inspect_err(|_| {
        if let Err(error) = folder.remove() {
            tracing::warn!("{} is left over: {error}", folder.path().display());
        }
    })
}

/// A random id, never used before on any machine.
pub(super) fn new_id() -> Result<String, FolderError> {
    let source = Path::new("/proc/sys/kernel/random/uuid");
    let id = std::fs::read_to_string(source).map_err(FolderError::of("read", source))?;
    Ok(id.trim().to_owned())
}

/// What nobody could run, told before anything is written.
pub(super) fn check(request: &Request) -> Result<(), StartError> {
    let invalid = |what: String| Err(StartError::Invalid { program: request.program.clone(), what });
    let Some(program) = request.program.to_str().filter(|path| path.starts_with('/') && !path.contains('\0')) else {
        return invalid("a program is given by its full path, in UTF-8".to_owned());
    };
    if request.cwd.as_deref().is_some_and(|cwd| !cwd.is_absolute() || !is_text(cwd)) {
        return invalid("the working directory is not an absolute path in UTF-8".to_owned());
    }
    if request.user.as_deref().is_some_and(|user| user.is_empty() || user.contains('\0')) {
        return invalid("the user's name is empty".to_owned());
    }
    if request.timeout_ms == 0 || request.timeout_ms > TIMEOUT_MS_MAX {
        return invalid(format!("its time of {} ms is not from 1 to {TIMEOUT_MS_MAX}", request.timeout_ms));
    }
    if request.output_bytes_max > OUTPUT_BYTES_MAX {
        return invalid(format!("{} bytes of output are more than {OUTPUT_BYTES_MAX}", request.output_bytes_max));
    }
    if request.stdin.len() > STDIN_BYTES_MAX {
        return invalid(format!("{} bytes of input are more than {STDIN_BYTES_MAX}", request.stdin.len()));
    }
    match strings_fault(request, program) {
        Some(what) => invalid(what),
        None => Ok(()),
    }
}

fn is_text(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains('\0'))
}

/// What is wrong with arguments and environment.
fn strings_fault(request: &Request, program: &str) -> Option<String> {
    let mut names = HashSet::new();
    for (name, value) in &request.env {
        if name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0') {
            return Some(format!(
                "{name:?} is no environment variable: its name is empty or holds =, or a zero byte is in it"
            ));
        }
        if name == MARKER {
            return Some(format!("the environment variable {MARKER} is mainstay's own"));
        }
        if !names.insert(name) {
            return Some(format!("the environment variable {name} is given twice"));
        }
    }
    if let Some(arg) = request.args.iter().find(|arg| arg.contains('\0')) {
        return Some(format!("a zero byte is in the argument {arg:?}"));
    }
    let variables = request.env.iter().map(|(name, value)| name.len() + value.len() + 1);
    let sizes = std::iter::once(program.len()).chain(request.args.iter().map(String::len)).chain(variables);
    let (mut sum, mut longest) = (0, 0);
    for size in sizes {
        sum += size + 1;
        longest = longest.max(size);
    }
    if longest > ARGUMENT_BYTES_MAX {
        return Some(format!("an argument or variable of {longest} bytes is longer than {ARGUMENT_BYTES_MAX}"));
    }
    (sum > ARGUMENTS_BYTES_MAX)
        .then(|| format!("{sum} bytes of arguments and environment are more than {ARGUMENTS_BYTES_MAX}"))
}

fn write(dir: &Path, folder: &Folder, boot_id: &str, request: &Request) -> Result<(), StartError> {
    DirBuilder::new().mode(0o700).create(folder.path()).map_err(FolderError::of("make the folder", folder.path()))?;
    let record = RequestRecord { format: FORMAT, boot_id: boot_id.to_owned(), request: request.clone() };
    let text = serde_json::to_vec(&record).map_err(io::Error::other);
    let mut files = vec![write_file(folder, REQUEST, &text.map_err(FolderError::of("write", folder.path()))?)?];
    if !request.stdin.is_empty() {
        files.push(write_file(folder, STDIN, &request.stdin)?);
    }
    if request.durable {
        for path in [folder.path(), dir] {
            files.push(File::open(path).map_err(FolderError::of("open", path))?);
        }
        flush(&files).map_err(FolderError::of("flush to the disk", folder.path()))?;
    }
    Ok(())
}

fn write_file(folder: &Folder, name: &str, bytes: &[u8]) -> Result<File, FolderError> {
    let failed = |error| FolderError::of("write", &folder.file(name))(error);
    let mut file = folder.create(name).map_err(failed)?;
    file.write_all(bytes).map_err(|error| FolderError::of("write", &folder.file(name))(error))?;
    Ok(file)
}

/// All at once: the disk then flushes its cache once or twice instead of once for each.
fn flush(files: &[File]) -> io::Result<()> {
    std::thread::scope(|scope| {
        let others: Vec<_> = files[1..].iter().map(|file| scope.spawn(|| file.sync_all())).collect();
        let mut flushed = files[0].sync_all();
        for other in others {
            let other = other.join().unwrap_or_else(|_| Err(io::Error::other("flushing panicked")));
            flushed = flushed.and(other);
        }
        flushed
    })
}

/// Starts a supervisor, with nothing of ours but a pipe to tell us by.
///
/// No step is taken between fork and exec: only so does the standard library use `posix_spawn`, which does not copy
/// the page tables of a daemon that has reserved terabytes of address space.
pub(super) fn supervise(exe: &SupervisorExe, folder: &Folder) -> Result<Spawned, StartError> {
    let failed = |source| StartError::Supervisor { exe: exe.program.clone(), source };
    let mut command = std::process::Command::new(&exe.program);
    command
        .arg0("mainstay")
        .args(&exe.args)
        .arg(folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(limit) = descriptors::for_programs() {
        command.env(descriptors::VARIABLE, limit.to_string());
    }
    let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
    Ok(Spawned { folder: folder.clone(), child })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Owner;

    /// `None`: the request is fine.
    #[track_caller]
    fn refused(change: impl FnOnce(&mut Request), words: Option<&str>) {
        let owner = Owner { tag: "a".to_owned(), operation: "restore".to_owned(), operation_id: "1".to_owned() };
        let mut request = Request::new(owner, "/bin/true");
        change(&mut request);
        match (check(&request), words) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => assert!(error.to_string().contains(words), "{error}"),
            (result, words) => panic!("expected {words:?}, got {result:?}"),
        }
    }

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_nobody_could_run_is_refused() {
        refused(|_| (), None);
        refused(|it| it.program = "true".into(), Some("full path"));
        refused(|it| it.program = "/bin/tr\0ue".into(), Some("full path"));
        refused(|it| it.cwd = Some("srv".into()), Some("working directory"));
        refused(|it| it.user = Some(String::new()), Some("user's name is empty"));
        refused(|it| it.timeout_ms = 0, Some("not from 1 to"));
        refused(|it| it.timeout_ms = TIMEOUT_MS_MAX + 1, Some("not from 1 to"));
        refused(|it| it.output_bytes_max = OUTPUT_BYTES_MAX + 1, Some("bytes of output"));
        refused(|it| it.stdin = vec![0; STDIN_BYTES_MAX + 1], Some("bytes of input"));
    }

    #[test]
    fn so_are_strings_that_no_program_can_be_given() {
        refused(|it| it.env = vec![variable("A", "=1")], None);
        refused(|it| it.env = vec![variable("A=", "1")], Some("no environment variable"));
        refused(|it| it.env = vec![variable("", "1")], Some("no environment variable"));
        refused(|it| it.env = vec![variable(MARKER, "1")], Some("mainstay's own"));
        refused(|it| it.env = vec![variable("A", "1"), variable("A", "2")], Some("given twice"));
        refused(|it| it.args = vec!["\0".to_owned()], Some("zero byte"));
        refused(|it| it.args = vec!["x".repeat(ARGUMENT_BYTES_MAX)], None);
        refused(|it| it.args = vec!["x".repeat(ARGUMENT_BYTES_MAX + 1)], Some("is longer than"));
        refused(|it| it.args = vec!["x".repeat(100_000); 11], Some("arguments and environment"));
    }

    #[test]
    fn ids_differ_and_are_names_of_folders() {
        let (one, other) = (new_id().unwrap(), new_id().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 36 && one.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{one}");
    }
}
