//! The local API: HTTP and JSON on a Unix socket that only the daemon's own user can open.
//!
//! ```text
//! GET  /v1/status                       everything at once
//! GET  /v1/explain/TAG                  why a resource is in its state, and what comes next
//! GET  /v1/events?after=N&wait-ms=MS    what came after event N; waits for the first
//! GET  /v1/health?hierarchy=H&within-ms=MS   whether the nodes are fit for H, or for everything; asks all of them
//! GET  /v1/snapshot                     what is known of the cluster, for mainstay plan --what-if
//! GET  /v1/measures                     counts
//! POST /v1/requests                     a request: see mainstay_core::node::Request
//! GET  /v1/volumes                      this node's copies of mirrored volumes
//! POST /v1/volumes/NAME                 a request: see volumes::VolumeRequest
//! ```
//!
//! An answer that is not 200 has a body `{"error": "..."}` that says what to do.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use mainstay_core::health::{WITHIN_MAX, WITHIN_MIN};
use mainstay_core::names::{HierarchyName, Tag, VolumeName};
use mainstay_core::node::{Reply, Request};
use mainstay_core::status::Status;
use mainstay_core::time::Millis;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::events::Events;
use crate::happening::Happening;
use crate::host_status::{HostStatus, HostView};
use crate::links::dropped::{Dropped, Reason};
use crate::measures::{Counts, Measures};
use crate::volumes::view::VolumeView;
use crate::volumes::{VolumeRequest, Volumes};

/// A request's body, in bytes, at the most: a request is a few names.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a follower may wait for an event, at the most: it asks again.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a health check may take unless it is said: kits that look after servers elsewhere take seconds.
pub const HEALTH: Millis = Millis::from_secs(10);
/// How long the daemon may take to answer. A request waits for its record to be durable, and maybe for another node.
const ANSWER: Duration = Duration::from_secs(20);

/// What handlers need.
#[derive(Clone, Debug)]
pub struct Api {
    /// To the driver.
    pub happenings: mpsc::Sender<Happening>,
    /// The newest events.
    pub events: Events,
    /// What was counted.
    pub measures: Measures,
    /// What was dropped.
    pub dropped: Dropped,
    /// What the host knows besides the core.
    pub host: HostView,
    /// The volumes of this node.
    pub volumes: Volumes,
}

/// Everything at once: what the core knows, and what the host does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FullStatus {
    /// What the core knows.
    #[serde(flatten)]
    pub status: Status,
    /// What the host knows besides.
    pub host: HostStatus,
}

/// The body of every answer that is not 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong, and what to do.
    pub error: String,
}

/// The body of an accepted request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcceptedBody {
    /// What happens now.
    pub accepted: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Examined {
    #[serde(default)]
    hierarchy: Option<String>,
    #[serde(default)]
    within_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct After {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

/// Serves the API at `socket` for as long as the daemon lives.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(socket: &Path, api: Api) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Ok(()) => {}
        // Whoever left it there is gone: this process has the lock of the state directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/explain/{tag}", get(explain))
        .route("/v1/events", get(events))
        .route("/v1/health", get(health))
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/measures", get(measures))
        .route("/v1/requests", post(requests))
        .route("/v1/volumes", get(volumes))
        .route("/v1/volumes/{name}", post(volume))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(
                "the local API ends: {error}; restart the daemon to have it again, resources stay in service"
            );
        }
    });
    Ok(())
}

fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(ErrorBody { error: error.into() })).into_response()
}

async fn nothing_here() -> Response {
    refuse(StatusCode::NOT_FOUND, "there is nothing here: the API is described in docs/reference/api.md")
}

impl Api {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Happening) -> Result<T, Response> {
        self.ask_within(ANSWER, ask).await
    }

    async fn ask_within<T>(
        &self,
        limit: Duration,
        ask: impl FnOnce(oneshot::Sender<T>) -> Happening,
    ) -> Result<T, Response> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.happenings.send(ask(reply)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is just stopping")),
            Err(_) => Err(refuse(
                StatusCode::GATEWAY_TIMEOUT,
                format!(
                    "the daemon has not answered within {} s: its disk may not take what it has to record; see its log. What was asked may still be done",
                    limit.as_secs()
                ),
            )),
        }
    }
}

async fn status(State(api): State<Api>) -> Response {
    match api.ask(Happening::Status).await {
        Ok((status, trouble)) => Json(FullStatus { status, host: api.host.status(trouble) }).into_response(),
        Err(refused) => refused,
    }
}

async fn explain(State(api): State<Api>, UrlPath(tag): UrlPath<String>) -> Response {
    match api.ask(|reply| Happening::Explain(Tag::new(&*tag), reply)).await {
        Ok(Some(explanation)) => Json(explanation).into_response(),
        Ok(None) => refuse(StatusCode::NOT_FOUND, format!("there is no resource `{tag}` on this node")),
        Err(refused) => refused,
    }
}

async fn events(State(api): State<Api>, asked: Result<Query<After>, QueryRejection>) -> Response {
    let After { after, wait_ms } = match asked {
        Ok(Query(asked)) => asked,
        Err(rejection) => return refuse(rejection.status(), rejection.body_text()),
    };
    Json(api.events.after(after, Duration::from_millis(wait_ms).min(WAIT_MAX)).await).into_response()
}

async fn health(State(api): State<Api>, asked: Result<Query<Examined>, QueryRejection>) -> Response {
    let Examined { hierarchy, within_ms } = match asked {
        Ok(Query(asked)) => asked,
        Err(rejection) => return refuse(rejection.status(), rejection.body_text()),
    };
    let within = within_ms.map_or(HEALTH, Millis).clamp(WITHIN_MIN, WITHIN_MAX);
    let ask = |reply| Happening::Examine(hierarchy.map(HierarchyName::new), within, reply);
    match api.ask_within(Duration::from_millis(within.0) + ANSWER, ask).await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(why)) => refuse(StatusCode::CONFLICT, why),
        Err(refused) => refused,
    }
}

async fn snapshot(State(api): State<Api>) -> Response {
    match api.ask(Happening::Snapshot).await {
        Ok(snapshot) => Json(snapshot).into_response(),
        Err(refused) => refused,
    }
}

async fn measures(State(api): State<Api>) -> Json<Counts> {
    let dropped = Reason::ALL.iter().map(|reason| (reason.name().to_owned(), api.dropped.count(*reason))).collect();
    Json(Counts { dropped, ..api.measures.counts() })
}

async fn volumes(State(api): State<Api>) -> Json<Vec<VolumeView>> {
    Json(api.volumes.view())
}

async fn volume(
    State(api): State<Api>,
    UrlPath(name): UrlPath<String>,
    request: Result<Json<VolumeRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refuse(rejection.status(), rejection.body_text()),
    };
    match api.volumes.request(&VolumeName::new(&*name), request).await {
        Some(Ok(accepted)) => Json(AcceptedBody { accepted }).into_response(),
        Some(Err(why)) => refuse(StatusCode::CONFLICT, why),
        None => refuse(StatusCode::NOT_FOUND, format!("there is no volume `{name}` on this node")),
    }
}

async fn requests(State(api): State<Api>, request: Result<Json<Request>, JsonRejection>) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refuse(rejection.status(), rejection.body_text()),
    };
    match api.ask(|reply| Happening::Request(request, reply)).await {
        Ok(Reply::Accepted(accepted)) => Json(AcceptedBody { accepted }).into_response(),
        Ok(Reply::Refused(why)) => refuse(StatusCode::CONFLICT, why),
        Err(refused) => refused,
    }
}
