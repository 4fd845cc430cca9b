//! `mainstay-volume`: the process of one copy of a volume, and what makes one.
//!
//! ```text
//! mainstay-volume create CONFIG.json [--first] [--size BYTES]
//! mainstay-volume serve CONFIG.json
//! mainstay-volume ask SOCKET ASK
//! ```

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_core::time::UnixMs;
use mainstay_volume::config::Config;
use mainstay_volume::{files, serve};
use tracing_subscriber::EnvFilter;

/// How long an answer may take: a demotion takes the stall time at the most.
const ANSWER: Duration = Duration::from_secs(60);

const USAGE: &str = "usage:
  mainstay-volume create CONFIG.json [--first] [--size BYTES]   make a copy; with --first, of the data that is there
  mainstay-volume serve CONFIG.json                             serve it until SIGTERM
  mainstay-volume ask SOCKET ASK                                ask the process at its control socket, in JSON";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["serve", config] => load(config).and_then(|config| serve(&config).map_err(|error| error.to_string())),
        ["create", config, rest @ ..] => load(config).and_then(|config| create(&config, rest)),
        ["ask", socket, ask] => answer(Path::new(socket), ask),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay-volume: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(path: &str) -> Result<Config, String> {
    Config::load(Path::new(path)).map_err(|error| error.to_string())
}

fn create(config: &Config, args: &[&str]) -> Result<(), String> {
    let (mut first, mut size) = (false, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--first" => first = true,
            "--size" => {
                let bytes = args.next().and_then(|bytes| bytes.parse().ok());
                size = Some(bytes.ok_or("--size is followed by a number of bytes")?);
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    let id = config.id().map_err(|error| error.to_string())?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let bytes = files::create(&config.backing, &config.log, (id, config.side), first, size, now)
        .map_err(|error| error.to_string())?;
    println!("volume {id}, side {}: {bytes} bytes", config.side);
    Ok(())
}

fn answer(socket: &Path, ask: &str) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(at)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(at)?;
    stream.write_all(format!("{{\"id\":1,\"ask\":{ask}}}\n").as_bytes()).map_err(at)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(at)?;
    println!("{}", line.trim_end());
    Ok(())
}
