//! Knocks at a peer whose daemon is silent: does its kernel answer (O7)?
//!
//! A connection that is taken is an answer, and so is one that is refused or reset: somebody's kernel has said so. No
//! answer within the time, or a router's word that there is no way, is none. Nothing is sent, and nothing is read.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::names::{NodeName, PathName};
use mainstay_core::spec::Spec;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use crate::happening::Happening;

/// Knocks that go on, at the most: every peer on every path of a large cluster at once. More wait.
const AT_ONCE_MAX: usize = 64;
/// A kernel answers within this wherever a heartbeat is of use; half the dead time is less, usually.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Where each peer is on each path, and how long it may take to answer.
#[derive(Clone, Debug)]
pub struct Knocker {
    addresses: Arc<BTreeMap<(NodeName, PathName), (String, Duration)>>,
    at_once: Arc<Semaphore>,
    happenings: mpsc::Sender<Happening>,
}

impl Knocker {
    /// As the config has it.
    #[must_use]
    pub fn new(spec: &Spec, happenings: mpsc::Sender<Happening>) -> Self {
        let mut addresses = BTreeMap::new();
        for (node, node_spec) in &spec.nodes {
            for (path, address) in &node_spec.address {
                let Some(path_spec) = spec.paths.get(path) else { continue };
                let limit = ANSWER_MAX.min(Duration::from_millis(path_spec.dead_time().0 / 2));
                addresses.insert((node.clone(), path.clone()), (address.clone(), limit));
            }
        }
        Self { addresses: Arc::new(addresses), at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)), happenings }
    }

    /// Knocks; what comes of it comes as a happening.
    pub fn knock(&self, node: NodeName, path: PathName) {
        let this = self.clone();
        tokio::spawn(async move {
            let answered = match this.addresses.get(&(node.clone(), path.clone())) {
                Some((address, limit)) => {
                    // Never closed.
                    let _turn = this.at_once.acquire().await;
                    answers(address, *limit).await
                }
                None => false,
            };
            // Without a driver there is nobody to tell: the daemon stops.
            let _ = this.happenings.send(Happening::Knocked(node, path, answered)).await;
        });
    }
}

async fn answers(address: &str, limit: Duration) -> bool {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kernel_answers_by_taking_or_refusing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let second = Duration::from_secs(1);
        assert!(answers(&address, second).await, "it is taken");
        drop(listener);
        assert!(answers(&address, second).await, "it is refused");
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        // A listener whose queue is full drops what comes, as a machine that is off does.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
        let mut fill = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(&address)).await
        {
            fill.push(stream);
        }
        let began = std::time::Instant::now();
        assert!(!answers(&address, Duration::from_millis(200)).await);
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(!answers("no-such-host.invalid:1", Duration::from_secs(1)).await);
    }
}
