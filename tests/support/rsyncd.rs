//! [`Rsyncd`]: an rsync daemon of the tests.

use super::{SSH_PASSWORD, Sshd};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running daemon with a module `kept`, for [`Sshd::USER`]; ends when dropped, or with the test
/// process.
pub struct Rsyncd {
    root: TempDir,
    port: u16,
    /// A shell that ends the daemon when its stdin does.
    keeper: Child,
}

impl Rsyncd {
    /// Returns the daemon of all tests that do it no harm; each takes folders of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Rsyncd> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// Starts one.
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("dupfs-rsyncd-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = root.path();
        std::fs::create_dir(place.join("kept")).unwrap();
        let config = format!(
            "port = {port}\naddress = 127.0.0.1\nuse chroot = no\nmotd file = {0}/config\n[kept]\npath = {0}/kept\nread only = no\nuid = 0\ngid = 0\n\
             auth users = {1}\nsecrets file = {0}/secrets\n",
            place.display(),
            Sshd::USER
        );
        std::fs::write(place.join("config"), config).unwrap();
        let secrets = place.join("secrets");
        std::fs::write(&secrets, format!("{}:{SSH_PASSWORD}\n", Sshd::USER)).unwrap();
        std::fs::set_permissions(secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
        let script = format!(
            "rsync --daemon --no-detach --config={0}/config --log-file={0}/log </dev/null & read word; kill $!; wait; rm -rf {0}",
            place.display()
        );
        let keeper =
            Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "rsyncd does not get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { root, port, keeper }
    }

    /// Returns the folder of the module.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("kept")
    }

    /// Returns the URL of a folder of the module.
    pub fn url(&self, folder: &str) -> String {
        format!("rsync://{}@127.0.0.1:{}::/kept/{folder}", Sshd::USER, self.port)
    }
}

impl Drop for Rsyncd {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
