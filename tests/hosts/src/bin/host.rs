//! What runs in a test's host beside the daemon: its first process, the application, and the wire to the power strip.
//!
//! * `init`: the first process of the host's own process namespace. It waits for whatever ends, for ever; when it is
//!   killed, all that runs in the namespace is gone, as with the power.
//! * `serve NAME ADDRESS`: the application. Answers every connection with one line, `NAME PID START`. With `-` for NAME
//!   it is the host's own.
//! * `start NAME ADDRESS [MOVING]`: starts it in the background and returns once it answers, as an operator's script
//!   does. With MOVING, an address with its prefix and interface (`10.0.0.1/24@out`), the host has that first.
//! * `check NAME ADDRESS`: exit code 0 if it answers and is this host's. `stop NAME ADDRESS [MOVING]`: ends it.
//! * `strip SOCKET WHAT HOST`: asks the power strip for something; exit code 0 if it says that it is done.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long an answer may take, in ms.
const ANSWER_MS_MAX: u64 = 2_000;
/// How long the application may take to end, in ms.
const END_MS_MAX: u64 = 5_000;
/// How long the power strip may take, in s.
const STRIP_S_MAX: u64 = 20;
/// Between two looks, in ms.
const LOOK_MS: u64 = 2;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["init"] => init(),
        ["serve", name, address] => serve(name, address),
        ["start", name, address] => start(name, address, None),
        ["start", name, address, moving] => start(name, address, Some(moving)),
        ["check", name, address] => check(name, address),
        ["stop", name, address] => stop(name, address, None),
        ["stop", name, address, moving] => stop(name, address, Some(moving)),
        ["strip", socket, what, host] => strip(socket, what, host),
        _ => Err("usage: see the head of tests/hosts/src/bin/host.rs".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn init() -> Outcome {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    println!("the host is up");
    // For as long as the host has its power. The first process of a namespace is killed from outside only.
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        children.wait()?;
    }
}

fn serve(name: &str, address: &str) -> Outcome {
    let own = nix::unistd::gethostname()?;
    let name = if name == "-" { &*own.to_string_lossy() } else { name };
    let listener = TcpListener::bind(address)?;
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let line = format!("{name} {} {start}\n", std::process::id());
    println!("listening");
    // Until it is ended.
    for client in listener.incoming() {
        // A client that has gone again is none of its business.
        let _ = client.and_then(|mut client| client.write_all(line.as_bytes()));
    }
    Ok(())
}

fn start(name: &str, address: &str, moving: Option<&str>) -> Outcome {
    if let Some(moving) = moving {
        address_to(moving, "replace")?;
    }
    if check(name, address).is_err() {
        let mut server = Command::new(std::env::current_exe()?);
        server.args(["serve", name, address]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Out of reach of what ends this program's own group.
        let mut server = server.process_group(0).spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        if line != "listening\n" {
            return Err(format!("it ended at once: {}", server.wait()?).into());
        }
    }
    moving.map_or(Ok(()), announce)
}

fn check(name: &str, address: &str) -> Outcome {
    ask(name, address).map(|_| ())
}

/// The process that serves here.
fn ask(name: &str, address: &str) -> Result<Pid, Box<dyn std::error::Error>> {
    let mut address: SocketAddr = address.parse()?;
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    let limit = Duration::from_millis(ANSWER_MS_MAX);
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let mut words = line.split_whitespace();
    match (words.next(), words.next()) {
        (Some(first), Some(pid)) if first == name => Ok(Pid::from_raw(pid.parse()?)),
        _ => Err(format!("it answers {line:?}").into()),
    }
}

fn stop(name: &str, address: &str, moving: Option<&str>) -> Outcome {
    if let Ok(pid) = ask(name, address) {
        kill(pid, Signal::SIGTERM)?;
        let began = Instant::now();
        while kill(pid, None).is_ok() {
            if began.elapsed() > Duration::from_millis(END_MS_MAX) {
                return Err(format!("process {pid} does not end").into());
            }
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }
    match moving {
        // One that is not there is as good as one that was taken away.
        Some(moving) if has(moving)? => address_to(moving, "delete"),
        Some(_) | None => Ok(()),
    }
}

/// `10.0.0.1/24@out`
fn parts(moving: &str) -> Result<(&str, &str), Box<dyn std::error::Error>> {
    moving.split_once('@').ok_or_else(|| format!("{moving} is no address with an interface").into())
}

fn address_to(moving: &str, verb: &str) -> Outcome {
    let (address, interface) = parts(moving)?;
    let done = Command::new("ip").args(["address", verb, address, "dev", interface]).output()?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).trim().into()) }
}

fn has(moving: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let (address, interface) = parts(moving)?;
    let shown = Command::new("ip").args(["-o", "address", "show", "dev", interface]).output()?;
    Ok(String::from_utf8_lossy(&shown.stdout).contains(&format!(" {address} ")))
}

/// Has everybody on the link learn where the address is now: a datagram from it to a neighbour that nobody knows makes
/// the kernel ask all of them, and they believe who asks (RFC 826).
fn announce(moving: &str) -> Outcome {
    let (address, _) = parts(moving)?;
    let address: IpAddr = address.split('/').next().unwrap_or_default().parse()?;
    let IpAddr::V4(own) = address else { return Err("only for IPv4".into()) };
    let [a, b, c, _] = own.octets();
    let socket = UdpSocket::bind((own, 0))?;
    // The last address of the link that a host could have, and none has; the port is that of `discard`.
    socket.send_to(b"here", (IpAddr::from([a, b, c, 254]), 9))?;
    Ok(())
}

fn strip(socket: &str, what: &str, host: &str) -> Outcome {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(STRIP_S_MAX)))?;
    stream.write_all(format!("{what} {host}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.trim_end() {
        "done" => {
            println!("{host} is off");
            Ok(())
        }
        other => Err(format!("the power strip says {other:?}").into()),
    }
}
