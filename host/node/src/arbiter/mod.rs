//! The arbiter as this daemon reaches it: an etcd cluster.
//!
//! [`Arbiter`] takes questions and never waits; a task of its own asks, several at once, and every question is answered as
//! a [`Happening`] within the request timeout. What is told is in order: no answer shows less than one that was told
//! before it, unless etcd itself has lost something since. Decides nothing about permits: that is the core's.

mod connect;
mod etcd;
mod members;
mod view;
mod watch;
mod wire;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterId, ArbiterRequest, ArbiterView};
use mainstay_core::names::NodeName;
use mainstay_core::spec::ArbiterSpec;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::happening::Happening;
use connect::Place;
pub use connect::PlaceError;
use etcd::{Answer, Etcd};
use members::{AskError, Members};

/// Questions that wait, at the most: several for each of a thousand hierarchies. More are answered with a failure.
const WAITING_MAX: usize = 4096;
/// Questions that are asked at once, at the most: etcd writes that many as quickly as one.
const AT_ONCE_MAX: usize = 16;
/// Within this no etcd that had answered has lost everything and answers again: stopping, emptying and starting one takes a
/// second, and an election of several another.
const LOSS_MIN: Duration = Duration::from_millis(500);
/// Versions of etcd before these let a leader that was replaced take leases away that are in use
/// (<https://github.com/etcd-io/etcd/issues/15247>): 3.4.31 and 3.5.13.
const SOUND: [(u64, u64, u64); 2] = [(3, 4, 31), (3, 5, 13)];

/// The way to the arbiter. Dropped, it ends everything about it.
#[derive(Debug)]
pub struct Arbiter {
    waiting: Arc<Waiting>,
    request_timeout: Duration,
    _tasks: JoinSet<()>,
}

/// Why there is no way to the arbiter.
#[derive(Debug, thiserror::Error)]
pub enum ArbiterError {
    /// An address in the config is none.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A connection cannot be prepared.
    #[error("the connections to etcd cannot be prepared: {0}")]
    Prepare(#[from] tonic::transport::Error),
}

impl Arbiter {
    /// Begins. Nobody has to be there: what is asked meanwhile fails in time.
    ///
    /// # Errors
    /// See [`ArbiterError`].
    pub fn start(
        spec: &ArbiterSpec,
        cluster: &str,
        me: &NodeName,
        happenings: mpsc::Sender<Happening>,
    ) -> Result<Self, ArbiterError> {
        let certificates = spec.certificates.as_deref().map(Path::new);
        let places: Vec<Place> =
            spec.endpoints.iter().map(|endpoint| Place::read(endpoint, certificates)).collect::<Result<_, _>>()?;
        let etcd = Arc::new(Etcd::new(Members::new(places)?, cluster, me.clone(), spec.lease));
        let waiting = Arc::new(Waiting::default());
        let changed = Arc::new(Notify::new());
        let request_timeout = Duration::from_millis(spec.request_timeout.0);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch::watch(etcd.clone(), changed.clone()));
        tasks.spawn(warn_of_version(etcd.clone(), request_timeout));
        let worker = Worker {
            etcd,
            waiting: waiting.clone(),
            changed,
            happenings,
            request_timeout,
            asking: JoinSet::new(),
            told: None,
        };
        tasks.spawn(worker.run());
        Ok(Self { waiting, request_timeout, _tasks: tasks })
    }

    /// Asks. The answer comes as a happening, by the request timeout from now.
    pub fn ask(&self, id: ArbiterId, request: ArbiterRequest) {
        self.waiting.push(Question { id, request, until: Instant::now() + self.request_timeout });
    }
}

