//! The ladder, for one resource in service here: what a check means, and what is done about it.
//!
//! Tolerate so many bad checks, then repair locally so often in a window, then no more can be done here. A bad
//! check is looked at a second time at once; one that timed out is not a bad one and has its own count; one
//! that cannot tell is never taken as failed. Decides from what it is told; knows no time beyond what
//! it is given, and calls nothing.

use alloc::string::String;

use crate::spec::Recovery;

/// Checks in a row that cannot tell, before it is said aloud. Nothing else is done about them.
pub const UNKNOWN_CHECKS_ALARM: u32 = 3;

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It serves.
    Good,
    /// It does not: why.
    Bad(String),
    /// The check ran out of time: what it was doing.
    TimedOut(String),
    /// It could not tell: why.
    CannotTell(String),
}

/// Where on the ladder the resource is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is wrong.
    #[default]
    Good,
    /// One check was bad; the second look is under way.
    SecondLook(String),
    /// It is bad, and tolerated, or waits for something else that is bad.
    Bad(String),
    /// Local recovery is under way.
    Recovering(String),
    /// Local recovery said it did it; a look says whether it did.
    Verifying(String),
    /// No more can be done here.
    Exhausted(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing but the next check when it is due.
    Wait,
    /// Look again at once.
    LookAgain,
    /// Repair: what was found, and how.
    Recover {
        /// `quick-check`, `deep-check` or `timeout`.
        found_by: &'static str,
        /// What was found.
        why: String,
    },
    /// No more can be done here: why.
    GiveUp(String),
}

/// One resource's place on the ladder.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    stage: Stage,
    bad: u32,
    timed_out: u32,
    cannot_tell: u32,
    /// What the last check that could not tell said.
    blind: Option<String>,
    /// Somebody wants it tried again, and no check has come to anything since.
    anew: bool,
}

/// What the ladder has to know that it does not keep.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The numbers.
    pub recovery: Recovery,
    /// Local recoveries in the window so far.
    pub recent_recoveries: u32,
}

impl Ladder {
    /// Where it is.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Confirmed bad checks in a row.
    #[must_use]
    pub fn bad_checks(&self) -> u32 {
        self.bad
    }

