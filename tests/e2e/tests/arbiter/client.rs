//! One node's way to the arbiter, without the node: asks, and hears what would be told to the core.

use std::time::{Duration, Instant};

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterId, ArbiterRequest, ArbiterView, Permit};
use mainstay_core::claim::{Claim, ClaimId, Epoch};
use mainstay_core::message::OwnershipSummary;
use mainstay_core::spec::ArbiterSpec;
use mainstay_core::state::{Standing, StandingKind};
use mainstay_core::time::Millis;
use mainstay_node::arbiter::Arbiter;
use mainstay_node::happening::Happening;
use tokio::sync::mpsc;

/// The hierarchy that all of it is about.
pub(crate) const HIERARCHY: &str = "mail";
/// The request timeout of every client.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// What is added to a limit, because the machine may be busy.
pub(crate) const BUSY: Duration = Duration::from_secs(2);

/// A config's `[arbiter]`.
pub(crate) fn spec(endpoints: Vec<String>, lease: Millis) -> ArbiterSpec {
    ArbiterSpec {
        endpoints,
        certificates: None,
        lease,
        renew_interval: Millis(500),
        request_timeout: Millis(REQUEST_TIMEOUT.as_secs() * 1000),
        tries: 2,
    }
}

/// A claim of `node` in its epoch, held or not.
pub(crate) fn record(node: &str, epoch: u64, kind: StandingKind) -> OwnershipSummary {
    OwnershipSummary {
        claim: Some(Claim { id: ClaimId { epoch: Epoch(epoch), claimant: node.into() }, lineage: Vec::new() }),
        standing: Standing { kind, ..Standing::default() },
        failovers: Vec::new(),
    }
}

/// The permit of `node` as it sees it itself, or as the others do.
pub(crate) fn permit(node: &str, epoch: u64, ours: bool) -> Permit {
    Permit { node: node.into(), epoch: Epoch(epoch), ours }
}

/// See the file.
pub(crate) struct Client {
    pub(crate) name: String,
    arbiter: Arbiter,
    happenings: mpsc::Receiver<Happening>,
    asked: u64,
    /// What was told unasked, and when.
    pub(crate) changes: Vec<(Instant, ArbiterView)>,
}

impl Client {
    pub(crate) fn new(name: &str, spec: &ArbiterSpec) -> Self {
        let (sender, happenings) = mpsc::channel(1000);
        let arbiter = Arbiter::start(spec, "lab", &name.into(), sender).unwrap_or_else(|error| panic!("{error}"));
        Self { name: name.to_owned(), arbiter, happenings, asked: 0, changes: Vec::new() }
    }

    /// Asks, and waits for the answer; it comes within the request timeout.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: ArbiterRequest) -> impl Future<Output = ArbiterAnswer> {
        let at = std::panic::Location::caller();
        self.asked += 1;
        let id = ArbiterId(self.asked);
        self.arbiter.ask(id, request);
        async move {
            let began = Instant::now();
            loop {
                let happening = tokio::time::timeout(REQUEST_TIMEOUT + BUSY, self.happenings.recv()).await;
                match happening {
                    Ok(Some(Happening::Arbiter(of, answer))) if of == id => {
                        println!("{}: after {} ms: {answer:?}", self.name, began.elapsed().as_millis());
                        return answer;
                    }
                    Ok(Some(happening)) => self.hear(happening),
                    Ok(None) | Err(_) => panic!("{at}: no answer within {:?}", began.elapsed()),
                }
            }
        }
    }

    fn hear(&mut self, happening: Happening) {
        if let Happening::ArbiterChanged(view) = happening {
            self.changes.push((Instant::now(), view));
        }
    }

    /// The lease, and what is seen, of a renewal that succeeds.
    #[track_caller]
    pub(crate) fn renew(&mut self) -> impl Future<Output = (Millis, ArbiterView)> {
        let asked = self.ask(ArbiterRequest::Renew);
        async move {
            match asked.await {
                ArbiterAnswer::Renewed { lease, view } => (lease, view),
                other @ (ArbiterAnswer::Done { .. } | ArbiterAnswer::Failed(_)) => panic!("{other:?}"),
            }
        }
    }

    /// Renews until it succeeds, and says how long that took.
    pub(crate) async fn renew_until_done(&mut self, limit: Duration) -> (Duration, Millis, ArbiterView) {
        let began = Instant::now();
        loop {
            if let ArbiterAnswer::Renewed { lease, view } = self.ask(ArbiterRequest::Renew).await {
                return (began.elapsed(), lease, view);
            }
            assert!(began.elapsed() < limit, "not renewed within {limit:?}");
        }
    }

    /// Whether it was done, and what is seen then.
    #[track_caller]
    pub(crate) fn take(&mut self, expected: u64, epoch: u64) -> impl Future<Output = (bool, ArbiterView)> {
        let record = record(&self.name, epoch, StandingKind::Held);
        let asked = self.ask(ArbiterRequest::Take { hierarchy: HIERARCHY.into(), expected, record, force: false });
        async move { done(asked.await) }
    }

    /// Whether it was done, and what is seen then.
    #[track_caller]
    pub(crate) fn give(&mut self, epoch: u64) -> impl Future<Output = (bool, ArbiterView)> {
        let record = record(&self.name, epoch, StandingKind::Released);
        let asked = self.ask(ArbiterRequest::Give { hierarchy: HIERARCHY.into(), record });
        async move { done(asked.await) }
    }

    /// Waits until it is told of a state in which nobody has the permit, and says when that was.
    pub(crate) async fn hears_that_the_permit_is_gone(&mut self, limit: Duration) -> Instant {
        self.hears("that the permit is gone", limit, |view| permit_in(view).is_none()).await
    }

    /// Waits until it is told of such a state, and says when that was.
    pub(crate) async fn hears(&mut self, what: &str, limit: Duration, is: impl Fn(&ArbiterView) -> bool) -> Instant {
        let until = tokio::time::Instant::now() + limit;
        loop {
            match tokio::time::timeout_at(until, self.happenings.recv()).await {
                Ok(Some(Happening::ArbiterChanged(view))) if is(&view) => return Instant::now(),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => panic!("{} does not hear {what} within {limit:?}", self.name),
            }
        }
    }
}

fn done(answer: ArbiterAnswer) -> (bool, ArbiterView) {
    match answer {
        ArbiterAnswer::Done { done, view } => (done, view),
        other @ (ArbiterAnswer::Renewed { .. } | ArbiterAnswer::Failed(_)) => panic!("{other:?}"),
    }
}

/// Who has the permit.
pub(crate) fn permit_in(view: &ArbiterView) -> Option<Permit> {
    view.hierarchies.get(HIERARCHY)?.permit.clone()
}

/// Which record there is, and in which version.
pub(crate) fn record_in(view: &ArbiterView) -> (Option<OwnershipSummary>, u64) {
    view.hierarchies.get(HIERARCHY).map(|entry| (entry.record.clone(), entry.version)).unwrap_or_default()
}
