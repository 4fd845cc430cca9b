//! Brings a service to a state: asks, looks again and again, and says in time how it ended.
//!
//! What the system's own manager of services answers is taken as an answer and never as the state: that is looked at. What a
//! look means is decided in `look.rs`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::look::{Look, Step, Trouble};
use crate::bindings::mainstay::kit::service::{Standing, State};
use crate::capability::ms;

/// After the first look the next comes soon: most services start and stop in less than a tenth of a second.
const LOOK_FIRST: Duration = Duration::from_millis(10);
/// Longest time between two looks: short beside what a service takes that takes long, and each costs the manager a millisecond.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(250);
/// How long the last look may take, which comes when the time is over and says how it stands: far more than an answer takes,
/// and a part of the second that a host function leaves of a call.
const LAST_LOOK_MAX: Duration = Duration::from_millis(300);

/// What a system's manager of services can be asked. Each function gives up when `until` has come.
pub(super) trait Manager: Sync {
    /// A service that has just been started is looked at once more after this time: until then some fail that were called
    /// running.
    const SETTLES: Duration;

    /// How it is.
    fn look(&self, name: &str, until: Instant) -> impl Future<Output = Result<Look, Trouble>> + Send;

    /// Asks that it be started, and does not wait for it. `look` is how it was a moment ago.
    fn start(&self, name: &str, look: &Look, until: Instant) -> impl Future<Output = Result<Asked, Trouble>> + Send;

    /// Asks that it be stopped, and does not wait for it. `look` is how it was a moment ago.
    fn stop(&self, name: &str, look: &Look, until: Instant) -> impl Future<Output = Result<Asked, Trouble>> + Send;

    /// Ends the processes that there are, and sees to it that it is not started again for that. False: there were none.
    fn kill(&self, name: &str, look: &Look, until: Instant) -> impl Future<Output = Result<bool, Trouble>> + Send;

    /// It has not failed any more, where the system can forget that.
    fn forget(&self, name: &str, until: Instant) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// How the manager took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It will see to it.
    Taken,
    /// Not in the state that it is in; it can be asked again.
    #[cfg_attr(all(unix, not(test)), expect(dead_code, reason = "systemd queues what it cannot do now"))]
    NotNow,
}

/// A function of the contract, on one service, in its time.
pub(super) struct Drive<'a, M> {
    pub(super) manager: &'a M,
    pub(super) name: &'a str,
    began: Instant,
    limit: Duration,
    /// How much longer the manager may take over the look that comes when the time is over.
    grace: Duration,
}

/// A state that a service can be brought to.
#[derive(Clone, Copy)]
enum Goal {
    Runs,
    DoesNotRun,
}

/// A state that was reached.
struct Reached {
    look: Look,
    /// Whether it was not there from the beginning.
    changed: bool,
}

impl<'a, M: Manager> Drive<'a, M> {
    pub(super) fn new(manager: &'a M, name: &'a str, limit: Duration, grace: Duration) -> Self {
        Self { manager, name, began: Instant::now(), limit, grace: grace.min(LAST_LOOK_MAX) }
    }

