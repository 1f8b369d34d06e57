//! HTTP servers of the tests: [`S3Server`] (moto) and [`DavServer`] (Apache), on loopback, each
//! shared by all tests of a run.

use super::Outcome;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The secret of the user who may use [`S3Server`], which is in no other text.
pub const S3_SECRET: &str = "moto-secret-of-tests";
/// The password of [`DavServer::USER`].
pub const DAV_PASSWORD: &str = "dav pass:word";

/// Where `scripts/setup.sh` puts servers.
const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/oracles/servers");

/// Finds a port that is free.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a server that ends with this process, and waits until it takes connections.
fn start(name: &str, command: &str, port: u16) {
    // The shell ends the server when its stdin does.
    let script = format!("{command} </dev/null & read word; kill $!; wait");
    let mut keeper = Command::new("sh");
    keeper.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its stdin stays open as long as this process lives.
    std::mem::forget(keeper.spawn().unwrap());
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{name} does not get ready");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends one request, and returns the whole answer.
fn request(port: u16, head: &str) -> String {
    let mut line = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        line,
        "{head} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).unwrap();
    answer
}

/// A server that speaks S3. It does not check signatures.
pub struct S3Server {
    port: u16,
}

impl S3Server {
    /// Returns the server of all tests; each takes buckets of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3Server> = OnceLock::new();
        SHARED.get_or_init(|| {
            let port = free_port();
            start("moto", &format!("'{SERVERS}/bin/moto_server' -H 127.0.0.1 -p {port}"), port);
            Self { port }
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address of the server.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        let answer = request(self.port, &format!("PUT /{name}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Returns for each object of a bucket its name, class of storage and encryption, as Amazon's own
    /// library sees them.
    pub fn objects(&self, bucket: &str) -> Vec<[String; 3]> {
        let script = "import boto3, sys
s3 = boto3.client('s3', endpoint_url=sys.argv[1], aws_access_key_id='keeper', aws_secret_access_key='x', region_name='us-east-1')
for found in s3.list_objects_v2(Bucket=sys.argv[2])['Contents']:
    head = s3.head_object(Bucket=sys.argv[2], Key=found['Key'])
    print(found['Key'], head.get('StorageClass'), head.get('ServerSideEncryption'))";
        let mut look = Command::new(format!("{SERVERS}/bin/python"));
        let shown = Outcome::of(look.args(["-c", script, &self.endpoint(), bucket])).success();
        let words = |line: &str| {
            let mut words = line.split(' ').map(String::from);
            [(); 3].map(|()| words.next().unwrap())
        };
        shown.stdout.lines().map(words).collect()
    }
}

/// A server that speaks as Azure's storage of blobs.
pub struct AzureServer {
    port: u16,
}

impl AzureServer {
    /// The key of the emulator's only account, which Microsoft has published.
    pub const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    /// Returns the server of all tests; each takes containers of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<AzureServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let port = free_port();
            let program = format!("{SERVERS}/node/node_modules/.bin/azurite-blob");
            let options =
                "--inMemoryPersistence --silent --skipApiVersionCheck --blobHost 127.0.0.1";
            start("Azurite", &format!("'{program}' {options} --blobPort {port}"), port);
            Self { port }
        })
    }

    /// Returns what says where the server is, and how to log in.
    pub fn connection_string(&self) -> String {
        format!(
            "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={};BlobEndpoint=http://127.0.0.1:{}/devstoreaccount1;",
            Self::KEY,
            self.port
        )
    }
}

/// A stub of a Swift server, with an account that can be signed in to by all three versions.
pub struct SwiftServer {
    port: u16,
}

impl SwiftServer {
    /// The password of its user.
    pub const PASSWORD: &str = "swift-secret-of-tests";

    /// Returns the server of all tests; each takes containers of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<SwiftServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let port = free_port();
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/swift_server.py");
            start("the stub of Swift", &format!("python3 '{script}' {port}"), port);
            Self { port }
        })
    }

    /// Returns the variables by which a service signs in.
    pub fn variables(&self, service: &str, version: u8) -> Vec<(String, String)> {
        let path = ["auth/v1.0", "v2.0", "v3"][usize::from(version) - 1];
        let address = format!("http://127.0.0.1:{}/{path}", self.port);
        let mut variables = vec![
            ("USERNAME", "keeper".to_string()),
            ("PASSWORD", Self::PASSWORD.to_string()),
            ("AUTHURL", address),
            ("AUTHVERSION", version.to_string()),
        ];
        if version > 1 {
            variables.push(("TENANTNAME", "tenant".into()));
            variables.push(("REGIONNAME", "one".into()));
        }
        if version == 3 {
            variables.push(("USER_DOMAIN_ID", "default".into()));
            variables.push(("PROJECT_DOMAIN_ID", "default".into()));
        }
        let named = variables.into_iter().map(|(name, value)| (format!("{service}_{name}"), value));
        named.collect()
    }
}

