//! Small machines with a kernel of their own, for what the kernel of the tests may not have: nbd and DRBD.
//!
//! They are emulated (QEMU's TCG), so that they need no virtualization; they are for what happens, not for how fast. Each is
//! one file in memory: Debian's kernel, the modules and programs that are asked for, and [`init.sh`](../../src/vm/init.sh),
//! which carries out what is written to a serial port. A machine is gone with its [`Vm`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_test_support::{Guard, TempDir, require_or_skip, skip, wait_for};

/// From power to the first answer: ten seconds if nothing else runs.
const BOOT: Duration = Duration::from_secs(300);
/// One command in a machine, or what is waited for there: to compile a kit takes half a minute if nothing else runs.
const COMMAND: Duration = Duration::from_secs(300);
const MEMORY_MIB: &str = "768";
const DISK_BYTES: u64 = 64 << 20;
/// Of its disks, `/dev/vda` and `/dev/vdb`.
const DISKS: [&str; 2] = ["vda", "vdb"];
/// What every machine has.
const MODULES: &[&str] = &["virtio_pci", "virtio_net", "virtio_blk"];

/// What machines are booted from.
#[derive(Debug)]
pub struct Image {
    folder: TempDir,
    kernel: PathBuf,
}

impl Image {
    /// None: something is missing, and the test is skipped. `packages` names programs and what installs each, `modules` what
    /// is loaded with which parameters; `files` are further files, each with where it is put.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn make(packages: &[(&str, &str)], modules: &[&str], files: &[(&Path, &str)]) -> Option<Self> {
        require_or_skip("qemu-system-x86_64", "apt-get install qemu-system-x86")?;
        require_or_skip("cpio", "apt-get install cpio")?;
        let kernel = std::env::var_os("MAINSTAY_VM_KERNEL").map(PathBuf::from);
        let Some(kernel) = kernel.filter(|folder| folder.join("vmlinuz").exists()) else {
            skip("needs MAINSTAY_VM_KERNEL, the folder of a kernel", "just volume-vm");
            return None;
        };
        let folder = TempDir::new();
        let root = folder.folder("root");
        for dir in
            ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "modules", "proc", "sys", "dev", "tmp", "run", "root"]
        {
            fs::create_dir_all(root.join(dir)).expect("there is room");
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name)).expect("it is not there yet");
        }
        for dir in ["var/lib", "var/lock", "etc", "srv"] {
            fs::create_dir_all(root.join(dir)).expect("there is room");
        }
        put(&root, &require_or_skip("busybox", "apt-get install busybox-static")?, "/bin/busybox");
        for (program, install) in packages {
            let path = require_or_skip(program, install)?;
            put(&root, &path, &path.to_string_lossy());
        }
        for (from, to) in files {
            put(&root, from, to);
        }
        let libraries = libraries_of(&root);
        for library in &libraries {
            put(&root, library, &library.to_string_lossy());
        }
        put_modules(&root, &kernel.join("modules"), modules);
        write_program(&root.join("init"), include_str!("init.sh"));
        let archive = "find . | cpio --quiet --create --format=newc > ../initrd";
        run(Command::new("sh").args(["-euc", archive]).current_dir(&root));
        fs::remove_dir_all(&root).expect("nobody uses it");
        Some(Self { folder, kernel: kernel.join("vmlinuz") })
    }
}

/// A file, readable and executable for all.
fn write_program(path: &Path, text: &str) {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, PermissionsExt::from_mode(0o755)))
        .expect("there is room");
}

/// Copies a file to where it is in the machine, without what a debugger would want of it.
fn put(root: &Path, from: &Path, to: &str) {
    let to = root.join(to.trim_start_matches('/'));
    fs::create_dir_all(to.parent().expect("it is in a folder")).expect("there is room");
    fs::copy(from, &to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
    if fs::read(&to).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")) {
        run(Command::new("strip").arg("--strip-debug").arg(&to));
    }
}

/// What the programs there need to run, as the loader of this machine finds it.
fn libraries_of(root: &Path) -> BTreeSet<PathBuf> {
    let list = "find . -type f -perm /111 -exec ldd {} + 2> /dev/null || true";
    let said = run(Command::new("sh").args(["-euc", list]).current_dir(root));
    said.split_whitespace().filter(|word| word.starts_with("/lib")).map(PathBuf::from).collect()
}

/// Modules, those that they need before them, and the order in which they are loaded.
fn put_modules(root: &Path, from: &Path, wanted: &[&str]) {
    let known = fs::read_to_string(from.join("modules.dep")).expect("depmod has written it");
    let mut order = Vec::new();
    for line in MODULES.iter().chain(wanted) {
        let (name, params) = line.split_once(' ').unwrap_or((line, ""));
        let file = format!("/{name}.ko:");
        let found = known.lines().find(|line| line.contains(&file)).unwrap_or_else(|| panic!("no module {name}"));
        let (path, needs) = found.split_once(':').expect("it was found by it");
        for path in needs.split_whitespace().rev() {
            add_module(root, from, path, "", &mut order);
        }
        add_module(root, from, path, params, &mut order);
    }
    let lines = order.join("\n") + "\n";
    fs::write(root.join("modules/order"), lines).expect("there is room");
}

