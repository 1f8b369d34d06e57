//! [`Settings`]: what a storage is told beside its URL.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Returns the password for a login, which is `user@host` or a host; `None` where there is none.
pub type PasswordSource =
    Arc<dyn Fn(&str) -> std::io::Result<Option<Zeroizing<String>>> + Send + Sync>;

/// What a storage is told beside its URL. Each kind takes what concerns it.
#[derive(Clone)]
pub struct Settings {
    /// How many files are transferred at once; without it, as many as are usually best.
    pub transfers: Option<usize>,
    /// The longest wait for a storage behind a network during which nothing goes or comes.
    pub timeout: Duration,
    /// Where files are staged that are not staged in the storage itself.
    pub tempdir: PathBuf,
    /// Asked for a password once, unless the URL has one.
    pub password: PasswordSource,
    /// Further arguments for ssh.
    pub ssh_options: Vec<OsString>,
    /// The program that ssh asks for passwords; it has to begin with `answer_ssh`. Without one, ssh
    /// gets none.
    pub askpass: Option<PathBuf>,
}

/// Those of duplicity, without any password.
impl Default for Settings {
    fn default() -> Self {
        Self {
            transfers: None,
            timeout: Duration::from_secs(30),
            tempdir: std::env::temp_dir(),
            password: Arc::new(|_| Ok(None)),
            ssh_options: Vec::new(),
            askpass: None,
        }
    }
}
