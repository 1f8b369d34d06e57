//! [`Ftpd`]: FTP servers of the tests: vsftpd, plain and with TLS, and pyftpdlib, which lists for
//! programs.

use super::sshd::write_users;
use super::{Outcome, PYTHON, SSH_PASSWORD, Sshd, processes};
use rustix::process::Signal;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The ways to reach an [`Ftpd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ftp {
    /// vsftpd without TLS.
    Plain,
    /// vsftpd that insists on TLS before the login.
    Explicit,
    /// vsftpd with TLS from the beginning.
    Implicit,
    /// pyftpdlib.
    Python,
}

const ALL: [Ftp; 4] = [Ftp::Plain, Ftp::Explicit, Ftp::Implicit, Ftp::Python];

/// Running servers for one folder; end when dropped, or with the test process.
pub struct Ftpd {
    root: TempDir,
    ports: [u16; 4],
    /// A shell that ends the servers when its stdin does.
    keeper: Child,
}

impl Ftpd {
    /// Returns the servers of all tests that do them no harm; each takes folders of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Ftpd> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// Starts all of them.
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("dupfs-ftpd-").tempdir().unwrap();
        let place = root.path().to_path_buf();
        write_users(&place);
        make_certificate(&place);
        // All at once, so that no two are the same.
        let free = ALL.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.each_ref().map(|free| free.local_addr().unwrap().port());
        drop(free);
        let shown = place.display();
        let plain = "anonymous_enable=NO\nlocal_enable=YES\nwrite_enable=YES\nlocal_umask=022\nseccomp_sandbox=NO\nlisten=YES\nlisten_address=127.0.0.1\n\
                     background=NO\nsecure_chroot_dir=/run/vsftpd/empty\npam_service_name=vsftpd\n";
        let tls = format!(
            "ssl_enable=YES\nssl_ciphers=HIGH\nrsa_cert_file={shown}/host.pem\nrsa_private_key_file={shown}/host.key\n"
        );
        for (ftp, port) in ALL.into_iter().zip(ports) {
            let more = match ftp {
                Ftp::Plain | Ftp::Python => "",
                Ftp::Explicit => &tls,
                Ftp::Implicit => &format!("{tls}implicit_ssl=YES\n"),
            };
            let text = format!("{plain}listen_port={port}\n{more}");
            std::fs::write(place.join(format!("{ftp:?}.conf")), text).unwrap();
        }
        // vsftpd 3.0.3 loses the ends of files over TLS 1.3 now and then.
        let openssl = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n";
        std::fs::write(place.join("openssl.cnf"), openssl).unwrap();
        let python = format!(
            "from pyftpdlib.authorizers import DummyAuthorizer\nfrom pyftpdlib.handlers import FTPHandler\nfrom pyftpdlib.servers import FTPServer\n\
             a = DummyAuthorizer()\na.add_user('{}', '{SSH_PASSWORD}', '{shown}/home', perm='elradfmwMT')\nFTPHandler.authorizer = a\n\
             FTPHandler.use_sendfile = False\nFTPServer(('127.0.0.1', {}), FTPHandler).serve_forever()\n",
            Sshd::USER,
            ports[3]
        );
        std::fs::write(place.join("server.py"), python).unwrap();
        let script = format!(
            "mkdir -p /run/vsftpd/empty; mount --bind {shown}/passwd /etc/passwd; mount --bind {shown}/shadow /etc/shadow
             export OPENSSL_CONF={shown}/openssl.cnf
             for kind in Plain Explicit Implicit; do vsftpd {shown}/$kind.conf </dev/null & set -- $* $!; done
             {PYTHON} {shown}/server.py </dev/null 2>/dev/null & set -- $* $!
             read word; kill $*; wait; rm -rf {shown}"
        );
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c", &script]).stdin(Stdio::piped());
        let ftpd = Self { root, ports, keeper: keeper.spawn().unwrap() };
        let start = Instant::now();
        for port in ports {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(start.elapsed() < Duration::from_secs(30), "an ftpd does not get ready");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        ftpd
    }

    /// Returns the folder in which the user's files are.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns the certificate of the authority that has signed the servers'.
    pub fn authority(&self) -> PathBuf {
        self.root.path().join("ca.pem")
    }

    pub fn port(&self, ftp: Ftp) -> u16 {
        self.ports[ftp as usize]
    }

    /// Returns the URL of a folder, which is relative to the home.
    pub fn url(&self, ftp: Ftp, folder: &str) -> String {
        let scheme = match ftp {
            Ftp::Plain | Ftp::Python => "ftp",
            Ftp::Explicit => "ftpes",
            Ftp::Implicit => "ftps",
        };
        format!("{scheme}://{}@127.0.0.1:{}/{folder}", Sshd::USER, self.port(ftp))
    }

    /// Sends a signal to the servers of all connections of vsftpd.
    pub fn signal_sessions(&self, signal: Signal) {
        let users = |process: i32| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let own = users(self.keeper.id() as i32);
        // Those that listen are children of the keeper.
        let parent = |process: i32| {
            let line = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            line.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        };
        let is_session = |process: i32, words: &str| {
            words.starts_with("vsftpd")
                && users(process) == own
                && parent(process) != Some(self.keeper.id())
        };
        for (process, words) in processes() {
            if is_session(process, &words)
                && let Some(process) = rustix::process::Pid::from_raw(process)
            {
                let _ = rustix::process::kill_process(process, signal);
            }
        }
    }
}

impl Drop for Ftpd {
    fn drop(&mut self) {
        self.signal_sessions(Signal::KILL);
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Makes an authority, and a certificate of it for this machine.
fn make_certificate(place: &Path) {
    let openssl = |words: &str| {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(place).args(words.split(' '));
        Outcome::of(&mut openssl).success();
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 30 -subj /CN=tests -keyout ca.key -out ca.pem"));
    openssl(&format!("req {key} -subj /CN=127.0.0.1 -keyout host.key -out host.csr"));
    std::fs::write(place.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out host.pem",
    );
}
