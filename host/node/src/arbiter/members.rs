//! etcd's members: who is asked, and who instead when there is no answer.
//!
//! Each member has a connection of its own, made anew when it breaks. A question goes to the member that answered last; to
//! the next one as soon as that one fails, or takes its share of the time; the first answer counts. So a member that is
//! off, hangs or is cut off costs a part of the request timeout once, and never a request. A question may reach several
//! members, or one of them late: whoever asks sees to it that this does no harm.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::connect::{Connector, Place};

/// A member that has not answered for so long is not waited for alone. Ten times what etcd takes on a disk that is slow.
const SHARE_MAX: Duration = Duration::from_millis(250);
/// A member that has refused is asked again after this: during an election all refuse, for about a second.
const AGAIN: Duration = Duration::from_millis(50);

/// All members of the config, in its order.
#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    /// Who answered last.
    first: AtomicUsize,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    /// As the config has it.
    pub(super) endpoint: String,
    pub(super) channel: Channel,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum AskError {
    /// etcd has answered, and would answer the same again.
    Refused(Status),
    /// Nobody has answered in time: what each has said, if anything.
    Nobody(String),
}

impl std::fmt::Display for AskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "etcd refuses: {}", words(status)),
            Self::Nobody(said) => write!(f, "no member of etcd has answered in time: {said}"),
        }
    }
}

impl Members {
    /// Connects to nobody yet.
    pub(super) fn new(places: Vec<Place>) -> Result<Self, tonic::transport::Error> {
        let members = places.into_iter().map(|place| {
            // Encryption is the connector's: to tonic every member is a plain one.
            let endpoint = Endpoint::from_shared(format!("http://{}", place.authority()))?;
            let name = place.endpoint().to_owned();
            Ok(Member { endpoint: name, channel: endpoint.connect_with_connector_lazy(Connector::new(place)) })
        });
        Ok(Self { members: members.collect::<Result<_, tonic::transport::Error>>()?, first: AtomicUsize::new(0) })
    }

    /// Who is asked first, then who next.
    pub(super) fn in_turn(&self) -> Vec<(usize, Member)> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.members.len());
        (0..count).map(|turn| (first + turn) % count).map(|at| (at, self.members[at].clone())).collect()
    }

    /// Asks until one has answered, or the time is up.
    pub(super) async fn ask<T, Q, A>(&self, until: Instant, question: Q) -> Result<T, AskError>
    where
        T: Send + 'static,
        Q: Fn(Channel) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let turns = self.in_turn();
        let left = until.saturating_duration_since(Instant::now());
        let share = SHARE_MAX.min(left / u32::try_from(turns.len() + 1).unwrap_or(u32::MAX));
        let said: Vec<Said> = turns.iter().map(|(_, member)| Said::new(&member.endpoint)).collect();
        let (failed, failures) = watch::channel(0_usize);
        let failed = Arc::new(failed);
        // Dropped, it ends the questions that are still open.
        let mut asking = JoinSet::new();
        for (turn, (at, member)) in turns.into_iter().enumerate() {
            let (question, said, failed, mut failures) =
                (question.clone(), said[turn].clone(), failed.clone(), failures.clone());
            asking.spawn(async move {
                let its_turn = failures.wait_for(|count| *count >= turn);
                // Its turn comes when all before it have failed, or in any case after their shares.
                let _ = tokio::time::timeout(share * u32::try_from(turn).unwrap_or(u32::MAX), its_turn).await;
                let mut first = true;
                loop {
                    match question(member.channel.clone()).await {
                        Err(status) if may_be_better_elsewhere(status.code()) => said.is(words(&status)),
                        answer => return (at, answer),
                    }
                    if std::mem::take(&mut first) {
                        failed.send_modify(|count| *count += 1);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        loop {
            match tokio::time::timeout_at(until, asking.join_next()).await {
                Ok(Some(Ok((at, Ok(answer))))) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Some(Ok((_, Err(status))))) => return Err(AskError::Refused(status)),
                // One has panicked, which is a bug here; the others may still answer.
                Ok(Some(Err(error))) => tracing::error!("a question to etcd has ended: {error}"),
                Ok(None) | Err(_) => {
                    let said: Vec<String> = said.iter().map(Said::text).collect();
                    return Err(AskError::Nobody(said.join("; ")));
                }
            }
        }
    }
}

/// What a member has said last.
#[derive(Clone, Debug)]
struct Said {
    endpoint: String,
    what: Arc<Mutex<Option<String>>>,
}

impl Said {
    fn new(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), what: Arc::default() }
    }

    fn is(&self, what: String) {
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    fn text(&self) -> String {
        let what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{}: {}", self.endpoint, what.as_deref().unwrap_or("nothing"))
    }
}

/// Whether another member, or the same one a moment later, may say something else (codes as etcd's
/// `api/v3rpc/rpctypes/error.go` has them).
fn may_be_better_elsewhere(code: Code) -> bool {
    match code {
        // Not reached, no leader, leader changed, timed out, too many requests, stopping.
        Code::Unavailable
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Cancelled
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => true,
        // It has answered the question.
        Code::Ok
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => false,
    }
}

/// What a status says, with what is behind it: tonic's own words are "transport error".
pub(super) fn words(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let text = error.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        source = error.source();
    }
    words
}
