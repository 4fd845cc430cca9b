//! Who served when, from the application's own answers. Decides what an outage is, and whether two served at once.
//!
//! Pure: from what was asked and answered to what is said of it.

use std::fmt;
use std::time::Duration;

/// A hole between two good answers counts as an outage from here on: a busy machine makes a question late by some
/// tens of ms, and a question that nobody answers takes [`crate::prober::ASK_MS_MAX`].
const OUTAGE_MIN: Duration = Duration::from_millis(150);

/// A question that a host answered. Times count from when the prober began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which host was asked.
    pub host: String,
    /// What names the application's process, so that one that was started anew is told from one that went on.
    pub run: String,
    /// When it was asked.
    pub asked: Duration,
    /// When the answer had come.
    pub answered: Duration,
}

/// The application ran on a host from one moment to another, without being started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which host.
    pub host: String,
    /// Which process.
    pub run: String,
    /// It ran for certain from here: the first answer had come.
    pub from: Duration,
    /// It ran for certain until here: the last question that it answered was asked.
    pub until: Duration,
}

/// Nobody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The last good answer before had come.
    pub from: Duration,
    /// The first good answer after it had come.
    pub until: Duration,
}

impl Outage {
    /// How long it was.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.saturating_sub(self.from)
    }
}

/// Two ran at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one.
    pub one: Run,
    /// The other.
    pub other: Run,
}

impl Overlap {
    /// For so long at least.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.one.until.min(self.other.until).saturating_sub(self.one.from.max(self.other.from))
    }
}

/// All answers.
#[derive(Clone, Debug, Default)]
pub struct Timeline(pub Vec<Answer>);

impl Timeline {
    /// Who ran when, in order of their beginning.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for Answer { host, run, asked, answered } in &self.0 {
            match runs.iter_mut().find(|it| it.host == *host && it.run == *run) {
                Some(it) => {
                    it.from = it.from.min(*answered);
                    it.until = it.until.max(*asked);
                }
                None => runs.push(Run { host: host.clone(), run: run.clone(), from: *answered, until: *asked }),
            }
        }
        runs.sort_by_key(|run| run.from);
        runs
    }

    /// Where it ran at once on two hosts, or twice on one.
    #[must_use]
    pub fn overlaps(&self) -> Vec<Overlap> {
        let runs = self.runs();
        let pairs = runs.iter().enumerate().flat_map(|(at, one)| runs[at + 1..].iter().map(move |other| (one, other)));
        let both = pairs.map(|(one, other)| Overlap { one: one.clone(), other: other.clone() });
        both.filter(|overlap| overlap.length() > Duration::ZERO).collect()
    }

    /// Where nobody answered, between two good answers.
    #[must_use]
    pub fn outages(&self) -> Vec<Outage> {
        let mut answered: Vec<Duration> = self.0.iter().map(|answer| answer.answered).collect();
        answered.sort();
        let holes = answered.windows(2).map(|pair| Outage { from: pair[0], until: pair[1] });
        holes.filter(|hole| hole.length() >= OUTAGE_MIN).collect()
    }

    /// The longest outage that ended after this moment; zero without any.
    #[must_use]
    pub fn outage_since(&self, moment: Duration) -> Duration {
        let since = self.outages().into_iter().filter(|outage| outage.until >= moment);
        since.map(|outage| outage.length()).max().unwrap_or_default()
    }

    /// The hosts that answered a question asked since this moment, in order of name.
    #[must_use]
    pub fn served_since(&self, moment: Duration) -> Vec<&str> {
        let mut hosts: Vec<&str> = self.0.iter().filter(|it| it.asked >= moment).map(|it| it.host.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: &Duration| time.as_secs_f64();
        for Run { host, run, from, until } in self.runs() {
            writeln!(f, "  {:8.3} to {:8.3} s: {host} ({run})", seconds(&from), seconds(&until))?;
        }
        for Outage { from, until } in self.outages() {
            writeln!(f, "  {:8.3} to {:8.3} s: nobody", seconds(&from), seconds(&until))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// `host run first last`: answers every 10 ms, each after 1 ms.
    fn timeline(lines: &[(&str, &str, u64, u64)]) -> Timeline {
        let mut answers = Vec::new();
        for (host, run, first, last) in lines {
            for at in (*first..=*last).step_by(10) {
                let (asked, answered) = (MS(at), MS(at + 1));
                answers.push(Answer { host: (*host).to_owned(), run: (*run).to_owned(), asked, answered });
            }
        }
        Timeline(answers)
    }

    #[test]
    fn one_after_the_other_is_an_outage_and_no_overlap() {
        let timeline = timeline(&[("a", "1", 0, 1000), ("b", "1", 2000, 3000)]);
        assert_eq!(timeline.overlaps(), []);
        assert_eq!(timeline.outages(), [Outage { from: MS(1001), until: MS(2001) }]);
        assert_eq!(timeline.outage_since(MS(500)), MS(1000));
        assert_eq!(timeline.outage_since(MS(2500)), MS(0));
        assert_eq!(timeline.served_since(MS(990)), ["a", "b"]);
        assert_eq!(timeline.served_since(MS(1500)), ["b"]);
    }

    #[test]
    fn two_at_once_are_seen_on_two_hosts_and_on_one() {
        let two_hosts = timeline(&[("a", "1", 0, 1000), ("b", "1", 900, 2000)]).overlaps();
        assert_eq!(two_hosts.iter().map(Overlap::length).collect::<Vec<_>>(), [MS(99)]);
        assert_eq!(timeline(&[("a", "1", 0, 1000), ("a", "2", 900, 2000)]).overlaps().len(), 1);
    }

    #[test]
    fn touching_is_no_overlap() {
        assert_eq!(timeline(&[("a", "1", 0, 1000), ("b", "1", 1000, 2000)]).overlaps(), []);
    }

    #[test]
    fn a_late_answer_is_no_outage() {
        assert_eq!(timeline(&[("a", "1", 0, 1000), ("a", "1", 1100, 2000)]).outages(), []);
    }
}