    /// Whether something is wrong that is being dealt with or that nothing can be done about.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.stage != Stage::Good
    }

    /// Whether something is wrong that is being dealt with: it is not known yet what comes of it.
    #[must_use]
    pub fn is_dealt_with(&self) -> bool {
        !matches!(self.stage, Stage::Good | Stage::Exhausted(_))
    }

    /// Why the last check could not tell, if it could not.
    #[must_use]
    pub fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    /// Whether so many checks in a row could not tell that a person should know.
    #[must_use]
    pub fn is_blind_for_long(&self) -> bool {
        self.cannot_tell >= UNKNOWN_CHECKS_ALARM
    }

    /// A check has come to something: `by` is which one it was.
    pub fn checked(&mut self, seen: Seen, by: &'static str, policy: Policy) -> Step {
        self.anew = false;
        match seen {
            Seen::Good => {
                *self = Self::default();
                Step::Wait
            }
            Seen::CannotTell(why) => {
                self.cannot_tell += 1;
                self.blind = Some(why);
                // A second look or a look after a repair that cannot tell has not confirmed anything.
                match &self.stage {
                    Stage::SecondLook(_) => self.stage = Stage::Good,
                    Stage::Verifying(why) => self.stage = Stage::Bad(why.clone()),
                    Stage::Good | Stage::Bad(_) | Stage::Recovering(_) | Stage::Exhausted(_) => {}
                }
                Step::Wait
            }
            Seen::TimedOut(why) => {
                self.sees();
                self.timed_out += 1;
                if self.timed_out <= policy.recovery.tolerate_timeouts {
                    self.blind = Some(why);
                    if let Stage::SecondLook(_) = self.stage {
                        self.stage = Stage::Good;
                    }
                    return Step::Wait;
                }
                self.repair("timeout", why, policy)
            }
            Seen::Bad(why) => {
                self.sees();
                self.timed_out = 0;
                match self.stage {
                    Stage::Good => {
                        self.stage = Stage::SecondLook(why);
                        Step::LookAgain
                    }
                    Stage::SecondLook(_)
                    | Stage::Bad(_)
                    | Stage::Recovering(_)
                    | Stage::Verifying(_)
                    | Stage::Exhausted(_) => {
                        self.bad += 1;
                        if self.bad <= policy.recovery.tolerate {
                            self.stage = Stage::Bad(why);
                            return Step::Wait;
                        }
                        self.repair(by, why, policy)
                    }
                }
            }
        }
    }

    /// Somebody who has looked wants it tried again: what was given up or tolerated begins with a second look. What is
    /// being repaired goes on.
    pub fn anew(&mut self) {
        if let Stage::SecondLook(why) | Stage::Bad(why) | Stage::Exhausted(why) = &self.stage {
            *self = Self { stage: Stage::SecondLook(why.clone()), anew: true, ..Self::default() };
        }
    }

    /// Whether what was bad is about to be looked at because somebody wants it tried again.
    #[must_use]
    pub fn is_anew(&self) -> bool {
        self.anew
    }

    /// The repair that [`Step::Recover`] asked for has to wait, because of something else that is bad.
    pub fn hold(&mut self) {
        if let Stage::Recovering(why) = &self.stage {
            self.stage = Stage::Bad(why.clone());
            self.bad = self.bad.saturating_sub(1);
        }
    }

    /// Local recovery says it did it: look at once.
    pub fn recovered(&mut self) -> Step {
        if let Stage::Recovering(why) = &self.stage {
            self.stage = Stage::Verifying(why.clone());
        }
        Step::LookAgain
    }

    /// Local recovery did not do it: again, if that may help and the window allows, else no more can be done.
    pub fn recovery_failed(&mut self, why: String, again: bool, policy: Policy) -> Step {
        if again {
            return self.repair("quick-check", why, policy);
        }
        self.exhausted(why)
    }

    fn sees(&mut self) {
        self.cannot_tell = 0;
        self.blind = None;
    }

    fn repair(&mut self, found_by: &'static str, why: String, policy: Policy) -> Step {
        let Recovery { attempts, window, .. } = policy.recovery;
        // What was given up is tried again only once the window has passed without a repair.
        if let Stage::Exhausted(why) = &self.stage
            && policy.recent_recoveries > 0
        {
            return Step::GiveUp(why.clone());
        }
        if attempts == 0 {
            return self.exhausted(alloc::format!("{why}; local recovery is switched off"));
        }
        if policy.recent_recoveries >= attempts {
            return self.exhausted(alloc::format!(
                "{why}; not helped by {attempts} local recover{} in {window}",
                if attempts == 1 { "y" } else { "ies" }
            ));
        }
        self.stage = Stage::Recovering(why.clone());
        Step::Recover { found_by, why }
    }

    fn exhausted(&mut self, why: String) -> Step {
        self.stage = Stage::Exhausted(why.clone());
        Step::GiveUp(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;
    use std::string::ToString;
    use std::vec::Vec;

    struct Case {
        ladder: Ladder,
        recovery: Recovery,
        recent: u32,
    }

    impl Case {
        fn new(tolerate: u32, tolerate_timeouts: u32, attempts: u32) -> Self {
            let recovery = Recovery { tolerate, tolerate_timeouts, attempts, window: Millis::from_mins(10) };
            Self { ladder: Ladder::default(), recovery, recent: 0 }
        }

        fn policy(&self) -> Policy {
            Policy { recovery: self.recovery, recent_recoveries: self.recent }
        }

        fn see(&mut self, seen: Seen) -> Step {
            let policy = self.policy();
            let step = self.ladder.checked(seen, "quick-check", policy);
            if matches!(step, Step::Recover { .. }) {
                self.recent += 1;
            }
            step
        }

        fn bad(&mut self) -> Step {
            self.see(Seen::Bad("no answer".into()))
        }
    }

    fn recover(found_by: &'static str) -> Step {
        Step::Recover { found_by, why: "no answer".into() }
    }

    #[test]
    fn a_bad_check_is_looked_at_again_before_anything_is_done() {
        let mut case = Case::new(0, 2, 2);
        assert_eq!(case.bad(), Step::LookAgain);
        assert_eq!(case.see(Seen::Good), Step::Wait);
        assert!(!case.ladder.is_suspect());
        assert_eq!(case.bad(), Step::LookAgain);
        assert_eq!(case.bad(), recover("quick-check"));
    }

    #[test]
    fn confirmed_bad_checks_are_tolerated_so_often() {
        let mut case = Case::new(2, 2, 2);
        let steps: Vec<Step> = (0..4).map(|_| case.bad()).collect();
        assert_eq!(steps, [Step::LookAgain, Step::Wait, Step::Wait, recover("quick-check")]);
    }

    #[test]
    fn a_timed_out_check_is_not_a_failed_one() {
        let mut case = Case::new(0, 2, 2);
        let timed_out = || Seen::TimedOut("no answer".into());
        assert_eq!(case.see(timed_out()), Step::Wait);
        assert_eq!(case.see(timed_out()), Step::Wait);
        assert_eq!(case.see(Seen::Good), Step::Wait);
        assert_eq!(case.see(timed_out()), Step::Wait);
        assert_eq!(case.see(timed_out()), Step::Wait);
        assert_eq!(case.see(timed_out()), recover("timeout"));
    }

    #[test]
    fn a_check_that_cannot_tell_leads_to_nothing_but_words() {
        let mut case = Case::new(0, 0, 2);
        for _ in 0..10 {
            assert_eq!(case.see(Seen::CannotTell("no permission".into())), Step::Wait);
        }
        assert!(!case.ladder.is_suspect());
        assert!(case.ladder.is_blind_for_long());
        assert_eq!(case.ladder.blind(), Some("no permission"));
        assert_eq!(case.bad(), Step::LookAgain);
        assert_eq!(case.see(Seen::CannotTell("no permission".into())), Step::Wait, "the second look confirms nothing");
        assert_eq!(case.bad(), Step::LookAgain);
        assert_eq!(case.bad(), recover("quick-check"));
    }

    #[test]
    fn recovery_is_looked_at_and_tried_only_so_often() {
        let mut case = Case::new(0, 2, 2);
        case.bad();
        assert_eq!(case.bad(), recover("quick-check"));
        assert_eq!(case.ladder.recovered(), Step::LookAgain);
        assert_eq!(case.bad(), recover("quick-check"), "it did not help");
        case.ladder.recovered();
        assert_eq!(case.bad(), Step::GiveUp("no answer; not helped by 2 local recoveries in 10m".to_string()));
        assert_eq!(case.bad(), Step::GiveUp("no answer; not helped by 2 local recoveries in 10m".to_string()));
        case.recent = 1;
        assert!(matches!(case.bad(), Step::GiveUp(_)), "one of them still counts");
        case.recent = 0;
        assert_eq!(case.bad(), recover("quick-check"), "the window has passed");
    }

    #[test]
    fn what_heals_by_itself_is_good_again() {
        let mut case = Case::new(0, 2, 0);
        case.bad();
        assert_eq!(case.bad(), Step::GiveUp("no answer; local recovery is switched off".to_string()));
        assert_eq!(case.see(Seen::Good), Step::Wait);
        assert_eq!(*case.ladder.stage(), Stage::Good);
    }

    #[test]
    fn giving_up_ends_the_ladder_and_an_error_may_be_tried_again() {
        let mut case = Case::new(0, 2, 2);
        case.bad();
        case.bad();
        let policy = case.policy();
        assert_eq!(
            case.ladder.recovery_failed("disk is gone".into(), true, policy),
            Step::Recover { found_by: "quick-check", why: "disk is gone".into() }
        );
        assert_eq!(
            case.ladder.recovery_failed("disk is gone".into(), false, policy),
            Step::GiveUp("disk is gone".to_string())
        );
        assert_eq!(case.recent, 1, "a second one would be allowed");
        assert_eq!(case.bad(), Step::GiveUp("disk is gone".to_string()), "but the kit said that it does not help");
    }

    #[test]
    fn what_was_given_up_begins_anew_when_somebody_wants_it_to() {
        let mut case = Case::new(0, 2, 1);
        case.bad();
        assert_eq!(case.bad(), recover("quick-check"));
        case.ladder.anew();
        assert_eq!(*case.ladder.stage(), Stage::Recovering("no answer".into()), "what is being repaired goes on");
        case.ladder.recovered();
        assert!(matches!(case.bad(), Step::GiveUp(_)) && !case.ladder.is_dealt_with());
        case.ladder.anew();
        case.recent = 0;
        assert!(case.ladder.is_dealt_with() && case.ladder.is_anew(), "nobody has looked yet");
        assert_eq!(case.bad(), recover("quick-check"));
        assert!(!case.ladder.is_anew());
        let mut well = Ladder::default();
        well.anew();
        assert!(!well.is_suspect());
    }

    #[test]
    fn a_repair_that_has_to_wait_is_asked_for_again() {
        let mut case = Case::new(0, 2, 2);
        case.bad();
        assert_eq!(case.bad(), recover("quick-check"));
        case.ladder.hold();
        assert!(case.ladder.is_suspect());
        assert_eq!(case.bad(), recover("quick-check"));
    }
}