    /// When the manager has to have answered.
    fn until(&self) -> Instant {
        self.began + self.limit + self.grace
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.began.elapsed())
    }

    async fn look(&self) -> Result<Look, Trouble> {
        self.manager.look(self.name, self.until()).await
    }

    /// The same, after an earlier look that says more than that there was no time for this one.
    async fn look_again(&self, doing: &str, last: Option<&Look>) -> Result<Look, Trouble> {
        match (self.look().await, last) {
            (Err(Trouble::Late(_)), Some(last)) => Err(self.late(doing, last)),
            (looked, _) => looked,
        }
    }

    fn late(&self, doing: &str, look: &Look) -> Trouble {
        let (name, limit_ms) = (self.name, ms(self.limit));
        Trouble::Late(format!("{doing} {name}: not within {limit_ms} ms; {}", look.summary(name)))
    }

    pub(super) async fn query(&self) -> Result<Standing, Trouble> {
        Ok(self.look().await?.standing(self.name))
    }

    pub(super) async fn start(&self) -> Result<bool, Trouble> {
        let reached = self.bring(Goal::Runs).await?;
        if reached.changed {
            self.settle().await?;
        }
        Ok(reached.changed)
    }

    pub(super) async fn stop(&self) -> Result<bool, Trouble> {
        let reached = self.bring(Goal::DoesNotRun).await?;
        if reached.look.state == State::Failed {
            self.manager.forget(self.name, self.until()).await?;
        }
        Ok(reached.changed)
    }

    pub(super) async fn wait(&self, state: State) -> Result<Standing, Trouble> {
        let doing = format!("waiting for `{}` of", word(state));
        let (mut pace, mut last) = (LOOK_FIRST, None);
        loop {
            let look = self.look_again(&doing, last.as_ref()).await?;
            if look.state == state {
                return Ok(look.standing(self.name));
            }
            self.pause(&mut pace, &doing, &look).await?;
            last = Some(look);
        }
    }

    pub(super) async fn end_processes(&self) -> Result<bool, Trouble> {
        let doing = "ending the processes of";
        let (mut pace, mut any, mut last) = (LOOK_FIRST, false, None);
        loop {
            let look = self.look_again(doing, last.as_ref()).await.map_err(|trouble| after(trouble, any))?;
            let killed = self.manager.kill(self.name, &look, self.until()).await;
            let killed = killed.map_err(|trouble| after(trouble, any))?;
            any |= killed;
            if !killed && look.stopping(true) == Step::Done {
                if look.state == State::Failed {
                    self.manager.forget(self.name, self.until()).await?;
                }
                return Ok(any);
            }
            self.pause(&mut pace, doing, &look).await?;
            last = Some(look);
        }
    }

    async fn bring(&self, goal: Goal) -> Result<Reached, Trouble> {
        let mut pace = LOOK_FIRST;
        let (mut changed, mut asked, mut last) = (false, false, None);
        let doing = match goal {
            Goal::Runs => "starting",
            Goal::DoesNotRun => "stopping",
        };
        loop {
            let look = self.look_again(doing, last.as_ref()).await.map_err(|trouble| after(trouble, asked))?;
            let step = match goal {
                Goal::Runs => look.starting(asked),
                Goal::DoesNotRun => look.stopping(asked),
            };
            match step {
                Step::Done => return Ok(Reached { look, changed }),
                Step::Broken => return Err(Trouble::Ended(look.ended(self.name))),
                Step::Wait => {}
                Step::Ask => {
                    let taken = match goal {
                        Goal::Runs => self.manager.start(self.name, &look, self.until()).await?,
                        Goal::DoesNotRun => self.manager.stop(self.name, &look, self.until()).await?,
                    };
                    asked = taken == Asked::Taken;
                }
            }
            changed = true;
            self.pause(&mut pace, doing, &look).await?;
            last = Some(look);
        }
    }

    /// Whether it runs still, a moment after it was first seen to.
    async fn settle(&self) -> Result<(), Trouble> {
        sleep(M::SETTLES.min(self.left() / 2)).await;
        let look = self.look().await.map_err(Trouble::after_asking)?;
        match look.starting(true) {
            Step::Broken => Err(Trouble::Ended(look.ended(self.name))),
            Step::Done | Step::Wait | Step::Ask => Ok(()),
        }
    }

    /// Until the next look, if there is time for one.
    async fn pause(&self, pace: &mut Duration, doing: &str, look: &Look) -> Result<(), Trouble> {
        let left = self.left();
        if left.is_zero() {
            return Err(self.late(doing, look));
        }
        sleep(left.min(*pace)).await;
        *pace = (*pace * 2).min(LOOK_EVERY_MAX);
        Ok(())
    }
}

/// As the contract calls it.
fn word(state: State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::StartPending => "start-pending",
        State::Running => "running",
        State::StopPending => "stop-pending",
        State::Paused => "paused",
        State::Failed => "failed",
    }
}

