//! The smallest kit. It protects nothing: whatever it is told succeeds, and it is always healthy.

// The kit trait, its types, and the capabilities.
use mainstay_sdk::prelude::*;

// A kit is a type without a value: every call has a fresh instance, so there is nothing to keep in it.
struct Null;

// The four operations every kit has.
impl Kit for Null {
    // What an operator writes under `params`: here nothing, and anything written is refused.
    type Params = NoParams;

    // Brings the resource in service. There is nothing to do, and the answer says so.
    fn restore(_: &Context<NoParams>) -> Result<Done, Error> {
        Ok(Done::unchanged("there is nothing to bring in service"))
    }

    // Takes it out of service. Ok is a promise: nothing of it is left here.
    fn remove(_: &Context<NoParams>) -> Result<Done, Error> {
        Ok(Done::unchanged("there is nothing to take out of service"))
    }

    // Looks and changes nothing. The summary is for the person who reads `status`; `concurrent` says that
    // healthy on one node does not mean that it is out of service on the others.
    fn quick_check(_: &Context<NoParams>) -> Result<Report, Error> {
        Ok(Report::healthy("nothing is protected, so nothing is wrong").detail("concurrent", "true"))
    }

    // Repairs on this node. What a check found bad has always healed by now.
    fn recover(_: &Context<NoParams>, _: &Failure) -> Result<RecoveryResult, Error> {
        Ok(RecoveryResult::recovered("there was nothing to repair"))
    }
}

// Makes a component of it. It needs no capability, not even the log: it has nothing in it that panics.
mainstay_sdk::export_kit!(Null, needs: [], panics: silent);
