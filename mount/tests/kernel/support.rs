//! Mounts and processes that clean up after themselves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dupfs_mount::{Mount, Options, mount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::memory::Memory;

/// An ordinary user: nobody.
pub const USER: u32 = 65534;

/// Fails where these tests cannot run.
pub fn require() {
    assert!(
        Path::new("/dev/fuse").exists(),
        "cannot test: /dev/fuse is missing; load the kernel module fuse"
    );
    assert!(rustix::process::geteuid().is_root(), "cannot test: these tests must be run as root");
}

/// A tree mounted by this process.
pub struct Mounted {
    pub mount: Mount,
    pub memory: Memory,
    pub log: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
}

impl Mounted {
    pub fn sample() -> Mounted {
        Mounted::with(|_| ())
    }

    pub fn with(adapt: impl FnOnce(&mut Options)) -> Mounted {
        Mounted::of(Memory::sample(), adapt)
    }

    pub fn of(memory: Memory, adapt: impl FnOnce(&mut Options)) -> Mounted {
        require();
        let directory = mountpoint();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let mut options = Options {
            log: Arc::new(move |line| lines.lock().unwrap().push(line.to_owned())),
            ..Options::default()
        };
        adapt(&mut options);
        let mount = mount(memory.clone(), directory.path(), &options).unwrap();
        memory.calls();
        Mounted { mount, memory, log, directory }
    }

    /// The mount point.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.memory.release();
    }
}

/// An empty directory that everybody may enter and the ordinary user may mount on.
pub fn mountpoint() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    rustix::fs::chown(directory.path(), Some(rustix::fs::Uid::from_raw(USER)), None).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// The line of /proc/mounts about a mount point.
pub fn listed(mountpoint: &Path) -> Option<String> {
    let wanted = format!(" {} ", mountpoint.display());
    fs::read_to_string("/proc/mounts")
        .unwrap()
        .lines()
        .rfind(|line| line.contains(&wanted))
        .map(str::to_owned)
}

/// Waits until something is true, and fails after so many seconds.
pub fn within(seconds: u64, what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A child process that is killed at the end.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process(command.spawn().unwrap())
    }

    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for its end, and fails after so many seconds.
    pub fn end_within(&mut self, seconds: u64) -> ExitStatus {
        let mut status = None;
        within(seconds, "end of a process", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example program, copied to where every user may run it.
fn program(directory: &Path) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().unwrap().parent().unwrap().join("examples/memory");
    assert!(built.exists(), "cannot test: {} is missing; cargo test builds it", built.display());
    let copy = directory.join("memory");
    // Not by this process: another test's fork could hold the copy open for writing, and so keep it
    // from being run.
    assert!(Command::new("cp").args([&built, &copy]).status().unwrap().success());
    copy
}

/// A tree mounted by another process.
pub struct Served {
    pub process: Process,
    directory: TempDir,
    _program: TempDir,
}

impl Served {
    /// Starts the example and waits until it has mounted.
    pub fn start(adapt: impl FnOnce(&mut Command)) -> Served {
        Served::try_start(adapt)
            .unwrap_or_else(|message| panic!("the example did not mount: {message}"))
    }

    /// Starts it as the ordinary user; the device must be open to him, see [`open_device`].
    pub fn start_as_user(_: &OpenDevice) -> Served {
        Served::start(|command| {
            command.uid(USER).gid(USER);
        })
    }

    /// Returns what it says if it does not mount.
    pub fn try_start(adapt: impl FnOnce(&mut Command)) -> Result<Served, String> {
        require();
        let (directory, program_directory) = (mountpoint(), mountpoint());
        let mut command = Command::new(program(program_directory.path()));
        command.arg(directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        adapt(&mut command);
        let mut process = Process::start(&mut command);
        let mut line = String::new();
        BufReader::new(process.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            return Err(std::io::read_to_string(process.0.stderr.take().unwrap()).unwrap());
        }
        Ok(Served { process, directory, _program: program_directory })
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = rustix::mount::unmount(self.root(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// The mode of /dev/fuse for one test at a time.
pub struct OpenDevice(u32, #[allow(dead_code)] MutexGuard<'static, ()>);

/// Lets everybody open /dev/fuse, as on any desktop.
pub fn open_device() -> OpenDevice {
    device_mode(0o666)
}

pub fn device_mode(mode: u32) -> OpenDevice {
    static ONE: Mutex<()> = Mutex::new(());
    require();
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = fs::metadata("/dev/fuse").unwrap().permissions().mode();
    fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(mode)).unwrap();
    OpenDevice(before, guard)
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let _ = fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(self.0));
    }
}

/// Runs a program as the ordinary user and returns what it wrote, or what it complained of.
pub fn as_user(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .uid(USER)
        .gid(USER)
        .current_dir("/")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
