//! Small values of this resource on this node: not replicated, gone with the resource. Needs no grant.
//!
//! Keys are `[a-z0-9.-]{1,64}`; keys and values together at most 64 KiB (`wit/store.wit`).

use crate::{Fault, seam};

/// The value of `key`.
///
/// # Errors
/// `invalid` for a key that cannot exist; `failed` when the host cannot read it.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Fault> {
    seam::store_get(key)
}

/// Sets `key`. Durable and atomic when it returns.
///
/// # Errors
/// `invalid` for a key that cannot exist, `limit` when it would be too much, `failed` when the host cannot write it.
pub fn put(key: &str, value: &[u8]) -> Result<(), Fault> {
    seam::store_put(key, value)
}

/// Forgets `key`; a missing one is no error.
///
/// # Errors
/// `invalid` for a key that cannot exist; `failed` when the host cannot write.
pub fn delete(key: &str) -> Result<(), Fault> {
    seam::store_delete(key)
}

/// Every key there is.
///
/// # Errors
/// `failed` when the host cannot read them.
pub fn keys() -> Result<Vec<String>, Fault> {
    seam::store_keys()
}