/// A WebDAV server: `/open/`, `/basic/`, `/digest/`, and `/moved/`, which leads to `/open/`.
pub struct DavServer {
    root: TempDir,
    port: u16,
    tls_port: u16,
}

impl DavServer {
    /// Who can log in.
    pub const USER: &str = "keeper";

    /// Returns the server of all tests; each takes folders of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<DavServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let root = tempfile::Builder::new().prefix("dupfs-dav-").tempdir().unwrap();
            let server = Self { root, port: free_port(), tls_port: free_port() };
            server.configure();
            let place = server.root.path().display();
            let command = format!("apache2 -X -f {place}/conf; rm -rf {place}");
            // `-X` serves one connection only: a parent with children in the foreground is meant.
            let command = command.replace("-X", "-DFOREGROUND");
            start("apache2", &format!("{{ {command}; }}"), server.port);
            server
        })
    }

    fn configure(&self) {
        let place = self.root.path();
        let shown = place.display();
        open_up(place);
        for folder in ["files/open", "files/basic", "files/digest", "locks"] {
            let folder = place.join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            Outcome::of(Command::new("chown").arg("www-data").arg(folder)).success();
        }
        let user = Self::USER;
        let mut basic = Command::new("htpasswd");
        basic.args(["-bnm", user, DAV_PASSWORD]);
        let basic = Outcome::of(&mut basic).success().stdout;
        std::fs::write(place.join("users"), basic).unwrap();
        let digest = "printf '%s' \"$0:dupfs:$1\" | md5sum | cut -d' ' -f1";
        let mut digest_of = Command::new("sh");
        digest_of.args(["-c", digest, user, DAV_PASSWORD]);
        let digest = Outcome::of(&mut digest_of).success().stdout;
        std::fs::write(place.join("digests"), format!("{user}:dupfs:{digest}")).unwrap();
        let script = "cd \"$0\"
            openssl req -x509 -newkey rsa:2048 -nodes -days 30 -keyout ca.key -out ca.pem -subj /CN=dupfs-tests
            openssl req -newkey rsa:2048 -nodes -keyout own.key -out own.csr -subj /CN=localhost
            echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' > own.ext
            openssl x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile own.ext -out own.pem";
        Outcome::of(Command::new("sh").args(["-ec", script]).arg(place)).success();
        let modules: String = [
            "mpm_event",
            "authn_core",
            "authn_file",
            "authz_core",
            "authz_user",
            "auth_basic",
            "auth_digest",
            "dav",
            "dav_fs",
            "alias",
            "ssl",
            "socache_shmcb",
        ]
        .iter()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
        let config = format!(
            "ServerRoot {shown}\nServerName localhost\nListen 127.0.0.1:{}\nListen 127.0.0.1:{}\nPidFile {shown}/pid\nErrorLog {shown}/errors\n\
             {modules}DefaultRuntimeDir {shown}\nUser www-data\nGroup www-data\nDocumentRoot {shown}/files\nDavLockDB {shown}/locks/db\n\
             CustomLog {shown}/requests \"%m %U %>s\"\n\
             RedirectMatch 307 ^/moved/(.*)$ /open/$1\nRedirectMatch 302 ^/found/(.*)$ /open/$1\n\
             <Directory {shown}/files>\nDav On\nRequire all granted\n</Directory>\n\
             <Location /basic>\nAuthType Basic\nAuthName dupfs\nAuthUserFile {shown}/users\nRequire valid-user\n</Location>\n\
             <Location /digest>\nAuthType Digest\nAuthName dupfs\nAuthDigestProvider file\nAuthUserFile {shown}/digests\nRequire valid-user\n</Location>\n\
             <VirtualHost 127.0.0.1:{}>\nSSLEngine on\nSSLCertificateFile {shown}/own.pem\nSSLCertificateKeyFile {shown}/own.key\n</VirtualHost>\n",
            self.port, self.tls_port, self.tls_port
        );
        std::fs::write(place.join("conf"), config).unwrap();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Returns the certificate of the authority that vouches for the server.
    pub fn authority(&self) -> PathBuf {
        self.root.path().join("ca.pem")
    }

    /// Returns where its files are.
    pub fn files(&self) -> PathBuf {
        self.root.path().join("files")
    }

    /// Returns the URL of a folder.
    pub fn url(&self, scheme: &str, folder: &str) -> String {
        let port = if scheme.ends_with('s') { self.tls_port } else { self.port };
        format!("{scheme}://{}@localhost:{port}/{folder}", Self::USER)
    }
}

/// Lets everybody through a folder.
fn open_up(place: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
}
