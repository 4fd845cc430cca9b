//! Certificates as an operator makes them: by `mainstay cluster init` and `mainstay node add`.

use std::path::Path;
use std::process::Command;

use crate::TempDir;

/// A cluster's authority, in a folder that is gone with it.
#[derive(Debug)]
pub struct Authority {
    mainstay: std::path::PathBuf,
    folder: TempDir,
}

impl Authority {
    /// Makes one with this binary.
    ///
    /// # Panics
    /// When it does not make one; the text is what it said.
    #[must_use]
    pub fn new(mainstay: &Path, cluster: &str) -> Self {
        let authority = Self { mainstay: mainstay.to_owned(), folder: TempDir::new() };
        authority.run(&["cluster", "init", "--cluster", cluster], &[]);
        authority
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the files of a node, in a folder that is made if it is not there.
    ///
    /// # Panics
    /// When it does not make them; the text is what it said.
    pub fn node(&self, name: &str, out: &Path) {
        self.run(&["node", "add", name], &["--out".as_ref(), out]);
    }

    fn run(&self, what: &[&str], more: &[&Path]) {
        let mut command = Command::new(&self.mainstay);
        command.args(what).arg("--dir").arg(self.folder.path()).args(more);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
}
