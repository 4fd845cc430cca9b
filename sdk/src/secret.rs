//! Secrets by name, granted one by one.

use crate::{Fault, seam};

/// A secret's bytes. Shows itself as `Secret(..)` in debug output, so that it is not logged by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes. Keep them out of logs, summaries and errors.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The secret called `name`: its file's content, one trailing newline removed.
///
/// # Errors
/// `denied` when it is not granted, `not-found` when there is none, `failed` when the host cannot read it.
pub fn get(name: &str) -> Result<Secret, Fault> {
    seam::secret_get(name).map(Secret)
}