/// Which members of the arbiter cannot be connected to from here, each within `limit`, and why.
pub(crate) async fn unreached(spec: &ArbiterSpec, limit: Duration) -> Vec<(String, String)> {
    let certificates = spec.certificates.as_deref().map(Path::new);
    let mut trying = JoinSet::new();
    for endpoint in spec.endpoints.clone() {
        let place = Place::read(&endpoint, certificates);
        trying.spawn(async move {
            let place = place.map_err(|error| error.to_string());
            let tried = match place {
                Ok(place) => tokio::time::timeout(limit, place.try_out()).await,
                Err(why) => return Some((endpoint, why)),
            };
            match tried {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((endpoint, error.to_string())),
                Err(_) => Some((endpoint, format!("no connection within {} s", limit.as_secs_f32()))),
            }
        });
    }
    let mut unreached: Vec<_> = trying.join_all().await.into_iter().flatten().collect();
    unreached.sort();
    unreached
}

#[derive(Debug)]
struct Question {
    id: ArbiterId,
    request: ArbiterRequest,
    until: Instant,
}

/// What was asked and is not taken up yet.
#[derive(Debug, Default)]
struct Waiting {
    queue: Mutex<Queue>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    questions: VecDeque<Question>,
    /// Not asked at all, and why.
    refused: Vec<(ArbiterId, &'static str)>,
}

impl Waiting {
    fn push(&self, question: Question) {
        self.with(|queue| {
            let is_renew = |question: &Question| question.request == ArbiterRequest::Renew;
            if is_renew(&question)
                && let Some(older) = queue.questions.iter().position(is_renew)
                && let Some(older) = queue.questions.remove(older)
            {
                queue.refused.push((older.id, "a newer renewal has taken its place"));
            }
            if queue.questions.len() < WAITING_MAX {
                queue.questions.push_back(question);
            } else {
                queue.refused.push((question.id, "too many questions to the arbiter wait already"));
            }
        });
        self.came.notify_one();
    }

