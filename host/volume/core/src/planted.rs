//! Bugs that are planted on purpose, each spoiling one decision, to see that the simulation finds it.
//!
//! As in `mainstay_core::planted`: none can be planted but with the cargo feature `planted-bugs`, which is off in
//! everything that is delivered. How soon each is to be found is in `tests/sim/src/volume/bugs.rs`.

mainstay_core::plantable! {
    /// V3: going on alone without the target's mark.
    NoMark "no-mark";
    /// V3: the first write without the peer is acknowledged before the generation is durable.
    GenerationLate "generation-late";
    /// V5: a bit is cleared when the source alone has flushed.
    ClearedEarly "cleared-early";
    /// V5: a write starts before its bit is durable.
    BitLate "bit-late";
    /// V11: a resync covers the source's bits only.
    OwnBitsOnly "own-bits-only";
    /// V12: a target stays good during a resync.
    GoodInResync "good-in-resync";
    /// V12: a target is told that it is whole before both have flushed.
    WholeUnflushed "whole-unflushed";
    /// V7: a flush is acknowledged when the source has flushed.
    FlushHere "flush-here";
    /// V8: resync and writes do not exclude each other.
    NoExclusion "no-exclusion";
    /// V8: overlapping writes are not serialised on the target.
    NoOrder "no-order";
    /// V6: a log that is not believed is an empty set.
    LogBelieved "log-believed";
    /// V11: two that went on alone are taken for source and target.
    DivergedIgnored "diverged-ignored";
    /// V1: requests are answered after the permit has ended.
    PermitIgnored "permit-ignored";
    /// V4: an outdated copy is promoted freely.
    OutdatedPromoted "outdated-promoted";
    /// V3: the source still counts itself as the only one after the target was told that it is whole.
    StillExclusive "still-exclusive";
}
