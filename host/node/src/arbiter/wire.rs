//! The part of etcd's gRPC interface that the arbiter needs, written out by hand.
//!
//! Numbers and types are those of etcd's `rpc.proto` and `kv.proto` (API version 3, frozen since etcd 3.0; a field that
//! is not named here is skipped when it is read). By hand, because generating them needs `protoc` on every machine that
//! builds mainstay, and eleven messages of a frozen interface do not change. Decides nothing.

use http::uri::PathAndQuery;
use prost::Message;
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// The longest answer that is read, in bytes: a thousand hierarchies whose claims have the longest lineage have 3 MB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What stands above every answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(super) raft_term: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(super) lease: i64,
}

/// Linearizable, as long as `serializable` (7) is not set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
}

/// Of a transaction; one of the fields.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeRequest>,
    #[prost(message, optional, tag = "2")]
    pub(super) put: Option<PutRequest>,
    #[prost(message, optional, tag = "3")]
    pub(super) delete: Option<DeleteRangeRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    pub(super) range: Option<RangeResponse>,
}

/// `result` is always EQUAL (0), and `target` always MOD (2); a key that is not there has the mod revision 0.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(int64, optional, tag = "6")]
    mod_revision: Option<i64>,
}

impl Compare {
    /// Holds while nothing has written the key since.
    pub(super) fn unchanged(key: Vec<u8>, mod_revision: i64) -> Self {
        const MOD: i32 = 2;
        Self { target: MOD, key, mod_revision: Some(mod_revision) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<ResponseOp>,
}

/// In s. An id of 0 (2) lets the server choose.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    pub(super) ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
    #[prost(string, tag = "4")]
    pub(super) error: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseKeepAliveRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// A `ttl` of 0: there is no such lease.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseKeepAliveResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
}

/// Asks the server to say something (since etcd 3.4).
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchProgressRequest {}

/// One of the fields.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) create: Option<WatchCreateRequest>,
    #[prost(message, optional, tag = "3")]
    pub(super) progress: Option<WatchProgressRequest>,
}

/// Of an event only that there is one: what is there then is looked at.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchEvent {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchResponse {
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<WatchEvent>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// A call with one question and one answer: which, and what it answers.
pub(super) trait Unary: Message + Default + 'static {
    /// Where it is called.
    const PATH: &'static str;
    /// What it answers.
    type Answer: Message + Default + 'static;
}

impl Unary for RangeRequest {
    const PATH: &'static str = "/etcdserverpb.KV/Range";
    type Answer = RangeResponse;
}

impl Unary for TxnRequest {
    const PATH: &'static str = "/etcdserverpb.KV/Txn";
    type Answer = TxnResponse;
}

impl Unary for LeaseGrantRequest {
    const PATH: &'static str = "/etcdserverpb.Lease/LeaseGrant";
    type Answer = LeaseGrantResponse;
}

impl Unary for StatusRequest {
    const PATH: &'static str = "/etcdserverpb.Maintenance/Status";
    type Answer = StatusResponse;
}

/// Asks one member.
pub(super) async fn unary<Q: Unary>(channel: Channel, question: Q) -> Result<Q::Answer, Status> {
    let mut client = ready(channel).await?;
    let codec: ProstCodec<Q, Q::Answer> = ProstCodec::default();
    Ok(client.unary(Request::new(question), PathAndQuery::from_static(Q::PATH), codec).await?.into_inner())
}

/// Keeps a lease alive once: of the stream that etcd offers, one question and one answer are used, so that each renewal
/// stands for itself.
pub(super) async fn keep_alive(channel: Channel, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    let question = Request::new(tokio_stream::once(LeaseKeepAliveRequest { id }));
    let mut answers: tonic::Streaming<LeaseKeepAliveResponse> =
        stream(channel, "/etcdserverpb.Lease/LeaseKeepAlive", question).await?;
    answers.message().await?.ok_or_else(|| Status::unavailable("the member has ended the call without an answer"))
}

/// Opens a stream of changes.
pub(super) async fn watch<S>(channel: Channel, questions: S) -> Result<tonic::Streaming<WatchResponse>, Status>
where
    S: Stream<Item = WatchRequest> + Send + 'static,
{
    let mut request = Request::new(questions);
    // A member that has no leader does not learn of changes: it is to end the stream then (clientv3.WithRequireLeader).
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    stream(channel, "/etcdserverpb.Watch/Watch", request).await
}

async fn stream<S, Q, A>(
    channel: Channel,
    path: &'static str,
    questions: Request<S>,
) -> Result<tonic::Streaming<A>, Status>
where
    S: Stream<Item = Q> + Send + 'static,
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = ready(channel).await?;
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    Ok(client.streaming(questions, PathAndQuery::from_static(path), codec).await?.into_inner())
}

async fn ready(channel: Channel) -> Result<tonic::client::Grpc<Channel>, Status> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    Ok(client)
}