    fn with<T>(&self, look: impl FnOnce(&mut Queue) -> T) -> T {
        // Every change is one insertion or removal: the queue is whole whatever panicked.
        look(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What has come of a question, or of looking because something changed.
struct Ended {
    of: Option<ArbiterId>,
    began: Instant,
    until: Instant,
    answer: Result<Answer, AskError>,
}

/// The newest that was told.
struct Told {
    began: Instant,
    at: Instant,
    revision: i64,
    view: ArbiterView,
}

/// What an answer shows, beside the newest that was told.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    /// It is newer; or etcd has lost something.
    Newer,
    /// It is older, or what was told was seen after this was asked: that is as true an answer.
    AsTold,
    /// It may be older, or newer than what etcd has lost: only another look tells.
    Unclear,
}

impl Told {
    /// Two that were asked at the same time may be answered in another order than they were carried out. Revisions tell
    /// which was the later, as long as etcd has not lost everything in between.
    fn order(&self, began: Instant, revision: i64, now: Instant) -> Order {
        if revision >= self.revision || began >= self.at {
            Order::Newer
        } else if self.began >= began || now.duration_since(self.began) < LOSS_MIN {
            Order::AsTold
        } else {
            Order::Unclear
        }
    }
}

struct Worker {
    etcd: Arc<Etcd>,
    waiting: Arc<Waiting>,
    changed: Arc<Notify>,
    happenings: mpsc::Sender<Happening>,
    request_timeout: Duration,
    asking: JoinSet<Ended>,
    told: Option<Told>,
}

impl Worker {
    async fn run(mut self) {
        let mut looking = false;
        loop {
            let refused = self.waiting.with(|queue| std::mem::take(&mut queue.refused));
            for (id, why) in refused {
                if !self.tell(Some(id), ArbiterAnswer::Failed(why.to_owned())).await {
                    return;
                }
            }
            while self.asking.len() < AT_ONCE_MAX
                && let Some(question) = self.waiting.with(|queue| queue.questions.pop_front())
            {
                self.begin(question);
            }
            tokio::select! {
                () = self.waiting.came.notified() => {}
                () = self.changed.notified(), if !looking => {
                    looking = true;
                    self.look(None, Instant::now() + self.request_timeout, |view| {
                        ArbiterAnswer::Done { done: true, view }
                    });
                }
                Some(ended) = self.asking.join_next() => match ended {
                    Ok(ended) => {
                        let unasked = ended.of.is_none();
                        match self.ended(ended).await {
                            Next::Goes => looking &= !unasked,
                            Next::LooksAgain => {}
                            Next::Nobody => return,
                        }
                    }
                    // A bug here; whoever asked gets no answer, and by its own clock does not wait for ever.
                    Err(error) => tracing::error!("a question to the arbiter has ended: {error}"),
                },
            }
        }
    }

    fn begin(&mut self, question: Question) {
        let (etcd, began) = (self.etcd.clone(), Instant::now());
        let Question { id, request, until } = question;
        self.asking.spawn(async move {
            let answer = tokio::time::timeout_at(until, etcd.answer(request, until)).await.unwrap_or_else(|_| Answer {
                revision: 0,
                answer: ArbiterAnswer::Failed("etcd has not answered in time".to_owned()),
            });
            Ended { of: Some(id), began, until, answer: Ok(answer) }
        });
    }

    fn look(
        &mut self,
        of: Option<ArbiterId>,
        until: Instant,
        with: impl FnOnce(ArbiterView) -> ArbiterAnswer + Send + 'static,
    ) {
        let (etcd, began) = (self.etcd.clone(), Instant::now());
        self.asking.spawn(async move {
            let looked = etcd.look(until).await;
            let answer = looked.map(|(revision, view)| Answer { revision, answer: with(view) });
            Ended { of, began, until, answer }
        });
    }

    async fn ended(&mut self, ended: Ended) -> Next {
        let Ended { of, began, until, answer } = ended;
        let answer = match answer {
            Ok(Answer { answer: ArbiterAnswer::Failed(why), .. }) => ArbiterAnswer::Failed(why),
            Ok(Answer { revision, answer }) => {
                let order = self.told.as_ref().map_or(Order::Newer, |told| told.order(began, revision, Instant::now()));
                match (order, answer) {
                    (Order::Unclear, answer) => {
                        self.look(of, until, |view| with_view(answer, view));
                        return Next::LooksAgain;
                    }
                    (Order::AsTold, answer) => {
                        let view = self.told.as_ref().map(|told| told.view.clone()).unwrap_or_default();
                        with_view(answer, view)
                    }
                    (Order::Newer, answer) => {
                        if let ArbiterAnswer::Renewed { view, .. } | ArbiterAnswer::Done { view, .. } = &answer {
                            self.told = Some(Told { began, at: Instant::now(), revision, view: view.clone() });
                        }
                        answer
                    }
                }
            }
            // What changed unasked is seen with the next renewal.
            Err(error) => ArbiterAnswer::Failed(error.to_string()),
        };
        if self.tell(of, answer).await { Next::Goes } else { Next::Nobody }
    }

    /// False when there is nobody to tell: the daemon stops.
    async fn tell(&self, of: Option<ArbiterId>, answer: ArbiterAnswer) -> bool {
        let happening = match (of, answer) {
            (Some(id), answer) => Happening::Arbiter(id, answer),
            (None, ArbiterAnswer::Done { view, .. } | ArbiterAnswer::Renewed { view, .. }) => {
                Happening::ArbiterChanged(view)
            }
            (None, ArbiterAnswer::Failed(_)) => return true,
        };
        self.happenings.send(happening).await.is_ok()
    }
}

/// What follows an answer.
enum Next {
    Goes,
    /// Its view was not to be told.
    LooksAgain,
    /// The daemon stops.
    Nobody,
}

/// The same answer with what was seen later.
fn with_view(answer: ArbiterAnswer, view: ArbiterView) -> ArbiterAnswer {
    match answer {
        ArbiterAnswer::Renewed { lease, .. } => ArbiterAnswer::Renewed { lease, view },
        ArbiterAnswer::Done { done, .. } => ArbiterAnswer::Done { done, view },
        ArbiterAnswer::Failed(why) => ArbiterAnswer::Failed(why),
    }
}

/// Says once, as soon as etcd is reached, that its version may take a permit away too early.
async fn warn_of_version(etcd: Arc<Etcd>, timeout: Duration) {
    loop {
        match etcd.version(Instant::now() + timeout).await {
            Ok(version) => {
                tracing::info!("etcd {version} is the arbiter");
                if !is_sound(&version) {
                    tracing::warn!(
                        "etcd {version} may end a lease that is renewed when its leader hangs and is replaced (etcd issue 15247): a standby may then take over before the owner has stopped; use 3.5.13 or later, or 3.4.31 or later"
                    );
                }
                return;
            }
            Err(AskError::Refused(status)) => {
                tracing::debug!("etcd does not tell its version: {}", members::words(&status));
                return;
            }
            // As often as a renewal that is not answered.
            Err(AskError::Nobody(_)) => tokio::time::sleep(timeout).await,
        }
    }
}

/// One that cannot be read is newer than this.
fn is_sound(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u64>().ok());
    let (Some(Some(major)), Some(Some(minor)), Some(Some(patch))) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return true;
    };
    match SOUND.iter().find(|sound| (sound.0, sound.1) == (major, minor)) {
        Some(sound) => patch >= sound.2,
        None => (major, minor) > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: u64, request: ArbiterRequest) -> Question {
        Question { id: ArbiterId(id), request, until: Instant::now() }
    }

