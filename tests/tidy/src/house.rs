//! The files of the repository, as plain data.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file under version control.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative to the root, with `/` between the parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl File {
    /// A made-up file, for the checks' own tests.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Does it end in `.extension`?
    pub fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|it| it == extension)
    }
}

/// The root of the workspace this crate was built in.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Every text file that git tracks under `root`; without git (a release archive), every one that is there.
/// A file that is not UTF-8 is left out: nothing here has anything to say about it.
pub fn files(root: &Path) -> std::io::Result<Vec<File>> {
    let mut paths = match Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output() {
        Ok(listed) if listed.status.success() => String::from_utf8_lossy(&listed.stdout)
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect(),
        _ => {
            let mut paths = Vec::new();
            walk(root, root, &mut paths)?;
            paths
        }
    };
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        match std::fs::read_to_string(root.join(&path)) {
            Ok(text) => files.push(File { path, text }),
            // Not text, or tracked and just deleted.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::NotFound) => {}
            Err(error) => {
                return Err(std::io::Error::new(error.kind(), format!("{path}: {error}")));
            }
        }
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(root, &entry.path(), paths)?;
        } else if let Ok(path) = entry.path().strip_prefix(root) {
            paths.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join("tests/tidy/src/house.rs").is_file());
    }

    #[test]
    fn a_folder_without_git_is_walked_and_build_output_left_out() {
        let mut paths = Vec::new();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        walk(here, here, &mut paths).unwrap();
        assert!(paths.contains(&"src/house.rs".to_owned()), "{paths:?}");
        assert!(!paths.iter().any(|path| path.starts_with("target/")));
    }
}
