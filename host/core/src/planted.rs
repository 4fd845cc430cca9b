//! Bugs that are planted on purpose, each spoiling one decision, to see that the simulation finds it (`just sim-bugs`).
//!
//! None can be planted but with the cargo feature `planted-bugs`, which is off in everything that is delivered: without it
//! [`is`] is never true, and the compiler drops what it guards. To add one: a line here, and the decision it spoils; then
//! how soon it is to be found, in `tests/sim/src/bugs.rs`.

/// Makes `Bug`, `plant` and `is` of a list of bugs: for each crate that has some, in a module of its own.
#[macro_export]
macro_rules! plantable {
    ($($(#[$doc:meta])* $name:ident $word:literal;)*) => {
        /// What can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// All of them, by their names.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, $word),)*];
        }

        #[cfg(feature = "planted-bugs")]
        static PLANTED: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(u8::MAX);

        /// From now on this one is in everything of this process; none: no bug is.
        #[cfg(feature = "planted-bugs")]
        pub fn plant(bug: Option<Bug>) {
            PLANTED.store(bug.map_or(u8::MAX, |bug| bug as u8), core::sync::atomic::Ordering::Relaxed);
        }

        /// Whether it is planted.
        #[cfg(feature = "planted-bugs")]
        pub(crate) fn is(bug: Bug) -> bool {
            PLANTED.load(core::sync::atomic::Ordering::Relaxed) == bug as u8
        }

        /// Nothing is.
        #[cfg(not(feature = "planted-bugs"))]
        pub(crate) const fn is(_: Bug) -> bool {
            false
        }
    };
}

plantable! {
    /// O2, O23: calls of kits do not wait for what they rest on.
    CallsBeforeRecords "calls-before-records";
    /// O2: what is said to peers does not wait for what it rests on.
    TellsBeforeRecords "tells-before-records";
    /// O3: a daemon that starts needs no proof.
    NoProofAtStart "no-proof-at-start";
    /// O18: an offer is taken although it may be old.
    TakesAnyOffer "takes-any-offer";
    /// O18: an offer is taken back because its receiver is silent.
    TakesBackFromSilent "takes-back-from-silent";
    /// O19: what could not be removed counts as removed.
    RemoveMayFail "remove-may-fail";
    /// O1: whoever holds a lower claim keeps what it has.
    StaleOwnerStays "stale-owner-stays";
    /// O7: a machine whose kernel answers is taken for dead.
    HangsIsDead "hangs-is-dead";
    /// O8, O11: comm paths that fell silent one after the other are as good as all at once.
    JeopardyIgnored "jeopardy-ignored";
    /// O15: a fence that failed is proof.
    FenceAlwaysProves "fence-always-proves";
    /// O13: a permit counts from when its renewal was answered.
    PermitFromAnswer "permit-from-answer";
    /// O12: a promise not to claim is not kept.
    PromiseNotKept "promise-not-kept";
    /// O13: the guardian is not told of a permit's end.
    GuardianNotTold "guardian-not-told";
    /// O12: what an arbiter says that was restored from a backup is believed, although its counter has gone back.
    GoneBackBelieved "gone-back-believed";
    /// O3, O12: an operator's word that the arbiter was not told is proof to every daemon after the one that heard it.
    OldWordIsProof "old-word-is-proof";
    /// O6: a process that was late takes for silence that it has not listened.
    OwnGapIgnored "own-gap-ignored";
    /// O10: a confirmation counts whatever has become of the claim that it answers.
    LateConfirmation "late-confirmation";
    /// O11: what is taken over may have another config or other kits there.
    DifferencesIgnored "differences-ignored";
    /// VOLUME V1, O2: the right to write is told before the claim is durable.
    RightBeforeRecord "right-before-record";
    /// VOLUME V1: the process of a volume is not told when the permit ends.
    PermitEndNotTold "permit-end-not-told";
    /// VOLUME V1: the process of a volume is not told that its right has ended.
    RightStays "right-stays";
    /// VOLUME V3: a mark that the arbiter has refused, because the record is not what it was, counts as made.
    MarkNotCompared "mark-not-compared";
    /// VOLUME V3: the mark of a copy is said to be made, and its process was not asked.
    MarkNotAsked "mark-not-asked";
    /// VOLUME V4: every promotion rests on the operator's word.
    BasisAlwaysWord "basis-always-word";
}
