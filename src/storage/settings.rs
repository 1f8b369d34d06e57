//! [`Settings`]: what a storage is told beside its URL.

use super::Pace;
use crate::monitor::{Monitor, Silent};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Returns the password for a login, which is `user@host` or a host; `None` where there is none.
pub type PasswordSource =
    Arc<dyn Fn(&str) -> std::io::Result<Option<Zeroizing<String>>> + Send + Sync>;

/// Returns the value of a variable of the environment; `None` where it is not set.
pub type VariableSource = Arc<dyn Fn(&str) -> Option<Zeroizing<String>> + Send + Sync>;

/// Variables that hold the password of a storage, in the order in which they count: that of
/// duplicity 3.x, that of 0.8.
const PASSWORDS: [&str; 2] = ["BACKEND_PASSWORD", "FTP_PASSWORD"];

/// How recovery files are made.
#[derive(Debug, Clone)]
pub struct Par2Options {
    /// How much of a file may be damaged, in percent.
    pub redundancy: u32,
    /// Number of recovery files.
    pub volumes: u32,
    /// Further arguments for the program.
    pub options: Vec<OsString>,
}

/// Those of duplicity.
impl Default for Par2Options {
    fn default() -> Self {
        Self { redundancy: 10, volumes: 1, options: Vec::new() }
    }
}

/// What a storage is told beside its URL. Each kind takes what concerns it.
#[derive(Clone)]
pub struct Settings {
    /// How many files are transferred at once; without it, as many as are usually best.
    pub transfers: Option<usize>,
    /// The longest wait for a storage behind a network during which nothing goes or comes.
    pub timeout: Duration,
    /// How fast bytes go to all storages behind a network together: a service takes what it sends.
    pub upload: Pace,
    /// How fast they come.
    pub download: Pace,
    /// How often a call is tried, once at least.
    pub tries: u32,
    /// The longest pause between two tries.
    pub delay: Duration,
    /// Makes each request take so much longer, to try out what a network does.
    pub slower: Option<Duration>,
    /// Hears of what fails and is gone on from.
    pub monitor: Arc<dyn Monitor>,
    /// Where files are staged that are not staged in the storage itself.
    pub tempdir: PathBuf,
    /// The environment of the process. Storages ask [`Settings::variable`] instead: one that is one
    /// of several has variables of its own.
    pub environment: VariableSource,
    /// Variables of this storage alone, which go before those of the process. Of one that is named
    /// twice, the last counts.
    pub own_variables: Vec<(String, Zeroizing<String>)>,
    /// Asks the user for a password, where no variable holds it: see [`Settings::password`].
    pub ask: PasswordSource,
    /// How recovery files are made.
    pub par2: Par2Options,
    /// Further arguments for ssh.
    pub ssh_options: Vec<OsString>,
    /// Further arguments for rsync.
    pub rsync_options: Vec<OsString>,
    /// Whether the user is asked for a password of SSH, which may do with a key.
    pub ssh_askpass: bool,
    /// The program that ssh asks for passwords; it has to begin with `answer_ssh`. Without one, ssh
    /// gets none.
    pub askpass: Option<PathBuf>,
    /// Whether an FTP server opens the connections for data, which few firewalls let pass.
    pub is_ftp_active: bool,
    /// Which servers are trusted.
    pub tls: TlsSettings,
    /// Further headers for WebDAV: `name,value,name,value`, as a row of comma separated values.
    pub webdav_headers: Option<String>,
    /// What concerns buckets of S3.
    pub s3: S3Settings,
    /// What concerns containers of Azure.
    pub azure: AzureSettings,
    /// The storage policy of a container of Swift that is made.
    pub swift_policy: Option<String>,
}

/// What concerns containers of Azure.
#[derive(Debug, Clone, Default)]
pub struct AzureSettings {
    /// The access tier that files are put into after they are stored.
    pub tier: Option<String>,
    /// The largest file that goes in one piece, in bytes.
    pub whole: Option<usize>,
    /// Size of the parts in which larger files go, in bytes.
    pub part: Option<usize>,
    /// Parts that go at once.
    pub parts: Option<usize>,
}

/// Which servers are trusted, where TLS is spoken.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// A file with the certificates of authorities that are trusted, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// A folder of such files.
    pub ca_path: Option<PathBuf>,
    /// Trust any server.
    pub no_check: bool,
}

