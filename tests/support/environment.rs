//! [`Env`]: a world of its own for one test.

use super::Keys;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A temporary directory with a home, caches, a source tree, a collection and a mountpoint; gone
/// when dropped.
pub struct Env {
    root: TempDir,
    zone: &'static str,
}

/// Takes signals back that whoever has started the tests ignores, as a script does of what it leaves
/// in the background: programs that a test starts would ignore them, too.
fn obey_signals() {
    for signal in [libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the default action is no function of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

impl Env {
    /// Makes a world without keys whose local time is UTC.
    pub fn new() -> Self {
        obey_signals();
        // Short, since gpg-agent's socket below it must fit into 108 bytes.
        let root = tempfile::Builder::new().prefix("dupfs-").tempdir().unwrap();
        let env = Self { root, zone: "UTC" };
        for directory in [env.home(), env.cache(), env.source(), env.store(), env.mountpoint()] {
            std::fs::create_dir(directory).unwrap();
        }
        // Else each world's agent begins by finding out how slow it can make the derivation of
        // keys.
        std::fs::create_dir(env.gnupg()).unwrap();
        std::fs::set_permissions(env.gnupg(), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(env.gnupg().join("gpg-agent.conf"), "s2k-count 65536\n").unwrap();
        env
    }

    /// Sets the local time zone of everything started here.
    pub fn zone(mut self, zone: &'static str) -> Self {
        self.zone = zone;
        self
    }

    /// Gives this world GnuPG keys of its own.
    pub fn with_keys(self) -> Self {
        Keys::get().copy_to(&self.gnupg());
        self
    }

    /// Returns the directory that holds all the others.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    pub fn gnupg(&self) -> PathBuf {
        self.root().join("home/.gnupg")
    }

    /// `XDG_CACHE_HOME`: for the original its archive directories, for `dupfs` its catalogs.
    pub fn cache(&self) -> PathBuf {
        self.root().join("cache")
    }

    /// The live directory that is backed up.
    pub fn source(&self) -> PathBuf {
        self.root().join("source")
    }

    /// The collection's directory.
    pub fn store(&self) -> PathBuf {
        self.root().join("store")
    }

    /// The collection's URL.
    pub fn url(&self) -> String {
        format!("file://{}", self.store().display())
    }

    /// An empty directory to mount on.
    pub fn mountpoint(&self) -> PathBuf {
        self.root().join("mount")
    }

    /// A place that does not exist yet.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let path = self.root().join(name);
        assert!(!path.exists(), "{path:?} is used already");
        path
    }

    /// Forgets all caches, the original's archive directory included.
    pub fn clear_caches(&self) {
        std::fs::remove_dir_all(self.cache()).unwrap();
        std::fs::create_dir(self.cache()).unwrap();
    }

    /// Runs one of the programs with these words, its own collection last: `store-` and the
    /// version. It works in the world's root, where the source tree is `source`.
    pub fn type_in(&self, version: super::Version, words: &[&str]) -> super::Outcome {
        super::Outcome::of(self.command(version.checked()).args(words).arg(self.url_of(version)))
    }

    /// Returns the URL of a program's own collection.
    pub fn url_of(&self, version: super::Version) -> String {
        format!("file://{}", self.store_of(version).display())
    }

    /// Returns the directory of a program's own collection, which the program makes.
    pub fn store_of(&self, version: super::Version) -> PathBuf {
        self.root().join(format!("store-{version:?}"))
    }

    /// Returns the archive directory of a program's own collection.
    pub fn archive_of(&self, version: super::Version) -> PathBuf {
        self.archive_of_url(&self.url_of(version))
    }

    /// Returns the archive directory of the collection at a URL.
    pub fn archive_of_url(&self, url: &str) -> PathBuf {
        use md5::{Digest, Md5};
        let name: String = Md5::digest(url).iter().map(|byte| format!("{byte:02x}")).collect();
        self.cache().join("duplicity").join(name)
    }

    /// Locks an archive directory, as another program at work there would, until what is returned
    /// is dropped.
    pub fn hold(&self, archive: &Path) -> Held {
        let script = "import fcntl, sys\nf = open(sys.argv[1], 'a')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()";
        let mut holder = self.command(super::PYTHON);
        holder
            .args(["-c", script])
            .arg(archive.join("lockfile"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut held = [0; 5];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut held).unwrap();
        Held(holder)
    }

    /// Prepares a program that sees this world alone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(super::Version::starter(program.as_ref()));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or("/usr/sbin:/usr/bin:/sbin:/bin".into()))
            .env("HOME", self.home())
            .env("GNUPGHOME", self.gnupg())
            .env("XDG_CACHE_HOME", self.cache())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", self.zone)
            .current_dir(self.root())
            .stdin(std::process::Stdio::null());
        command
    }
}

/// A lock that another process holds.
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if self.gnupg().exists() {
            let _ = self.command("gpgconf").args(["--kill", "all"]).output();
        }
    }
}
