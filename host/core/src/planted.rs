//! Bugs that are planted on purpose, each changing one decision, to see that the simulation finds it (`just sim-bugs`).
//!
//! Each is a cargo feature that is off in everything that is ever delivered. To add one: a line in `Cargo.toml`, a line
//! here, the decision it spoils, and what finds it in `tests/sim/src/bugs.rs`.

/// O2, O23: calls of kits do not wait for what they rest on.
pub(crate) const CALLS_BEFORE_RECORDS: bool = cfg!(feature = "bug-calls-before-records");
/// O2: what is said to peers does not wait for what it rests on.
pub(crate) const TELLS_BEFORE_RECORDS: bool = cfg!(feature = "bug-tells-before-records");
/// O3: a daemon that starts needs no proof.
pub(crate) const NO_PROOF_AT_START: bool = cfg!(feature = "bug-no-proof-at-start");
/// O18: an offer is taken although it may be old.
pub(crate) const TAKES_ANY_OFFER: bool = cfg!(feature = "bug-takes-any-offer");
/// O18: an offer is taken back although it was not declined.
pub(crate) const TAKES_BACK_AT_ONCE: bool = cfg!(feature = "bug-takes-back-at-once");
/// O19: what could not be removed counts as removed.
pub(crate) const REMOVE_MAY_FAIL: bool = cfg!(feature = "bug-remove-may-fail");
/// O1: whoever holds a lower claim keeps what it has.
pub(crate) const STALE_OWNER_STAYS: bool = cfg!(feature = "bug-stale-owner-stays");
/// O7: a machine whose kernel answers is taken for dead.
pub(crate) const HANGS_IS_DEAD: bool = cfg!(feature = "bug-hangs-is-dead");
/// O8, O11: comm paths that fell silent one after the other are as good as all at once.
pub(crate) const JEOPARDY_IGNORED: bool = cfg!(feature = "bug-jeopardy-ignored");
/// O15: a fence that failed is proof.
pub(crate) const FENCE_ALWAYS_PROVES: bool = cfg!(feature = "bug-fence-always-proves");
/// O13: a permit counts from when its renewal was answered.
pub(crate) const PERMIT_FROM_ANSWER: bool = cfg!(feature = "bug-permit-from-answer");
/// O13: a renewed lease is taken for a permit.
pub(crate) const LEASE_IS_A_PERMIT: bool = cfg!(feature = "bug-lease-is-a-permit");
/// O12: a promise not to claim is not kept.
pub(crate) const PROMISE_NOT_KEPT: bool = cfg!(feature = "bug-promise-not-kept");
/// O10: a confirmation is good for whatever the alarm is about by now.
pub(crate) const CONFIRMS_ANYTHING: bool = cfg!(feature = "bug-confirms-anything");
/// O13: the guardian is not told of a permit's end.
pub(crate) const GUARDIAN_NOT_TOLD: bool = cfg!(feature = "bug-guardian-not-told");
