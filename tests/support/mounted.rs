//! [`Mounted`]: `dupfs mount --foreground` as a running child, unmounted when dropped.

use super::{Encoding, Env, Outcome, Truth};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A collection mounted in the foreground.
pub struct Mounted {
    child: Child,
    point: PathBuf,
    log: PathBuf,
}

/// How long a mount may take to come or to go: generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Mounted {
    /// Mounts the world's collection on its mountpoint.
    pub fn new(env: &Env, encoding: Encoding) -> Self {
        Self::with(env, encoding, &[])
    }

    /// Mounts with further options.
    pub fn with(env: &Env, encoding: Encoding, options: &[&str]) -> Self {
        let mut command = env.dupfs(encoding);
        command.args(["mount", "--foreground"]).args(options).arg(env.url()).arg(env.mountpoint());
        Self::start(command, &env.mountpoint())
    }

    /// Starts a prepared command and waits until it has mounted on `point`.
    pub fn start(mut command: Command, point: &Path) -> Self {
        let log = point.with_extension("log");
        let file = std::fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let mut mounted = Self { child, point: point.to_path_buf(), log };
        let start = Instant::now();
        while !is_mounted(point) {
            if let Some(status) = mounted.child.try_wait().unwrap() {
                panic!("the mount ended at once with {status}: {}", mounted.log());
            }
            assert!(
                start.elapsed() < PATIENCE,
                "nothing mounted after {PATIENCE:?}: {}",
                mounted.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        mounted
    }

    /// Returns the mountpoint.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Returns all that the program has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the directory of each backup time, in seconds since 1970; names must be the default
    /// ones, or those and a suffix.
    pub fn snapshots(&self) -> BTreeMap<i64, PathBuf> {
        let entries = std::fs::read_dir(&self.point)
            .unwrap_or_else(|e| panic!("cannot list the mount: {e}: {}", self.log()));
        let names = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "latest");
        names.map(|name| (parse_time(&name), self.point.join(&name))).collect()
    }

    /// Returns the directory of one backup time.
    #[track_caller]
    pub fn at(&self, time: i64) -> PathBuf {
        let snapshots = self.snapshots();
        snapshots
            .get(&time)
            .unwrap_or_else(|| panic!("no directory for {time} in {snapshots:?}: {}", self.log()))
            .clone()
    }

    /// Records the whole tree of one backup time.
    #[track_caller]
    pub fn record(&self, time: i64) -> Truth {
        Truth::record(&self.at(time))
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
    }

    /// Sends a signal to the program and waits until it has ended.
    pub fn end(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    /// Waits until the program has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "still running after {PATIENCE:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(&self.child),
                rustix::process::Signal::TERM,
            );
            let start = Instant::now();
            while let (Ok(None), true) =
                (self.child.try_wait(), start.elapsed() < Duration::from_secs(10))
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if is_mounted(&self.point) {
            let _ = Outcome::of(Command::new("umount").arg("-l").arg(&self.point));
        }
        if std::thread::panicking() {
            eprintln!("the mount said: {}", self.log());
        }
    }
}

/// Tells whether something is mounted right here.
pub fn is_mounted(point: &Path) -> bool {
    let point = point.to_str().unwrap();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == Some(point))
}

fn parse_time(name: &str) -> i64 {
    // A suffix that keeps equal names apart comes behind the zone.
    let time = name.get(..24).unwrap_or(name);
    let parsed = chrono::DateTime::parse_from_str(time, "%Y-%m-%dT%H.%M.%S%z");
    parsed
        .unwrap_or_else(|e| {
            panic!("'{name}' does not begin with a time such as 2026-11-28T03.27.43+0100: {e}")
        })
        .timestamp()
}
