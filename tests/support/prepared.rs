//! [`Prepared`]: a Python program that does not begin each run with importing Python's library.
//!
//! Two thirds of the time of an ordinary run of duplicity pass before its own first line.
//! `prepared.py` has that behind it and forks for each run; `prepared.c` is what a test starts: it
//! has the run take its place, or becomes the program where anything is unusual (a preloaded
//! library, a terminal, a session or user of its own, ignored signals, more open files). Either way
//! the program itself begins at its beginning. `DUPFS_UNPREPARED=1` starts everything afresh.

use super::Outcome;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The interpreter of the system: another one that stands before it on the path may be a script
/// that takes half a second.
pub const PYTHON: &str = "/usr/bin/python3";

/// A server for one program; ends with the test process.
pub struct Prepared {
    client: PathBuf,
    _server: Child,
}

impl Prepared {
    /// Starts a server for a Python program whose own modules are those of a package.
    ///
    /// Returns `None` for what is no Python program.
    pub fn new(program: &Path, package: &str) -> Option<Self> {
        let mut first = String::new();
        // The first line of anything else may be no text.
        let _ = BufReader::new(std::fs::File::open(program).unwrap()).read_line(&mut first);
        let interpreter = first.strip_prefix("#!")?.trim();
        if interpreter.contains(' ') || !interpreter.contains("/python3") {
            return None;
        }
        let place = tempfile::Builder::new().prefix("dupfs-prepared-").tempdir().unwrap();
        let client = place.path().join("client");
        std::fs::copy(built(), &client).unwrap();
        std::os::unix::fs::symlink(program, place.path().join("real")).unwrap();
        let mut command = Command::new(interpreter);
        command
            .arg("-c")
            .arg(include_str!("prepared.py"))
            .arg(program)
            .arg(place.path())
            .arg(package);
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", place.path())
            .current_dir("/")
            .stdin(Stdio::piped());
        let mut server = command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let start = Instant::now();
        while !place.path().join("socket").exists() {
            assert!(server.try_wait().unwrap().is_none(), "the server for {program:?} has ended");
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the server for {program:?} does not get ready"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = TempDir::keep(place); // The server removes it.
        Some(Self { client, _server: server })
    }

    /// Returns what to start in place of the program.
    pub fn client(&self) -> &Path {
        &self.client
    }
}

/// Returns the client, built once in a run.
fn built() -> &'static Path {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/prepared.c");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(place).unwrap();
        let (built, client) =
            (place.join(format!("prepared.{}", std::process::id())), place.join("prepared"));
        let cc = Command::new("cc").args(["-O1", "-Wall", "-o"]).arg(&built).arg(&source).status();
        assert!(
            cc.expect("a C compiler is needed: run scripts/setup.sh").success(),
            "prepared.c cannot be built"
        );
        std::fs::rename(&built, &client).unwrap();
        client
    })
}

/// Writes a program that prints all that a start gives it, and a module of its own that counts how
/// often it was loaded.
fn probe(place: &Path) -> PathBuf {
    let program = place.join("probe");
    let interpreter = std::fs::canonicalize(PYTHON).unwrap();
    let script = r#"
import gc, json, locale, os, random, resource, signal, sys, tempfile, time
import probed
if "--version" in sys.argv:
    sys.exit()
probed.loaded += 1
print(probed.loaded, __name__, __file__, sys.argv, sys.path, sys.flags, sys.executable)
print(sorted(os.environb.items()), os.getcwd(), oct(os.umask(0)), time.tzname, locale.getlocale())
for one in (sys.stdin, sys.stdout, sys.stderr):
    print(one.fileno(), one.name, one.mode, one.encoding, one.errors, one.newlines, one.line_buffering, one.buffer.raw.name)
print({s: str(signal.getsignal(s)) for s in signal.valid_signals()}, signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(sorted(int(f) for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}")), tempfile.gettempdir())
print([resource.getrlimit(r) for r in range(16)], os.getuid(), os.getgroups(), os.getpriority(0, 0), os.getsid(0), os.getpgid(0) != os.getpid())
print(gc.isenabled(), gc.get_threshold(), sys.getrecursionlimit(), sys.getswitchinterval(), sys.warnoptions)
print(sys.stdin.read(), file=sys.stderr)
what = sys.argv[1]
if what == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    open(sys.argv[2], "w").write(str(os.getpid()))
    signal.pause()
elif what == "die":
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(what))
"#;
    std::fs::write(&program, format!("#!{}\n{script}", interpreter.display())).unwrap();
    std::fs::write(place.join("probed.py"), "loaded = 0\n").unwrap();
    Outcome::of(Command::new("chmod").arg("+x").arg(&program)).success();
    program
}

#[test]
fn a_prepared_program_is_like_one_started_afresh() {
    use std::os::unix::ffi::OsStrExt;
    let env = super::Env::new().zone("Europe/Berlin");
    let program = probe(env.root());
    let prepared = Prepared::new(&program, "probed").unwrap();
    let told = env.root().join("told");
    std::fs::write(&told, "a line\n").unwrap();
    let run = |program: &Path, arguments: &[&str], unusual: &dyn Fn(&mut Command)| {
        let mut command = env.command(program);
        command
            .args(arguments)
            .arg(std::ffi::OsStr::from_bytes(b"bad \xff"))
            .env("ODD", std::ffi::OsStr::from_bytes(b"\xfe=\n"));
        command.current_dir(env.source()).stdin(std::fs::File::open(&told).unwrap());
        unusual(&mut command);
        Outcome::of(&mut command)
    };
    let usual = |_: &mut Command| {};
    let unusual: [&dyn Fn(&mut Command); 4] = [
        &usual,
        &|command| {
            command.env("LC_ALL", "C");
        },
        &|command| {
            command.env("PYTHONDONTWRITEBYTECODE", "1");
        },
        &|command| {
            command.env_remove("HOME").env_remove("TZ").stdin(Stdio::null());
        },
    ];
    for arguments in [&["0"][..], &["7", "", "two words"], &["die"]] {
        for circumstances in unusual {
            let afresh = run(&program, arguments, circumstances);
            assert_eq!(run(prepared.client(), arguments, circumstances), afresh, "{arguments:?}");
        }
    }
}

#[test]
fn signals_reach_a_prepared_program() {
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};
    use std::os::unix::process::ExitStatusExt;
    let env = super::Env::new();
    let prepared = Prepared::new(&probe(env.root()), "probed").unwrap();
    for (signal, code, by) in
        [(Signal::TERM, Some(9), None), (Signal::KILL, None, Some(9)), (Signal::HUP, None, Some(1))]
    {
        let ready = env.root().join("ready");
        let mut command = env.command(prepared.client());
        let mut child = command
            .arg("wait")
            .arg(&ready)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = loop {
            let pid = std::fs::read_to_string(&ready).ok().and_then(|text| text.parse().ok());
            if let Some(pid) = pid {
                break Pid::from_raw(pid).unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_ne!(pid, Pid::from_child(&child), "it was started afresh");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (code, by));
        let start = Instant::now();
        while test_kill_process(pid).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(60), "the program outlives its client");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(&ready).unwrap();
    }
}
