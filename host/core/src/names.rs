//! Names. Each kind has a type of its own, so that a node's name is never taken for a tag.

use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: a tag is part of file names and of lines that people read.
pub const NAME_BYTES_MAX: usize = 64;

/// What is wrong with a name, if anything: names are of letters, digits, `.`, `_` and `-`, begin with a letter
/// or a digit, and have at most [`NAME_BYTES_MAX`] bytes.
#[must_use]
pub fn problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("a name has at least one character");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("a name has at most 64 characters");
    }
    if !name.as_bytes()[0].is_ascii_alphanumeric() {
        return Some("a name begins with a letter or a digit");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Some("a name is of letters, digits, `.`, `_` and `-`");
    }
    None
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name, taken as it is: [`problem`] says whether it is one.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    )* };
}

names! {
    /// A node's.
    NodeName;
    /// A resource's; unique in the cluster.
    Tag;
    /// A hierarchy's.
    HierarchyName;
    /// A comm path's.
    PathName;
    /// A kit's.
    KitName;
    /// A mirrored volume's; unique in the cluster.
    VolumeName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_name() {
        for fine in ["a", "ex01", "Mail_Store", "node1.example.org", "7"] {
            assert_eq!(problem(fine), None, "{fine}");
        }
        let long = "x".repeat(65);
        for wrong in ["", "-a", ".a", "..", "a/b", "a b", "é", "a\n", long.as_str()] {
            assert!(problem(wrong).is_some(), "{wrong:?}");
        }
    }
}
