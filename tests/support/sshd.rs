//! [`Sshd`]: an OpenSSH server of the tests, with host keys, a user and a password of its own.
//!
//! The user stands in no file of this machine: the server sees others in the place of `/etc/passwd`
//! and `/etc/shadow`.

use super::{Env, Outcome};
use rustix::process::Signal;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The password of [`Sshd::USER`].
pub const SSH_PASSWORD: &str = "open sesame";
const HASH: &str = "$6$dupfs$qkKC7Dy6KDthZ1IbudjjiE.bc/8fVpnqENkyROah/k27iz4nI1gc6kUFCi2DQ33X4JVZKq3gbs4TbJ12sME6j.";
/// The number of [`Sshd::USER`].
pub const UID: u32 = 4321;

/// A running server; ends when dropped, or with the test process.
pub struct Sshd {
    root: TempDir,
    port: u16,
    /// A shell that ends the server when its stdin does.
    keeper: Option<Child>,
}

impl Sshd {
    /// Who can log in.
    pub const USER: &str = "keeper";

    /// Returns the server of all tests that do it no harm; each takes folders of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Sshd> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// Starts a server.
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("dupfs-sshd-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut sshd = Self { root, port, keeper: None };
        let place = sshd.root.path().to_path_buf();
        write_users(&place);
        sshd.renew_host_key();
        make_key(&sshd.key(), "");
        std::fs::copy(place.join("key.pub"), place.join("authorized")).unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication yes\nUseDNS no\nSubsystem sftp internal-sftp\nMaxStartups 100\nLogLevel QUIET\n",
            place.display()
        );
        std::fs::write(place.join("config"), config).unwrap();
        sshd.start();
        sshd
    }

    /// Starts it again after [`Sshd::stop`].
    pub fn start(&mut self) {
        let place = self.root.path().display();
        let script = format!(
            "mkdir -p /run/sshd; mount --bind {place}/passwd /etc/passwd; mount --bind {place}/shadow /etc/shadow
             /usr/sbin/sshd -D -e -f {place}/config </dev/null & read word; kill $!; wait
             [ \"$word\" = stay ] || rm -rf {place}"
        );
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c", &script]).stdin(Stdio::piped());
        self.keeper = Some(keeper.spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "sshd does not get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the server and all its connections.
    pub fn stop(&mut self) {
        self.signal_sessions(Signal::KILL);
        let Some(mut keeper) = self.keeper.take() else { return };
        // Else all is removed, as at the end of the test process.
        let _ = keeper.stdin.take().unwrap().write_all(b"stay\n");
        let _ = keeper.wait();
    }

    /// Sends a signal to the servers of all connections.
    pub fn signal_sessions(&self, signal: Signal) {
        // All that this server has started sees the same users.
        let users = |process: i32| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let own = self.keeper.as_ref().and_then(|keeper| users(keeper.id() as i32));
        let is_session = |words: &str| words.starts_with(&format!("sshd: {}", Self::USER));
        for (process, _) in processes().filter(|(_, words)| is_session(words)) {
            let is_own = own.is_some() && users(process) == own;
            if is_own && let Some(process) = rustix::process::Pid::from_raw(process) {
                let _ = rustix::process::kill_process(process, signal);
            }
        }
    }

    /// Gives the host another key, for the next start.
    pub fn renew_host_key(&self) {
        make_key(&self.root.path().join("host"), "");
    }

    /// Returns where the user's files are.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns the key with which the user can log in.
    pub fn key(&self) -> PathBuf {
        self.root.path().join("key")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of a folder, which is relative to the home.
    pub fn url(&self, scheme: &str, folder: &str) -> String {
        format!("{scheme}://{}@127.0.0.1:{}/{folder}", Self::USER, self.port)
    }

    /// Returns the fingerprint of the host's key.
    pub fn fingerprint(&self) -> String {
        let key = self.root.path().join("host.pub");
        let shown = Outcome::of(Command::new("ssh-keygen").arg("-lf").arg(key)).success();
        shown.stdout.split(' ').nth(1).unwrap().to_string()
    }

    /// Has a world know the host, and the key if one is to be used, as ssh and the original look
    /// for them; returns what they are told about it.
    pub fn introduce(&self, env: &Env, with_key: bool) -> String {
        let ssh = env.home().join(".ssh");
        std::fs::create_dir_all(&ssh).unwrap();
        let host = std::fs::read_to_string(self.root.path().join("host.pub")).unwrap();
        let known = format!("[127.0.0.1]:{} {host}", self.port);
        std::fs::write(ssh.join("known_hosts"), known).unwrap();
        self.options(env, with_key)
    }

    /// Returns the options for ssh, which does not look at `$HOME`.
    pub fn options(&self, env: &Env, with_key: bool) -> String {
        let known = env.home().join(".ssh/known_hosts");
        let own = format!(
            "-F none -oUserKnownHostsFile={} -oGlobalKnownHostsFile=none -oIdentitiesOnly=yes -oIdentityAgent=none",
            known.display()
        );
        match with_key {
            true => format!("{own} -oIdentityFile={}", self.key().display()),
            false => format!("{own} -oIdentityFile=none"),
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes to a folder what servers see in the place of `/etc/passwd` and `/etc/shadow`, and makes
/// the user's home in it.
pub fn write_users(place: &Path) {
    open_up(place);
    let (home, user) = (place.join("home"), Sshd::USER);
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(UID), Some(UID)).unwrap();
    let passwd = format!(
        "{user}:x:{UID}:{UID}::{}:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\nftp:x:101:65534::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\nroot:x:0:0::/root:/bin/sh\n",
        home.display()
    );
    std::fs::write(place.join("passwd"), passwd).unwrap();
    std::fs::write(place.join("shadow"), format!("{user}:{HASH}:19000::::::\n")).unwrap();
}

/// Lets everybody through a folder.
fn open_up(place: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes a key, anew if there is one.
pub fn make_key(path: &Path, passphrase: &str) {
    let _ = std::fs::remove_file(path);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-C", "test", "-N", passphrase, "-f"]).arg(path);
    Outcome::of(&mut keygen).success();
}

/// Returns all processes with their words.
pub fn processes() -> impl Iterator<Item = (i32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((process, String::from_utf8_lossy(&words).replace('\0', " ")))
    })
}
