//! HTTP/1.1, one GET: the status of the page is what counts, and nothing of its content is read.

use httparse::{EMPTY_HEADER, Response, Status};

use super::talk::{Talk, shown};
use super::{Stop, What};
use crate::plan::Endpoint;

/// The longest head of an answer, in bytes, and how many fields it has: Exchange's are 1 to 2 KiB and a few dozen.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 96;
/// The status of a page that exists and may not be seen, which is what Exchange gives where it wants TLS.
const FORBIDDEN: u16 = 403;

pub(super) fn look(talk: &mut Talk, endpoint: &Endpoint) -> Result<(), Stop> {
    let page = &endpoint.page;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: mainstay\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        page.path, page.site
    );
    talk.send(request.as_bytes())?;
    let status = status(talk)?;
    if page.statuses.contains(&status) {
        return Ok(());
    }
    let wanted: Vec<String> = page.statuses.iter().map(u16::to_string).collect();
    let hint = if status == FORBIDDEN && endpoint.implicit.is_none() { "; does it want TLS?" } else { "" };
    let said = format!("answers {} with status {status} in place of {}{hint}", page.path, wanted.join(" or "));
    Err(talk.bad(What::Transaction, &said))
}

/// The status of the answer, once its head is there.
fn status(talk: &mut Talk) -> Result<u16, Stop> {
    loop {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let head = talk.unread();
        let no_http = |why: &str| {
            let begin = shown(&String::from_utf8_lossy(head));
            talk.bad(What::Greeting, &format!("answers with what is no HTTP ({why}): {begin}"))
        };
        match response.parse(head) {
            Ok(Status::Complete(_)) => {
                return match response.code {
                    Some(code) => Ok(code),
                    None => Err(no_http("it has no status")),
                };
            }
            Ok(Status::Partial) if head.len() > HEAD_BYTES_MAX => return Err(no_http("its head does not end")),
            Ok(Status::Partial) => {}
            Err(error) => return Err(no_http(&error.to_string())),
        }
        talk.more()?;
    }
}
