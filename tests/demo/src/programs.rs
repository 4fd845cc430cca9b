//! The programs by which mainstay handles the shop: four shell scripts, as an administrator writes them.
//!
//! The GenApp kit calls each with `-t TAG -i ID`; the id is the node's name here, and names its folder.

use std::path::{Path, PathBuf};

use mainstay_test_support::TempDir;

use crate::trouble::Trouble;

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Starts the shop.
    pub(crate) restore: PathBuf,
    /// Stops it.
    pub(crate) remove: PathBuf,
    /// Asks it.
    pub(crate) quick_check: PathBuf,
    /// Starts it anew.
    pub(crate) recover: PathBuf,
}

impl Programs {
    /// Writes them into `bin` of `folder`. `demo` is the program that the shop is part of.
    pub(crate) fn write(folder: &TempDir, demo: &Path) -> Result<Self, Trouble> {
        folder.folder("bin");
        let demo = shell_word(demo)?;
        let below = shell_word(folder.path())?;
        let script = |name: &str, what: &str, does: &str| {
            let body = format!(
                "# {name} -t TAG -i ID: {what} The id is the node, and names the folder of its shop.\n\
                 shop={demo}\nhome={below}/$4\n{does}"
            );
            folder.script(format!("bin/{name}"), &body)
        };
        Ok(Self {
            restore: script(
                "restore",
                "starts the shop in the background, and ends when it answers.",
                "exec \"$shop\" shop start --home \"$home\"",
            ),
            remove: script("remove", "stops the shop.", "exec \"$shop\" shop stop --home \"$home\""),
            quick_check: script(
                "quick-check",
                "does the shop answer as it should?",
                "exec \"$shop\" shop check --home \"$home\"",
            ),
            recover: script(
                "recover",
                "starts the shop anew.",
                "\"$shop\" shop stop --home \"$home\" || exit\nexec \"$shop\" shop start --home \"$home\"",
            ),
        })
    }
}

/// A path as one word of a shell, whatever is in it.
pub(crate) fn shell_word(path: &Path) -> Result<String, Trouble> {
    let text = path.to_str().ok_or_else(|| Trouble::NotUtf8(path.to_owned()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { Ok(text.to_owned()) } else { Ok(format!("'{}'", text.replace('\'', r"'\''"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_shell_reads_back_every_path() {
        assert_eq!(shell_word(Path::new("/usr/bin/x-1.2_3")).unwrap(), "/usr/bin/x-1.2_3");
        for path in ["/a b", "/it's", "/$HOME/`x`", "/a\"b\\c;d&", "/ä"] {
            let word = shell_word(Path::new(path)).unwrap();
            let said = Command::new("/bin/sh").args(["-c", &format!("printf %s {word}")]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), path);
        }
    }

    #[test]
    fn the_programs_pass_on_the_node_and_the_exit_code() {
        let folder = TempDir::new();
        let demo = folder.script("the demo", "echo \"$@\"; exit 3");
        let programs = Programs::write(&folder, &demo).unwrap();
        let home = folder.join("ex02");
        for (program, does) in [
            (programs.restore, "start"),
            (programs.remove, "stop"),
            (programs.quick_check, "check"),
            (programs.recover, "stop"),
        ] {
            let ended = Command::new(program).args(["-t", "shop", "-i", "ex02"]).output().unwrap();
            assert_eq!(ended.status.code(), Some(3));
            assert_eq!(String::from_utf8_lossy(&ended.stdout), format!("shop {does} --home {}\n", home.display()));
        }
    }
}
