//! Misbehaviour with what the host offers: programs, sockets, the store, random bytes.

use std::time::Duration;

use mainstay_sdk::prelude::*;

use crate::Answer;

/// As long as can be asked for.
const FOR_EVER: Duration = Duration::from_millis(u32::MAX as u64);

pub(crate) fn run(request: &command::Request) -> Result<Answer, Error> {
    let completed = request.run()?;
    let ending = match completed.ending {
        command::Ending::Exited(code) => format!("exited with {code}"),
        command::Ending::Signalled(signal) => format!("was ended by signal {signal}"),
        command::Ending::TimedOut => "ran out of time".to_owned(),
    };
    let mut answer = Answer::new(ending);
    for (name, value) in [
        ("stdout-bytes", completed.stdout.len().to_string()),
        ("stderr-bytes", completed.stderr.len().to_string()),
        ("truncated", completed.truncated.to_string()),
        ("output", completed.tail(1000)),
    ] {
        answer.details.push((name.to_owned(), value));
    }
    Ok(answer)
}

pub(crate) fn run_forever(program: &str) -> Result<Answer, Error> {
    loop {
        command::Request::new(program).run()?;
    }
}

pub(crate) fn connect(host: &str, port: u16) -> Result<Answer, Error> {
    let _tcp = net::Tcp::connect(host, port, Duration::from_secs(5))?;
    Ok(Answer::new("connected"))
}

pub(crate) fn connect_forever(host: &str, port: u16) -> ! {
    loop {
        // Whether it is refused makes no difference here.
        let _ = net::Tcp::connect(host, port, Duration::from_secs(5));
    }
}

pub(crate) fn datagram(host: &str, port: u16) -> Result<Answer, Error> {
    net::Udp::connect(host, port)?.send(b"hello")?;
    Ok(Answer::new("sent"))
}

pub(crate) fn listen(host: &str, port: u16) -> Result<Answer, Error> {
    let tcp = net::Tcp::connect(host, port, FOR_EVER)?;
    let heard = tcp.read(1, FOR_EVER)?;
    Ok(Answer::new(format!("heard {} bytes", heard.len())))
}

pub(crate) fn read_much(host: &str, port: u16) -> Result<Answer, Error> {
    let tcp = net::Tcp::connect(host, port, FOR_EVER)?;
    let heard = tcp.read(u32::MAX, FOR_EVER)?;
    Ok(Answer::new(format!("heard {} bytes", heard.len())))
}

pub(crate) fn write_much(host: &str, port: u16, bytes: u32) -> Result<Answer, Error> {
    let tcp = net::Tcp::connect(host, port, FOR_EVER)?;
    tcp.write(&vec![b'x'; bytes as usize], FOR_EVER)?;
    Ok(Answer::new(format!("wrote {bytes} bytes")))
}

pub(crate) fn hold_sockets(host: &str, port: u16, count: u32) -> Answer {
    let mut held = Vec::new();
    for _ in 0..count {
        match net::Udp::connect(host, port) {
            Ok(socket) => held.push(socket),
            Err(fault) => {
                let mut answer = Answer::new(format!("holds {}", held.len()));
                answer.details.push(("refused".to_owned(), fault.to_string()));
                return answer;
            }
        }
    }
    Answer::new(format!("holds {}", held.len()))
}

pub(crate) fn store_forever() -> ! {
    loop {
        // Whether it is refused makes no difference here.
        let _ = store::put("value", b"x");
    }
}

/// For each key what put, get and delete made of it.
pub(crate) fn store_keys(keys: &[String]) -> Answer {
    let word = |result: Result<(), Fault>| match result {
        Ok(()) => "ok".to_owned(),
        Err(fault) => format!("{:?}", fault.kind).to_lowercase(),
    };
    let mut answer = Answer::new(format!("{} keys", keys.len()));
    for (n, key) in keys.iter().enumerate() {
        let put = word(store::put(key, b"x"));
        let get = word(store::get(key).map(drop));
        let delete = word(store::delete(key));
        answer.details.push((format!("key-{n}"), format!("{put} {get} {delete}")));
    }
    answer
}

pub(crate) fn store_much(bytes: u32, count: u32) -> Result<Answer, Error> {
    let value = vec![b'x'; bytes as usize];
    let mut refused = String::new();
    for n in 0..count {
        if let Err(fault) = store::put(&format!("value-{n}"), &value) {
            refused = fault.to_string();
            break;
        }
    }
    let mut answer = Answer::new(format!("stored {}", store::keys()?.len()));
    answer.details.push(("refused".to_owned(), refused));
    Ok(answer)
}

/// Past the SDK, which asks in pieces.
#[cfg(target_arch = "wasm32")]
pub(crate) fn random(bytes: u32) -> Vec<u8> {
    mainstay_sdk::bindings::mainstay::kit::random::bytes(bytes)
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn random(bytes: u32) -> Vec<u8> {
    random::bytes(bytes as usize)
}