fn after(trouble: Trouble, asked: bool) -> Trouble {
    if asked { trouble.after_asking() } else { trouble }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::bindings::mainstay::kit::service::StartType;
    use crate::capability::service::look::Coming;

    /// One that shows what the test says, one after the other, and the last for ever.
    struct Scripted {
        looks: Mutex<VecDeque<Result<Look, Trouble>>>,
        asked: Mutex<Vec<&'static str>>,
        not_now: Mutex<u32>,
    }

    impl Scripted {
        fn new(looks: impl IntoIterator<Item = (State, Coming)>) -> Self {
            let looks = looks.into_iter().map(|(state, coming)| Ok(look(state, coming))).collect();
            Self { looks: Mutex::new(looks), asked: Mutex::default(), not_now: Mutex::new(0) }
        }

        fn note(&self, what: &'static str) -> Asked {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            let mut not_now = self.not_now.lock().unwrap();
            if *not_now == 0 {
                return Asked::Taken;
            }
            *not_now -= 1;
            Asked::NotNow
        }

        fn asked(&self) -> String {
            self.asked.lock().unwrap().join(" ")
        }
    }

    impl Manager for Scripted {
        const SETTLES: Duration = Duration::from_millis(200);

        async fn look(&self, _: &str, _: Instant) -> Result<Look, Trouble> {
            let mut looks = self.looks.lock().unwrap();
            if looks.len() > 1 { looks.pop_front().unwrap() } else { looks[0].clone() }
        }

        async fn start(&self, _: &str, _: &Look, _: Instant) -> Result<Asked, Trouble> {
            Ok(self.note("start"))
        }

        async fn stop(&self, _: &str, _: &Look, _: Instant) -> Result<Asked, Trouble> {
            Ok(self.note("stop"))
        }

        async fn kill(&self, _: &str, look: &Look, _: Instant) -> Result<bool, Trouble> {
            if look.pid.is_some() {
                self.note("kill");
            }
            Ok(look.pid.is_some())
        }

        async fn forget(&self, _: &str, _: Instant) -> Result<(), Trouble> {
            self.note("forget");
            Ok(())
        }
    }

    fn look(state: State, coming: Coming) -> Look {
        let pid = match state {
            State::Running | State::StopPending => Some(7),
            State::Stopped | State::StartPending | State::Paused | State::Failed => None,
        };
        let why = Some("it was told to".to_owned());
        Look { state, pid, start_type: StartType::Manual, coming, words: String::new(), why, details: Vec::new() }
    }

    const LIMIT: Duration = Duration::from_secs(10);

    fn drive(manager: &Scripted) -> Drive<'_, Scripted> {
        Drive::new(manager, "is", LIMIT, Duration::ZERO)
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_asks_once_waits_and_looks_once_more() {
        use Coming::{Nothing, Start};
        let manager = Scripted::new([
            (State::Stopped, Nothing),
            (State::Stopped, Start),
            (State::StartPending, Nothing),
            (State::Running, Nothing),
        ]);
        assert_eq!(drive(&manager).start().await, Ok(true));
        assert_eq!(manager.asked(), "start");
        assert_eq!(drive(&manager).start().await, Ok(false));
        assert_eq!(manager.asked(), "start", "it runs already");
        for looks in [
            vec![(State::Stopped, Nothing), (State::StartPending, Nothing), (State::Failed, Nothing)],
            vec![(State::Stopped, Nothing), (State::Running, Nothing), (State::Failed, Nothing)],
            vec![(State::Stopped, Nothing), (State::Running, Nothing), (State::Failed, Coming::Again)],
        ] {
            let broken = drive(&Scripted::new(looks)).start().await.unwrap_err();
            assert!(matches!(&broken, Trouble::Ended(said) if said.contains("it was told to")), "{broken:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stops_is_waited_for_before_it_is_started() {
        use Coming::Nothing;
        let manager = Scripted::new([
            (State::StopPending, Nothing),
            (State::StopPending, Nothing),
            (State::Stopped, Nothing),
            (State::Running, Nothing),
        ]);
        assert_eq!(drive(&manager).start().await, Ok(true));
        assert_eq!(manager.asked(), "start");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_stopped_now_is_asked_again() {
        use Coming::Nothing;
        let manager = Scripted::new([
            (State::StartPending, Nothing),
            (State::StartPending, Nothing),
            (State::Running, Nothing),
            (State::StopPending, Nothing),
            (State::Failed, Nothing),
        ]);
        *manager.not_now.lock().unwrap() = 2;
        assert_eq!(drive(&manager).stop().await, Ok(true));
        assert_eq!(manager.asked(), "stop stop stop forget", "stopped in order, it has not failed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_over_says_how_it_is() {
        let manager = Scripted::new([(State::Running, Coming::Nothing), (State::StopPending, Coming::Nothing)]);
        let began = Instant::now();
        let late = drive(&manager).stop().await.unwrap_err();
        assert_eq!(late, Trouble::Late("stopping is: not within 10000 ms; is is stopping (pid 7)".to_owned()));
        assert_eq!(began.elapsed(), LIMIT);
        assert_eq!(manager.asked(), "stop");
        let late = drive(&manager).wait(State::Running).await.unwrap_err();
        assert!(late.to_string().starts_with("waiting for `running` of is: not within"), "{late}");
        let late = Drive::new(&manager, "is", Duration::ZERO, Duration::ZERO).wait(State::Running).await;
        assert!(matches!(late, Err(Trouble::Late(_))), "{late:?}");
        let here = Drive::new(&manager, "is", Duration::ZERO, Duration::ZERO).wait(State::StopPending).await;
        assert_eq!(here.unwrap().state, State::StopPending, "no time is time for one look");
    }

    #[tokio::test(start_paused = true)]
    async fn a_last_look_that_comes_too_late_is_the_one_before() {
        let manager = Scripted::new([(State::StartPending, Coming::Nothing)]);
        manager.looks.lock().unwrap().push_back(Err(Trouble::Late("no answer".to_owned())));
        let late = drive(&manager).start().await.unwrap_err();
        assert_eq!(late, Trouble::Late("starting is: not within 10000 ms; is is starting".to_owned()));
        assert_eq!(drive(&manager).start().await, Err(Trouble::Late("no answer".to_owned())), "there was none before");
    }

    #[tokio::test(start_paused = true)]
    async fn processes_are_ended_until_there_are_none() {
        use Coming::Nothing;
        let manager =
            Scripted::new([(State::StopPending, Nothing), (State::StopPending, Nothing), (State::Failed, Nothing)]);
        assert_eq!(drive(&manager).end_processes().await, Ok(true));
        assert_eq!(manager.asked(), "kill kill forget");
        assert_eq!(drive(&Scripted::new([(State::Stopped, Nothing)])).end_processes().await, Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_manager_that_goes_away_after_it_was_asked_is_a_loss() {
        let manager = Scripted::new([(State::Stopped, Coming::Nothing)]);
        manager.looks.lock().unwrap().push_back(Err(Trouble::NoManager("the system bus is gone".to_owned())));
        assert_eq!(drive(&manager).start().await, Err(Trouble::Lost("the system bus is gone".to_owned())));
        assert_eq!(drive(&manager).start().await, Err(Trouble::NoManager("the system bus is gone".to_owned())));
    }
}
