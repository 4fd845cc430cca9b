//! Asks a name server for the address of a name, once, without any cache in between.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_server::proto::ProtoError;
use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, RecordType};

/// The longest answer by UDP without further agreement, in bytes (RFC 1035).
const ANSWER_BYTES_MAX: usize = 512;

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// Nothing came.
    #[error("the name server does not answer: {}", .0.kind())]
    NoAnswer(io::Error),
    /// It has no such name, or does not want to tell.
    #[error("the name server says {0}")]
    Refused(ResponseCode),
    /// There is not exactly one.
    #[error("the name has {0} addresses")]
    Count(usize),
    /// What came is no answer.
    #[error("the name server answers nonsense")]
    Nonsense,
    /// The question.
    #[error("the question cannot be written: {0}")]
    Question(#[from] ProtoError),
}

/// The one IPv4 address of `name`, as the server tells it within `limit`. `id` tells answers apart.
pub(crate) fn address(server: SocketAddr, name: &Name, id: u16, limit: Duration) -> Result<Ipv4Addr, LookupError> {
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name.clone(), RecordType::A));
    let question = question.to_vec()?;
    // A socket of its own: an answer to an earlier question does not reach it.
    let answer = exchange(server, &question, id, limit).map_err(LookupError::NoAnswer)?;
    let answer = Message::from_vec(&answer).map_err(|_| LookupError::Nonsense)?;
    read_answer(&answer)
}

fn exchange(server: SocketAddr, question: &[u8], id: u16, limit: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + limit;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut answer) {
            Ok(length) if answer.starts_with(&id.to_be_bytes()) => return Ok(answer[..length].to_vec()),
            // Somebody else's answer.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
}

fn read_answer(answer: &Message) -> Result<Ipv4Addr, LookupError> {
    if answer.metadata.response_code != ResponseCode::NoError {
        return Err(LookupError::Refused(answer.metadata.response_code));
    }
    let addresses: Vec<Ipv4Addr> = answer
        .answers
        .iter()
        .filter_map(|record| if let RData::A(address) = &record.data { Some(address.0) } else { None })
        .collect();
    match addresses[..] {
        [address] => Ok(address),
        _ => Err(LookupError::Count(addresses.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name_server::{NameServer, ZONE};
    use mainstay_test_support::{TempDir, WAIT_LIMIT};

    fn name(label: &str) -> Name {
        Name::from_ascii(format!("{label}.{ZONE}.")).unwrap()
    }

    #[test]
    fn the_demos_name_server_answers_what_it_knows_and_says_what_it_does_not() {
        let folder = TempDir::new();
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = tokio.block_on(NameServer::start(folder.path())).unwrap();
        let ask = |label| address(server.address(), &name(label), 7, WAIT_LIMIT);
        assert_eq!(ask("ns").unwrap(), Ipv4Addr::LOCALHOST);
        assert!(matches!(ask("shop"), Err(LookupError::Refused(ResponseCode::NXDomain))));
        assert!(matches!(ask(&format!("x.{}", "y")), Err(LookupError::Refused(_))));
    }

    #[test]
    fn a_silent_server_is_waited_for_no_longer_than_the_limit() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = silent.local_addr().unwrap();
        let error = address(server, &name("shop"), 7, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "the name server does not answer: timed out");
    }

    #[test]
    fn an_answer_to_another_question_is_not_taken() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut question = [0; 512];
            let (length, from) = server.recv_from(&mut question).unwrap();
            question[0] ^= 1;
            server.send_to(&question[..length], from).unwrap();
        });
        let error = address(at, &name("shop"), 7, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, LookupError::NoAnswer(_)), "{error}");
        thread.join().unwrap();
    }
}
