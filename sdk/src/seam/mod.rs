//! The one seam between kit logic and the host.
//!
//! Every capability goes through the functions here and nothing else does. In a component they are the
//! contract's imports; natively they reach the thread's [`crate::testing::FakeHost`]. They are plain
//! functions, not a trait object, so that the linker can drop every import a kit never calls.

#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::*;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;
