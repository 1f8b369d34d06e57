//! [`Keys`]: GnuPG keys, made once in the life of a target directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A home of GnuPG with two keys that trust each other.
pub struct Keys {
    home: PathBuf,
    /// Fingerprint of an RSA key (primary signs, subkey decrypts) without passphrase.
    pub rsa: String,
    /// Fingerprint of an Ed25519 key with a Curve25519 subkey, under
    /// [`PASSPHRASE`](super::PASSPHRASE).
    pub curve: String,
}

const RSA: &str = "Key-Type: RSA\nKey-Length: 2048\nKey-Usage: sign,cert\nSubkey-Type: RSA\nSubkey-Length: 2048\n\
    Subkey-Usage: encrypt\nName-Real: rsa\nExpire-Date: 0\n%no-protection\n%commit\n";
const CURVE: &str = "Key-Type: EDDSA\nKey-Curve: ed25519\nKey-Usage: sign,cert\nSubkey-Type: ECDH\nSubkey-Curve: cv25519\n\
    Subkey-Usage: encrypt\nName-Real: curve\nExpire-Date: 0\nPassphrase: correct horse\n%commit\n";

impl Keys {
    /// Returns the keys, making them first if this target directory has none.
    pub fn get() -> &'static Self {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| {
            let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys");
            if !home.exists() {
                make(&home);
            }
            let [rsa, curve] = ["rsa", "curve"].map(|name| fingerprint(&home, name));
            Self { home, rsa, curve }
        })
    }

    /// Copies both keys, secret parts included, to a new home.
    pub fn copy_to(&self, home: &Path) {
        let secret = home.join("private-keys-v1.d");
        std::fs::create_dir_all(&secret).unwrap();
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["pubring.kbx", "trustdb.gpg"] {
            std::fs::copy(self.home.join(name), home.join(name)).unwrap();
        }
        for key in std::fs::read_dir(self.home.join("private-keys-v1.d")).unwrap() {
            let key = key.unwrap();
            std::fs::copy(key.path(), secret.join(key.file_name())).unwrap();
        }
    }
}

/// Makes the keys in a short-named place (an agent's socket must fit into 108 bytes) and moves them
/// in one step.
fn make(home: &Path) {
    let place = tempfile::Builder::new().prefix("dupfs-keys-").tempdir().unwrap();
    // Else the agent locks a key as slowly as it can, and each use of it unlocks it anew.
    std::fs::write(place.path().join("gpg-agent.conf"), "s2k-count 65536\n").unwrap();
    for parameters in [RSA, CURVE] {
        let file = place.path().join("parameters");
        std::fs::write(&file, parameters).unwrap();
        gpg(place.path(), &["--gen-key", file.to_str().unwrap()]);
    }
    gpg(place.path(), &["--check-trustdb"]);
    let _ = Command::new("gpgconf").env("GNUPGHOME", place.path()).args(["--kill", "all"]).output();
    std::fs::create_dir_all(home.parent().unwrap()).unwrap();
    let staged = home.with_extension("new");
    let _ = std::fs::remove_dir_all(&staged);
    Keys { home: place.path().to_path_buf(), rsa: String::new(), curve: String::new() }
        .copy_to(&staged);
    std::fs::rename(staged, home).unwrap();
}

fn fingerprint(home: &Path, name: &str) -> String {
    let listing = gpg(home, &["--with-colons", "--list-keys", name]);
    let line = listing
        .lines()
        .find(|line| line.starts_with("fpr:"))
        .unwrap_or_else(|| panic!("no key '{name}' in {home:?}"));
    line.split(':').nth(9).unwrap().to_string()
}

fn gpg(home: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("gpg");
    command
        .env("GNUPGHOME", home)
        .args(["--batch", "--no-tty", "--quiet", "--pinentry-mode=loopback"])
        .args(arguments);
    let output =
        command.stdin(Stdio::null()).output().expect("gpg runs; scripts/setup.sh installs it");
    assert!(
        output.status.success(),
        "gpg {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
