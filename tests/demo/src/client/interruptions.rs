//! What the answers of a client come to: when it was served, by whom, and what it missed. Pure: told what happened when.

use std::time::{Duration, Instant};

/// Interruptions that are kept: a demo has five; one that is left running to play with forgets the oldest.
const KEPT_MAX: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Interruptions {
    last_good: Option<(Instant, &'static str)>,
    /// The one that lasts.
    now: Option<Interruption>,
    past: Vec<Interruption>,
}

#[derive(Clone, Copy, Debug)]
struct Interruption {
    last_good: Instant,
    /// When the first question had failed; it may have been asked before what made it fail.
    first_bad: Instant,
    first_good: Option<Instant>,
}

/// A change that is worth telling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was good, and is not any more.
    Failing(String),
    /// It is good now.
    Good {
        /// Who serves.
        node: &'static str,
        /// How long it was not; none: it is the first time.
        missed: Option<Duration>,
    },
}

impl Interruptions {
    /// A question had this answer at this moment: the node that serves, or why there is none.
    pub(super) fn asked(&mut self, ended: Instant, answer: Result<&'static str, String>) -> Option<Turn> {
        match answer {
            Ok(node) => {
                let first = self.last_good.replace((ended, node)).is_none();
                if let Some(mut over) = self.now.take() {
                    over.first_good = Some(ended);
                    if self.past.len() == KEPT_MAX {
                        self.past.remove(0);
                    }
                    self.past.push(over);
                    return Some(Turn::Good { node, missed: Some(ended - over.last_good) });
                }
                first.then_some(Turn::Good { node, missed: None })
            }
            Err(why) => {
                // Before the first good answer there is nothing that could be interrupted.
                let (last_good, _) = self.last_good?;
                if self.now.is_some() {
                    return None;
                }
                self.now = Some(Interruption { last_good, first_bad: ended, first_good: None });
                Some(Turn::Failing(why))
            }
        }
    }

    /// Who serves, if the newest answer was good and came after `moment`.
    pub(super) fn serving_since(&self, moment: Instant) -> Option<&'static str> {
        let (at, node) = self.last_good?;
        (self.now.is_none() && at > moment).then_some(node)
    }

    /// What was missed since `moment`, all interruptions together; none while one still lasts.
    pub(super) fn outage(&self, moment: Instant) -> Option<Duration> {
        if self.now.is_some() {
            return None;
        }
        self.past.iter().filter(|it| it.first_bad > moment).map(|it| Some(it.first_good? - it.last_good)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer every 20 ms: `.` is a failure, anything else the node.
    fn story(interruptions: &mut Interruptions, start: Instant, answers: &str) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (number, answer) in (0u64..).zip(answers.chars()) {
            let ended = start + Duration::from_millis(20 * number);
            let answer = match answer {
                'a' => Ok("a"),
                'b' => Ok("b"),
                _ => Err("refused".to_owned()),
            };
            turns.extend(interruptions.asked(ended, answer));
        }
        turns
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_interruption_lasts_from_the_last_good_answer_to_the_first_good_one() {
        let (mut it, start) = (Interruptions::default(), Instant::now());
        let turns = story(&mut it, start, "..aa...bb");
        assert_eq!(turns.len(), 3);
        assert_eq!(turns[0], Turn::Good { node: "a", missed: None });
        assert_eq!(turns[1], Turn::Failing("refused".into()));
        assert_eq!(turns[2], Turn::Good { node: "b", missed: Some(ms(80)) });
        assert_eq!(it.outage(start), Some(ms(80)));
        assert_eq!(it.serving_since(start), Some("b"));
    }

    #[test]
    fn only_what_begins_after_the_moment_counts_and_all_of_it() {
        let (mut it, start) = (Interruptions::default(), Instant::now());
        story(&mut it, start, "a.a.aa..a");
        assert_eq!(it.outage(start), Some(ms(40 + 40 + 60)));
        assert_eq!(it.outage(start + ms(100)), Some(ms(60)));
        assert_eq!(it.outage(start + ms(140)), Some(Duration::ZERO));
    }

    #[test]
    fn one_that_lasts_has_no_length_yet_and_nobody_serves() {
        let (mut it, start) = (Interruptions::default(), Instant::now());
        story(&mut it, start, "aa.");
        assert_eq!((it.outage(start), it.serving_since(start)), (None, None));
    }

    #[test]
    fn a_change_of_node_without_a_failure_is_no_interruption() {
        let (mut it, start) = (Interruptions::default(), Instant::now());
        assert_eq!(story(&mut it, start, "aabb").len(), 1);
        assert_eq!(it.outage(start), Some(Duration::ZERO));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (mut it, start) = (Interruptions::default(), Instant::now());
        story(&mut it, start, &"a.".repeat(KEPT_MAX + 10));
        assert_eq!(it.past.len(), KEPT_MAX);
    }
}
