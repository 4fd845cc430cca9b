//! May this program be run, may this user be run as? Decides from the file system, the user database and this
//! process's privileges; changes nothing. Both may wait for a disk or a directory service: call them off the async
//! threads.
//!
//! The rule for programs: nobody but root and the daemon's own user may be able to change what is executed. Whoever
//! may write the file, or replace an entry in any folder on the way to it (symbolic links followed, and the folders
//! they lie in looked at too), could have anything run with the daemon's rights.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, User};

/// Symbolic links followed on the way to one program, as many as the kernel follows.
const LINKS_MAX: u32 = 40;
const STICKY: u32 = 0o1000;
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const OTHERS_WRITE: u32 = 0o002;
const EXECUTE: u32 = 0o111;

/// Why a program is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// A look-up in PATH would let the environment choose the program.
    #[error("{} is not an absolute path: give the program's full path", .0.display())]
    NotAbsolute(PathBuf),
    /// `..` behind a symbolic link leads elsewhere than it seems to.
    #[error("{} has .. in it: give the program's path without", .0.display())]
    ParentFolder(PathBuf),
    /// Something on the way is missing or cannot be looked at.
    #[error("{} cannot be run: looking at {} failed: {source}", .program.display(), .at.display())]
    Unreadable {
        /// What was to be run.
        program: PathBuf,
        /// Where the walk stopped.
        at: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// A circle of links, most likely.
    #[error("{} cannot be run: more than {LINKS_MAX} symbolic links lead to it", .0.display())]
    TooManyLinks(PathBuf),
    /// A folder, a device, a socket.
    #[error("{} is not a regular file: it cannot be a program", .0.display())]
    NotAFile(PathBuf),
    /// No execute permission, or a file system mounted without.
    #[error("{} is not executable: give it the execute permission (chmod +x), unless its file system is mounted noexec", .0.display())]
    NotExecutable(PathBuf),
    /// Others than root and the daemon's user may change it.
    #[error("{} is refused: {} {what}, who could put another program in its place: {fix}", .program.display(), .at.display())]
    Writable {
        /// What was to be run.
        program: PathBuf,
        /// The file, folder or link on the way to it.
        at: PathBuf,
        /// Who may write it.
        what: &'static str,
        /// The command that mends it.
        fix: String,
    },
}

/// Why a program cannot be run as a user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Misspelt, or not made on this node.
    #[error("there is no user {0} on this node")]
    Unknown(String),
    /// The user database could not be asked.
    #[error("user {name} could not be looked up: {source}")]
    LookUp {
        /// The user.
        name: String,
        /// What happened.
        source: nix::errno::Errno,
    },
    /// Only root may become somebody else.
    #[error(
        "nothing can be run as user {name}: mainstay runs as {own} and may not become another user; run it as root, or as {name}"
    )]
    NoPrivilege {
        /// The user.
        name: String,
        /// Whom the daemon runs as.
        own: String,
    },
}

/// May `path` be executed? Ok holds the file that symbolic links lead to.
pub fn check_program(path: &Path) -> Result<PathBuf, ProgramError> {
    check_program_for(path, Uid::effective().as_raw())
}

/// Can a program be run as `name`?
pub fn check_user(name: &str) -> Result<(), UserError> {
    check_user_for(name, Uid::effective(), may_change_user())
}

fn check_user_for(name: &str, own: Uid, may_change_user: bool) -> Result<(), UserError> {
    let look_up = |source| UserError::LookUp { name: name.to_owned(), source };
    let user = User::from_name(name).map_err(look_up)?.ok_or_else(|| UserError::Unknown(name.to_owned()))?;
    if user.uid == own || may_change_user {
        return Ok(());
    }
    let own = match User::from_uid(own) {
        Ok(Some(user)) => user.name,
        // Only for the message: the number says it too.
        Ok(None) | Err(_) => format!("uid {own}"),
    };
    Err(UserError::NoPrivilege { name: name.to_owned(), own })
}

/// Root's power to become somebody else may have been taken from root, or given to somebody else.
pub(crate) fn may_change_user() -> bool {
    const CAP_SETGID: u64 = 1 << 6;
    const CAP_SETUID: u64 = 1 << 7;
    let effective = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    // Without /proc nothing is known but who we are.
    effective.map_or(Uid::effective().is_root(), |set| set & CAP_SETGID != 0 && set & CAP_SETUID != 0)
}

