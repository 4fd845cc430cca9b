//! The supervisor as a program of its own: `mainstay-supervise DIR`, with DIR the folder of one command.
//!
//! The `mainstay` binary holds the same as `mainstay supervise DIR`. Nobody calls either by hand.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next()) {
        (Some(dir), None) => mainstay_supervisor::supervise(Path::new(&dir)),
        _ => {
            eprintln!("usage: mainstay-supervise DIR, with DIR the folder of a command; mainstay calls this itself");
            ExitCode::from(2)
        }
    }
}