    #[test]
    fn a_newer_renewal_takes_the_place_of_one_that_waits() {
        let waiting = Waiting::default();
        for id in 0..3 {
            waiting.push(question(id, ArbiterRequest::Renew));
        }
        waiting.with(|queue| {
            assert_eq!(queue.questions.iter().map(|question| question.id.0).collect::<Vec<_>>(), [2]);
            assert_eq!(queue.refused.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 1]);
        });
    }

    #[test]
    fn too_many_are_refused() {
        let waiting = Waiting::default();
        let take = || ArbiterRequest::Give {
            hierarchy: "x".into(),
            record: mainstay_core::message::OwnershipSummary {
                claim: None,
                standing: mainstay_core::state::Standing::default(),
                failovers: Vec::new(),
            },
        };
        for id in 0..=WAITING_MAX as u64 {
            waiting.push(question(id, take()));
        }
        waiting.with(|queue| {
            assert_eq!(queue.refused.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [WAITING_MAX as u64])
        });
    }

    #[test]
    fn what_may_be_older_is_not_told_after_what_is_newer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let told = Told { began: at(10), at: at(20), revision: 7, view: ArbiterView::default() };
        let (soon, late) = (at(30), at(30) + LOSS_MIN);
        assert_eq!(told.order(at(5), 7, late), Order::Newer);
        assert_eq!(told.order(at(5), 8, late), Order::Newer);
        assert_eq!(told.order(at(20), 1, soon), Order::Newer, "etcd has lost something");
        assert_eq!(told.order(at(5), 6, late), Order::AsTold, "what was told was seen after this was asked");
        assert_eq!(told.order(at(15), 6, soon), Order::AsTold, "nothing can have been lost so quickly");
        assert_eq!(told.order(at(15), 6, late), Order::Unclear, "older, or etcd has lost something");
    }

    #[test]
    fn versions_that_take_leases_away_are_known() {
        for sound in ["3.4.31", "3.5.13", "3.6.0", "3.6.0-rc.1", "4.0.0", "main"] {
            assert!(is_sound(sound), "{sound}");
        }
        for unsound in ["3.4.23", "3.5.12", "3.3.27", "3.5.0-alpha.0"] {
            assert!(!is_sound(unsound), "{unsound}");
        }
    }
}
