//! Misbehaviour past the contract: through Rust's own library, which reaches WASI in a component that has it.
//! Without WASI all of it is refused by the library itself.

use mainstay_sdk::prelude::*;

use crate::Answer;

fn refused(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Denied, "outside", error.to_string())
}

pub(crate) fn read_file(path: &str) -> Result<Answer, Error> {
    let bytes = std::fs::read(path).map_err(|error| refused(&error))?;
    Ok(Answer::new(format!("read {} bytes", bytes.len())))
}

pub(crate) fn environment() -> Answer {
    Answer::new(format!("{} variables, {} arguments", std::env::vars_os().count(), std::env::args_os().count()))
}

pub(crate) fn connect(address: &str) -> Result<Answer, Error> {
    std::net::TcpStream::connect(address).map_err(|error| refused(&error))?;
    Ok(Answer::new("connected"))
}

pub(crate) fn print_forever() -> ! {
    loop {
        println!("a line to standard output");
    }
}

pub(crate) fn print(lines: u32) -> Answer {
    for n in 0..lines {
        println!("out {n}");
        eprintln!("err {n}");
    }
    Answer::new("printed")
}