/// What concerns buckets of S3.
#[derive(Debug, Clone, Default)]
pub struct S3Settings {
    /// The server, where it is not Amazon's: a URL, or a host.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Speak HTTP in place of HTTPS.
    pub unencrypted: bool,
    /// The class of storage for volumes.
    pub class: Option<String>,
    /// Whether the other files get that class, too: where they can be read without being thawed.
    pub class_for_all: bool,
    /// Let the service encrypt by a key of its own.
    pub encrypted: bool,
    /// Let the service encrypt by a key that its user holds there.
    pub kms: bool,
    /// That key.
    pub kms_key: Option<String>,
    /// Size of the parts in which larger files go, in bytes.
    pub part: Option<usize>,
    /// Parts that go at once.
    pub parts: Option<usize>,
}

/// Those of duplicity, without any variable or password.
impl Default for Settings {
    fn default() -> Self {
        Self {
            transfers: None,
            timeout: Duration::from_secs(30),
            upload: Pace::default(),
            download: Pace::default(),
            tries: 5,
            delay: Duration::from_secs(30),
            slower: None,
            monitor: Arc::new(Silent),
            tempdir: std::env::temp_dir(),
            environment: Arc::new(|_| None),
            own_variables: Vec::new(),
            ask: Arc::new(|_| Ok(None)),
            par2: Par2Options::default(),
            ssh_options: Vec::new(),
            rsync_options: Vec::new(),
            ssh_askpass: false,
            askpass: None,
            is_ftp_active: false,
            tls: TlsSettings::default(),
            webdav_headers: None,
            s3: S3Settings::default(),
            azure: AzureSettings::default(),
            swift_policy: None,
        }
    }
}

impl Settings {
    /// Returns the value of a variable; `None` where it is not set.
    pub fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        self.own(name).or_else(|| (self.environment)(name))
    }

    /// Returns the password for a login whose URL has none: that of a variable, else what the user
    /// is asked for.
    ///
    /// # Errors
    /// What keeps the user from being asked.
    pub fn password(&self, login: &str) -> std::io::Result<Option<Zeroizing<String>>> {
        match self.set_password() {
            Some(password) => Ok(Some(password)),
            None => (self.ask)(login),
        }
    }

    /// Returns the password that a variable holds.
    pub fn set_password(&self) -> Option<Zeroizing<String>> {
        let own = PASSWORDS.iter().find_map(|name| self.own(name));
        let set = own.or_else(|| PASSWORDS.iter().find_map(|name| (self.environment)(name)));
        set.filter(|password| !password.is_empty())
    }

    /// Returns the variables for a program that is run for this storage: none that holds a
    /// password, which goes to it another way.
    pub fn variables_of_programs(&self) -> impl Iterator<Item = (&str, &str)> {
        let shown = self.own_variables.iter().filter(|(name, _)| !PASSWORDS.contains(&&**name));
        shown.map(|(name, value)| (&**name, &***value))
    }

    fn own(&self, name: &str) -> Option<Zeroizing<String>> {
        let found = self.own_variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_one_storage_go_before_those_of_the_process() {
        let process = |name: &str| (name == "BACKEND_PASSWORD").then(|| "outer".to_string().into());
        let outer = Settings {
            environment: Arc::new(process),
            ask: Arc::new(|login| Ok(Some(format!("asked for {login}").into()))),
            ..Settings::default()
        };
        let with = |own: &[(&str, &str)]| {
            let own = own.iter().map(|(name, value)| (name.to_string(), value.to_string().into()));
            Settings { own_variables: own.collect(), ..outer.clone() }
        };
        let password = |settings: &Settings| settings.password("me@host").unwrap().unwrap();
        assert_eq!(*password(&outer), "outer");
        // Whichever of the two names it has.
        let inner = with(&[("FTP_PASSWORD", "first"), ("FTP_PASSWORD", "second"), ("X", "y")]);
        assert_eq!(
            (&**password(&inner), &**inner.variable("X").unwrap(), outer.variable("X")),
            ("second", "y", None)
        );
        assert_eq!(inner.variables_of_programs().collect::<Vec<_>>(), [("X", "y")]);
        assert_eq!(*password(&with(&[("FTP_PASSWORD", "")])), "asked for me@host");
    }
}