fn add_module(root: &Path, from: &Path, path: &str, params: &str, order: &mut Vec<String>) {
    let name = Path::new(path).file_name().expect("it is a file").to_string_lossy().into_owned();
    if order.iter().any(|line| line.split(' ').next() == Some(&name)) {
        return;
    }
    fs::copy(from.join(path), root.join("modules").join(&name)).unwrap_or_else(|error| panic!("{path}: {error}"));
    order.push(format!("{name} {params}").trim_end().to_owned());
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command in a machine said, and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// Output and errors.
    pub text: String,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Vm {
    name: String,
    port: BufReader<UnixStream>,
    asked: u32,
    /// The machine itself; its console is the output.
    machine: Guard,
    is_up: bool,
    /// With its disks.
    _folder: TempDir,
    _wire: Wire,
}

impl Vm {
    /// Switches one on, and does not wait until it is up. Its address on the wire is `10.0.0.NUMBER`.
    ///
    /// # Panics
    /// When it cannot be switched on.
    #[must_use]
    #[track_caller]
    pub fn boot(image: &Image, name: &str, number: u8, wire: &Wire) -> Self {
        let folder = TempDir::new();
        let port = folder.join("port");
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", MEMORY_MIB]);
        qemu.args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
        qemu.arg("-chardev").arg(format!("socket,id=port,path={},server=on,wait=off", port.display()));
        qemu.args(["-serial", "chardev:port", "-kernel"]).arg(&image.kernel);
        qemu.arg("-initrd").arg(image.folder.join("initrd"));
        qemu.arg("-append").arg(format!("console=ttyS0 quiet panic=-1 host={name} address=10.0.0.{number}/24"));
        for disk in DISKS {
            let file = folder.join(disk);
            File::create(&file).and_then(|file| file.set_len(DISK_BYTES)).expect("there is room");
            let drive = format!("if=none,id={disk},format=raw,cache=writeback,file={}", file.display());
            qemu.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive={disk}")]);
        }
        let (socket, first) = (wire.folder.join("wire"), !wire.folder.join("wire").exists());
        let server = if first { "on" } else { "off" };
        qemu.arg("-netdev")
            .arg(format!("stream,id=wire,server={server},addr.type=unix,addr.path={}", socket.display()));
        qemu.args(["-device", &format!("virtio-net-pci,netdev=wire,mac=52:54:00:00:00:{number:02x}")]);
        let machine = Guard::start(&format!("machine {name}"), &mut qemu).unwrap_or_else(|error| panic!("{error}"));
        let connect = || UnixStream::connect(&port).ok();
        let stream = wait_for(BOOT, &format!("the serial port of {name}"), connect);
        if first {
            wait_for(BOOT, "the wire", || socket.exists().then_some(()));
        }
        Self {
            name: name.to_owned(),
            port: BufReader::new(stream),
            asked: 0,
            is_up: false,
            machine,
            _folder: folder,
            _wire: wire.clone(),
        }
    }

    /// Carries out a line of shell, and waits for it.
    ///
    /// # Panics
    /// When the machine does not come up, or the command does not end.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Answer {
        assert!(!line.contains('\n'), "it is a line: {line:?}");
        if !self.is_up {
            self.answer("up", BOOT);
            self.is_up = true;
        }
        self.asked += 1;
        let number = self.asked.to_string();
        let port = self.port.get_mut();
        port.write_all(format!("{number} {line}\n").as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.answer(&number, COMMAND)
    }

    /// The same; what it says. It has to succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn ok(&mut self, line: &str) -> String {
        let Answer { code, text } = self.run(line);
        assert_eq!(code, 0, "on {}: {line}\n{text}", self.name);
        text
    }

    /// Carries it out again and again until it succeeds; what it says then.
    ///
    /// # Panics
    /// When it does not within the limit of a command.
    #[track_caller]
    pub fn wait(&mut self, line: &str) -> String {
        let until = Instant::now() + COMMAND;
        loop {
            let Answer { code, text } = self.run(line);
            if code == 0 {
                return text;
            }
            assert!(Instant::now() < until, "waited {} s on {}: {line}\n{text}", COMMAND.as_secs(), self.name);
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    #[track_caller]
    fn answer(&mut self, number: &str, limit: Duration) -> Answer {
        let port = self.port.get_ref();
        port.set_read_timeout(Some(limit)).expect("it is a socket");
        let mut text = String::new();
        loop {
            let mut line = Vec::new();
            let read = self.port.read_until(b'\n', &mut line);
            let end = read.as_ref().is_ok_and(|bytes| *bytes == 0);
            if end || read.is_err() {
                panic!("{} does not answer ({read:?}); so far: {text}\n{}", self.name, self.machine.output());
            }
            let line = String::from_utf8_lossy(&line);
            if let Some((said, code)) = line.strip_prefix('\u{1}').and_then(|line| line.trim_end().split_once(' '))
                && said == number
            {
                let code = code.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
                return Answer { code, text: text.trim_end().to_owned() };
            }
            text += &line;
        }
    }
}

/// A network between two machines.
#[derive(Clone, Debug)]
pub struct Wire {
    folder: Arc<TempDir>,
}

impl Wire {
    /// One that nobody is on yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self { folder: Arc::new(TempDir::new()) }
    }
}