fn check_program_for(program: &Path, own: u32) -> Result<PathBuf, ProgramError> {
    if !program.is_absolute() {
        return Err(ProgramError::NotAbsolute(program.to_owned()));
    }
    if program.components().any(|part| part == Component::ParentDir) {
        return Err(ProgramError::ParentFolder(program.to_owned()));
    }
    let (file, metadata) = walk(program, own)?;
    if !metadata.is_file() {
        return Err(ProgramError::NotAFile(file));
    }
    let executable = nix::unistd::eaccess(&file, AccessFlags::X_OK).is_ok();
    if metadata.mode() & EXECUTE == 0 || !executable {
        return Err(ProgramError::NotExecutable(file));
    }
    Ok(file)
}

/// Goes from `/` to the file, one component after the other, and looks at each.
fn walk(program: &Path, own: u32) -> Result<(PathBuf, Metadata), ProgramError> {
    let look = |at: &Path| {
        at.symlink_metadata().map_err(|source| ProgramError::Unreadable {
            program: program.to_owned(),
            at: at.to_owned(),
            source,
        })
    };
    let mut at = PathBuf::from("/");
    let mut metadata = look(&at)?;
    refuse_writable(program, &at, &metadata, own)?;
    let mut left: Vec<OsString> = parts_reversed(program);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == ".." {
            at.pop();
            metadata = look(&at)?;
            continue;
        }
        let folder = metadata;
        at.push(part);
        metadata = look(&at)?;
        refuse_replaceable(program, &at, &metadata, &folder, own)?;
        if metadata.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(ProgramError::TooManyLinks(program.to_owned()));
            }
            let target = at.read_link().map_err(|source| ProgramError::Unreadable {
                program: program.to_owned(),
                at: at.clone(),
                source,
            })?;
            left.extend(parts_reversed(&target));
            if target.is_absolute() {
                at = PathBuf::from("/");
            } else {
                at.pop();
            }
            metadata = look(&at)?;
        } else {
            refuse_writable(program, &at, &metadata, own)?;
        }
    }
    Ok((at, metadata))
}

fn parts_reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// A file or folder that others may write. A sticky folder is let pass here: what counts is whose the entry in it is.
fn refuse_writable(program: &Path, at: &Path, metadata: &Metadata, own: u32) -> Result<(), ProgramError> {
    let mode = metadata.mode();
    let (what, fix) = if metadata.uid() != 0 && metadata.uid() != own {
        ("belongs to another user than root and mainstay's own", format!("chown root {}", at.display()))
    } else if metadata.is_dir() && mode & STICKY != 0 || mode & GROUP_OR_OTHERS_WRITE == 0 {
        return Ok(());
    } else if mode & OTHERS_WRITE != 0 {
        ("may be written by everybody", format!("chmod go-w {}", at.display()))
    } else {
        ("may be written by its group", format!("chmod g-w {}", at.display()))
    };
    Err(ProgramError::Writable { program: program.to_owned(), at: at.to_owned(), what, fix })
}

