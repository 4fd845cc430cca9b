//! Runs one program so that it outlives the daemon.
//!
//! Two halves, two processes. The *supervisor* ([`supervise`]) is one small process per command: it owns the program's
//! output, deadline and process tree, and leaves its outcome in the command's folder. The *client* ([`Commands`]) is the
//! daemon's: it starts supervisors, hears from them, and after a restart finds what an earlier daemon left. What the two
//! agree on is in `folder.rs`; why there are two, in `docs/decisions/0001-supervisor-room.md`.
//!
//! ```no_run
//! use mainstay_supervisor::{Commands, Ending, Owner, Request, SupervisorExe};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let commands = Commands::open("/var/lib/mainstay/commands".as_ref(), SupervisorExe::own())?;
//! for leftover in commands.leftovers().await? {
//!     let end = leftover.await_end().await?; // or `end()`
//!     println!("{} of {}: {end:?}", leftover.owner().operation, leftover.owner().tag);
//! }
//!
//! let owner = Owner { tag: "mail".into(), operation: "restore".into(), operation_id: "7f3a".into() };
//! let mut request = Request::new(owner, "/opt/mail/start");
//! request.keep_children = true; // it leaves its daemon in the background
//! let mut running = commands.start(request).await?;
//! let outcome = running.outcome().await?; // or `cancel()`; dropped, it is cancelled in the background
//! assert_eq!(outcome.ending, Ending::Exited(0));
//! # Ok(()) }
//! ```
//!
//! It knows no kit, no tree and no peer, and decides nothing about them. It never runs a shell, never looks a program
//! up, and never signals a process by its number alone.

mod cgroup;
pub mod check;
pub mod client;
mod descriptors;
mod events;
mod evidence;
mod folder;
mod launch;
mod orphans;
mod output;
mod process;
mod supervise;
mod sys;
mod tree;
pub mod types;

pub use check::{ProgramError, UserError, check_program, check_user};
pub use client::{
    Commands, FolderError, Leftover, LeftoverEnd, LeftoverState, OutcomeError, Running, StartError, SupervisorExe,
};
pub use descriptors::raise_descriptor_limit;
pub use process::Identity;
pub use supervise::supervise;
pub use types::{
    ARGUMENTS_BYTES_MAX, Ending, Evidence, LaunchFailure, MARKER, OUTPUT_BYTES_MAX, Outcome, Owner, ProcessInfo,
    Request, STDIN_BYTES_MAX, Stage, TIMEOUT_MS_MAX,
};