/// In a sticky folder that others may write, only an entry's owner (and the folder's) can replace it. That is enough
/// when the entry is root's or our own: programs below /tmp can be run, another user's cannot.
fn refuse_replaceable(
    program: &Path,
    at: &Path,
    metadata: &Metadata,
    folder: &Metadata,
    own: u32,
) -> Result<(), ProgramError> {
    if folder.mode() & GROUP_OR_OTHERS_WRITE == 0 || metadata.uid() == 0 || metadata.uid() == own {
        return Ok(());
    }
    Err(ProgramError::Writable {
        program: program.to_owned(),
        at: at.to_owned(),
        what: "lies in a folder that everybody may write and belongs to another user than root and mainstay's own",
        fix: "move it to a folder of root's".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A program, in a folder of ours.
    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { dir: tempfile::tempdir().unwrap() };
            std::fs::create_dir(place.at("bin")).unwrap();
            std::fs::write(place.at("bin/start"), "#!/bin/sh\n").unwrap();
            place.chmod("bin", 0o755);
            place.chmod("bin/start", 0o755);
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(name)
        }

        fn chmod(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
        }

        #[track_caller]
        fn refused(&self, name: &str, words: &[&str]) {
            let error = check_program(&self.at(name)).unwrap_err().to_string();
            assert!(words.iter().all(|words| error.contains(words)), "{error}");
        }

        #[track_caller]
        fn accepted(&self, name: &str, file: &str) {
            assert_eq!(check_program(&self.at(name)).unwrap(), self.at(file));
        }
    }

    /// Makes the file somebody else's; gives who is meant by "we" then.
    fn give_away(path: &Path) -> u32 {
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
            return 0;
        }
        Uid::effective().as_raw() + 1
    }

    #[test]
    fn a_program_of_the_system_and_one_of_ours_are_accepted() {
        let shell = check_program(Path::new("/bin/sh")).unwrap();
        assert!(shell.is_file() && !shell.is_symlink(), "{}", shell.display());
        Place::new().accepted("bin/start", "bin/start");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let place = Place::new();
        place.refused("bin/stop", &["cannot be run: looking at", "bin/stop failed: No such file"]);
        place.refused("bin", &["is not a regular file"]);
        place.refused("bin/start/x", &["bin/start/x failed: Not a directory"]);
        place.chmod("bin/start", 0o644);
        place.refused("bin/start", &["bin/start is not executable", "chmod +x"]);
        let error = check_program(Path::new("bin/start")).unwrap_err().to_string();
        assert_eq!(error, "bin/start is not an absolute path: give the program's full path");
        let error = check_program(&place.at("bin/../bin/start")).unwrap_err().to_string();
        assert!(error.contains("has .. in it"), "{error}");
    }

    #[test]
    fn what_others_may_write_is_refused_and_the_way_out_is_told() {
        let place = Place::new();
        let (folder, file) = (place.at("bin"), place.at("bin/start"));
        place.chmod("bin/start", 0o775);
        place.refused("bin/start", &["may be written by its group", &format!("chmod g-w {}", file.display())]);
        place.chmod("bin/start", 0o757);
        place.refused("bin/start", &["may be written by everybody", &format!("chmod go-w {}", file.display())]);
        place.chmod("bin/start", 0o755);
        place.chmod("bin", 0o775);
        place.refused("bin/start", &["may be written by its group", &format!("chmod g-w {}", folder.display())]);
        place.chmod("bin", 0o777);
        place.refused("bin/start", &["may be written by everybody", &format!("chmod go-w {}", folder.display())]);
        place.chmod("bin", 0o755);
        place.accepted("bin/start", "bin/start");
    }

    #[test]
    fn in_a_sticky_folder_what_counts_is_whose_the_entry_is() {
        let place = Place::new();
        place.chmod("bin", 0o1777);
        place.accepted("bin/start", "bin/start");
        let file = place.at("bin/start");
        let own = give_away(&file);
        let look = |path: &Path| path.symlink_metadata().unwrap();
        let error = refuse_replaceable(&file, &file, &look(&file), &look(&place.at("bin")), own).unwrap_err();
        assert!(error.to_string().contains("lies in a folder that everybody may write"), "{error}");
    }

    #[test]
    fn what_is_another_users_is_refused() {
        let place = Place::new();
        let file = place.at("bin/start");
        let own = give_away(&file);
        let error = refuse_writable(&file, &file, &file.metadata().unwrap(), own).unwrap_err().to_string();
        assert!(error.contains("belongs to another user") && error.contains("chown root"), "{error}");
    }

    #[test]
    fn links_are_followed_and_so_is_what_they_go_through() {
        let place = Place::new();
        std::fs::create_dir(place.at("etc")).unwrap();
        place.chmod("etc", 0o755);
        symlink("../bin/start", place.at("etc/relative")).unwrap();
        symlink(place.at("bin"), place.at("etc/bin")).unwrap();
        symlink("loop", place.at("etc/loop")).unwrap();
        place.accepted("etc/relative", "bin/start");
        place.accepted("etc/bin/start", "bin/start");
        place.refused("etc/loop", &["more than 40 symbolic links"]);
        // The folder a link leads to, and the folder a link lies in.
        place.chmod("bin", 0o777);
        let bin = place.at("bin").display().to_string();
        place.refused("etc/relative", &[&bin, "may be written by everybody"]);
        place.refused("etc/bin/start", &[&bin, "may be written by everybody"]);
        place.chmod("bin", 0o755);
        place.chmod("etc", 0o777);
        place.refused("etc/relative", &[&place.at("etc").display().to_string(), "may be written by everybody"]);
    }

    #[test]
    fn a_user_is_checked_before_anything_is_run() {
        let root = Uid::from_raw(0);
        assert!(check_user_for("root", root, true).is_ok());
        assert!(check_user_for("root", root, false).is_ok(), "nothing has to be changed for it");
        assert_eq!(
            check_user_for("no-such-user", root, true).unwrap_err().to_string(),
            "there is no user no-such-user on this node"
        );
        let error = check_user_for("root", Uid::from_raw(4_000_000_000), false).unwrap_err().to_string();
        assert!(error.contains("mainstay runs as uid 4000000000 and may not become another user"), "{error}");
    }
}
