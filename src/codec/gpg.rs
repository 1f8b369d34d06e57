//! [`Gpg`]: the user's gpg program, which has the secret keys and reads what nothing else reads.
//!
//! What is asked of it: the session key of a message, certificates, and whole messages. A
//! passphrase goes to it as the first line of its standard input, before the message, which gpg
//! supports with `--passphrase-fd 0`; so it stands in no argument list, and no other descriptor has
//! to be inherited. Messages of gpg itself and its machine-readable ones (`[GNUPG:] ...`) come by
//! stderr. Nothing here has a time limit: pinentry may be waiting for a user.

use super::Cause;
use super::source::{LONG, Source, Stage, Stored};
use super::state::{self, Kind};
use crate::storage::ReadAt;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use zeroize::Zeroizing;

/// Longest output that is kept in memory: certificates.
const OUTPUT_LIMIT: u64 = 64 << 20;
/// Longest signature packet.
const SIGNATURE_LIMIT: u64 = 64 << 10;
/// Most lines of gpg's messages that are kept.
const LINES: usize = 500;

/// How to call gpg.
#[derive(Debug, Clone)]
pub(super) struct Gpg {
    pub binary: PathBuf,
    pub options: Vec<String>,
    pub use_agent: bool,
}

/// What gpg said on stderr.
#[derive(Default)]
struct Said {
    /// Machine-readable lines, without their mark. May hold a session key.
    status: Vec<Zeroizing<String>>,
    /// The others.
    words: Vec<String>,
}

impl Said {
    fn read(stderr: impl Read) -> Self {
        let mut said = Self::default();
        let mut reader = BufReader::new(stderr);
        let mut line = Zeroizing::new(Vec::new());
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text = Zeroizing::new(String::from_utf8_lossy(&line).trim_end().to_owned());
            match text.strip_prefix("[GNUPG:] ") {
                Some(status) => keep(&mut said.status, Zeroizing::new(status.to_owned())),
                None if text.contains("session key") => {} // repeats the status line
                None => keep(&mut said.words, text.to_string()),
            }
            line.clear();
        }
        said
    }

    /// Returns the words behind a keyword.
    fn status(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.status.iter().filter_map(move |s| match s.strip_prefix(keyword)? {
            "" => Some(""),
            rest => rest.strip_prefix(' '),
        })
    }

    fn has(&self, keyword: &str) -> bool {
        self.status(keyword).next().is_some()
    }

    fn last_words(&self) -> String {
        let last = self.words.len().saturating_sub(4);
        if self.words.is_empty() {
            "it said nothing".to_owned()
        } else {
            self.words[last..].join("; ")
        }
    }

    /// Returns whether gpg-agent could not be reached: gpg then finds no secret key, whether there
    /// is one or not.
    fn lacks_agent(&self) -> bool {
        let lacks = |words: &String| {
            words.contains("connect to the agent") || words.contains("no gpg-agent running")
        };
        self.words.iter().any(lacks)
    }

    /// Tells why a message could not be decrypted.
    fn refusal(&self) -> Cause {
        let missing: Vec<&str> = self.status("NO_SECKEY").collect();
        if self.has("BAD_PASSPHRASE") || self.words.iter().any(|w| w.contains("Bad passphrase")) {
            Cause::WrongPassphrase
        } else if self.has("MISSING_PASSPHRASE") {
            Cause::NoPassphrase
        } else if !missing.is_empty() && !self.has("DECRYPTION_KEY") && !self.lacks_agent() {
            Cause::NoSecretKey(format!(
                "it is encrypted to {}; {}",
                missing.join(", "),
                self.last_words()
            ))
        } else {
            Cause::Gpg(self.last_words())
        }
    }
}

/// Undoes the percent signs of Assuan, gpg-agent's protocol.
fn unescape(data: &[u8], out: &mut Vec<u8>) {
    let mut rest = data;
    while let [first, behind @ ..] = rest {
        let digits = behind
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
}

fn keep<T>(lines: &mut Vec<T>, line: T) {
    if lines.len() == LINES {
        lines.remove(0);
    }
    lines.push(line);
}

impl Gpg {
    /// Returns the version of a gpg program, such as `2.2.40`; `None` if it cannot be run.
    pub fn version(binary: &Path) -> Option<String> {
        let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.lines().next()?.split(' ').next_back()?.to_string())
    }

    fn command(&self, passphrase: bool) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--batch", "--no-tty", "--no-secmem-warning", "--status-fd", "2"]);
        if passphrase && !self.use_agent {
            command.args(["--pinentry-mode=loopback", "--passphrase-fd", "0"]);
        }
        command.args(&self.options);
        command.env_remove("PASSPHRASE").env_remove("SIGN_PASSPHRASE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self, mut command: Command) -> Result<Child, Cause> {
        command
            .spawn()
            .map_err(|e| Cause::Gpg(format!("cannot run '{}': {e}", self.binary.display())))
    }

    /// Returns what goes before the message: the passphrase, up to its first line end, as a line.
    fn first_line(&self, passphrase: Option<&str>) -> Zeroizing<Vec<u8>> {
        let line = passphrase
            .filter(|_| !self.use_agent)
            .map(|p| [first_line(p), "\n"].concat().into_bytes());
        Zeroizing::new(line.unwrap_or_default())
    }

    /// Runs gpg to its end.
    fn run(&self, command: Command, input: &[u8]) -> Result<(Vec<u8>, Said), Cause> {
        let mut child = self.spawn(command)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut output = Vec::new();
        let said = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new;
            // gpg may stop reading early.
            let feeder =
                thread().spawn_scoped(scope, move || stdin.map(|mut stdin| stdin.write_all(input)));
            let said =
                thread().spawn_scoped(scope, move || stderr.map(Said::read).unwrap_or_default());
            if let (Some(stdout), true) = (stdout, feeder.is_ok() && said.is_ok()) {
                let _ = stdout.take(OUTPUT_LIMIT).read_to_end(&mut output);
            }
            feeder.and(said).map(|said| said.join().unwrap_or_default())
        });
        if said.is_err() {
            let _ = child.kill();
        }
        let said =
            said.map_err(|e| Cause::Gpg(format!("cannot start a thread to talk with it: {e}")));
        child.wait().map_err(|e| Cause::Gpg(format!("cannot wait for it: {e}")))?;
        Ok((output, said?))
    }

    /// Lets gpg-agent ask for a passphrase to encrypt with, twice; the agent does not keep it. gpg
    /// has no command that would hand it out.
    pub fn ask_agent(&self) -> Result<Zeroizing<String>, Cause> {
        let mut command = Command::new("gpg-connect-agent");
        command
            .args(["GET_PASSPHRASE --data --repeat=1 X X Passphrase To+encrypt+backups", "/bye"]);
        let failed = |what: String| {
            Cause::Gpg(format!("gpg-agent gives no passphrase: {what}; set PASSPHRASE instead"))
        };
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child =
            child.as_mut().map_err(|e| failed(format!("cannot run gpg-connect-agent: {e}")))?;
        let (mut answer, mut passphrase) =
            (Zeroizing::new(Vec::with_capacity(4096)), Zeroizing::new(Vec::with_capacity(1024)));
        let read = child
            .stdout
            .take()
            .map_or(Ok(0), |stdout| stdout.take(OUTPUT_LIMIT).read_to_end(&mut answer));
        child.wait().and(read).map_err(|e| failed(e.to_string()))?;
        for line in answer.split(|byte| *byte == b'\n') {
            match line {
                [b'D', b' ', data @ ..] => unescape(data, &mut passphrase),
                [b'E', b'R', b'R', ..] => {
                    return Err(failed(String::from_utf8_lossy(line).into_owned()));
                }
                _ => {}
            }
        }
        let text = std::str::from_utf8(&passphrase).map_err(|e| failed(e.to_string()))?;
        if text.is_empty() {
            Err(failed("it is empty".into()))
        } else {
            Ok(Zeroizing::new(text.to_owned()))
        }
    }

    /// Lets gpg find the session key in `keys`, packets with tags 1 and 3: the number of the
    /// algorithm and the key.
    pub fn session_key(
        &self,
        keys: &[u8],
        passphrase: Option<&str>,
    ) -> Result<(u8, Zeroizing<Vec<u8>>), Cause> {
        let mut command = self.command(passphrase.is_some());
        command.args(["--show-session-key", "--decrypt"]);
        // An empty encrypted packet, with zeros where prefix and hash should be, makes gpg look for
        // the key and tell it, before it finds that there is nothing to decrypt: the message itself
        // need not be sent.
        let mut message = self.first_line(passphrase);
        message.extend_from_slice(keys);
        message.extend_from_slice(&[0xd2, 41, 1]);
        message.extend_from_slice(&[0; 40]);
        let (_, said) = self.run(command, &message)?;
        said.status("SESSION_KEY").find_map(session_key).ok_or_else(|| said.refusal())
    }

    /// Returns the certificates that a key ID is in, in binary form; empty when there is none.
    pub fn export(&self, id: &str) -> Result<Vec<u8>, Cause> {
        let mut command = self.command(false);
        command.args(["--export", "--", id]);
        Ok(self.run(command, &[])?.0)
    }

    /// Starts to sign data with the very key of a fingerprint, in a signature of its own.
    pub fn sign(
        &self,
        fingerprint: &str,
        digest: &str,
        passphrase: Option<&str>,
    ) -> Result<Signature, Cause> {
        let mut command = self.command(passphrase.is_some());
        command.args([
            "--no-armor",
            "--digest-algo",
            digest,
            "--local-user",
            &format!("{fingerprint}!"),
            "--detach-sign",
        ]);
        let mut child = self.spawn(command)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let listener = std::thread::Builder::new().name("gpg-stderr".to_owned());
        let listener = listener.spawn(move || stderr.map(Said::read).unwrap_or_default()).ok();
        let mut signature = Signature { child, stdin, stdout, listener, finished: false };
        signature.update(&self.first_line(passphrase));
        Ok(signature)
    }

    /// Starts to decrypt a whole message; `signer` tells whether a key and its primary key, as
    /// fingerprints, are the demanded one.
    pub fn decrypt(
        &self,
        file: Arc<dyn ReadAt>,
        passphrase: Option<&str>,
        signer: Option<Accept>,
    ) -> Result<Decryption, Cause> {
        let mut command = self.command(passphrase.is_some());
        command.arg("--decrypt");
        let mut child = self.spawn(command)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let first = self.first_line(passphrase);
        let spawn = std::thread::Builder::new;
        let feeder = spawn().name("gpg-stdin".to_owned()).spawn(move || match stdin {
            Some(stdin) => feed(stdin, &first, file),
            None => Ok(()),
        });
        let listener = spawn()
            .name("gpg-stderr".to_owned())
            .spawn(move || stderr.map(Said::read).unwrap_or_default());
        let buffer = vec![0; 64 << 10].into();
        let (feeder, listener) = (feeder.ok(), listener.ok());
        Ok(Decryption {
            child,
            stdout,
            feeder,
            listener,
            signer,
            buffer,
            position: 0,
            length: 0,
            finished: false,
        })
    }
}

/// A running gpg that signs.
pub(super) struct Signature {
    child: Child,
    /// `None` once gpg has given up; why is told in the end.
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    listener: Option<JoinHandle<Said>>,
    finished: bool,
}

impl Signature {
    /// Takes the next bytes to sign.
    pub fn update(&mut self, data: &[u8]) {
        if self.stdin.as_mut().is_some_and(|stdin| stdin.write_all(data).is_err()) {
            self.stdin = None;
        }
    }

    /// Returns the signature packet.
    pub fn finish(mut self) -> Result<Vec<u8>, Cause> {
        self.stdin = None;
        let mut packet = Vec::new();
        if let Some(stdout) = self.stdout.take() {
            let read = stdout.take(SIGNATURE_LIMIT).read_to_end(&mut packet);
            read.map_err(|e| Cause::Signing(format!("cannot read gpg's output: {e}")))?;
        }
        let said = self.listener.take().and_then(|t| t.join().ok()).unwrap_or_default();
        let status =
            self.child.wait().map_err(|e| Cause::Signing(format!("cannot wait for gpg: {e}")))?;
        self.finished = true;
        if status.success() && said.has("SIG_CREATED") {
            return Ok(packet);
        }
        let words = said.last_words();
        let why = if words.contains("Bad passphrase") || said.has("BAD_PASSPHRASE") {
            "wrong passphrase for the signing key (SIGN_PASSPHRASE)"
        } else if words.contains("No passphrase") || said.has("MISSING_PASSPHRASE") {
            "no passphrase for the signing key (SIGN_PASSPHRASE)"
        } else if said.has("INV_SGNR") || words.contains("No secret key") {
            "gpg has no secret key for it"
        } else {
            "gpg fails"
        };
        Err(Cause::Signing(format!("{why}: {words}")))
    }
}

impl Drop for Signature {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// gpg reads a passphrase up to the first line end.
pub(super) fn first_line(passphrase: &str) -> &str {
    passphrase.split('\n').next().unwrap_or_default()
}

/// Parses `algorithm:HEX`.
fn session_key(words: &str) -> Option<(u8, Zeroizing<Vec<u8>>)> {
    let (algorithm, hex) = words.split_once(':')?;
    let pairs = hex.trim_end().as_bytes().chunks(2);
    let key = pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect::<Option<Vec<u8>>>()?;
    Some((algorithm.parse().ok()?, Zeroizing::new(key)))
}

/// Writes the passphrase line and the file to gpg.
fn feed(mut stdin: impl Write, first: &[u8], file: Arc<dyn ReadAt>) -> Result<(), Cause> {
    if stdin.write_all(first).is_err() {
        return Ok(()); // gpg has given up, and says why
    }
    let mut stored = Stored::new(file, 0, LONG);
    loop {
        let bytes = stored.fill()?;
        let count = bytes.len();
        if count == 0 || stdin.write_all(bytes).is_err() {
            return Ok(());
        }
        stored.consume(count);
    }
}

/// Whether a signing key and its primary key, as fingerprints in capitals, are accepted.
pub(super) type Accept = Box<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// A running gpg that decrypts a message.
pub(super) struct Decryption {
    child: Child,
    stdout: Option<ChildStdout>,
    feeder: Option<JoinHandle<Result<(), Cause>>>,
    listener: Option<JoinHandle<Said>>,
    signer: Option<Accept>,
    buffer: Box<[u8]>,
    position: usize,
    length: usize,
    finished: bool,
}

impl Decryption {
    /// Waits for the end and judges what gpg has said.
    fn finish(&mut self) -> Result<(), Cause> {
        self.stdout = None;
        let said = self.listener.take().and_then(|t| t.join().ok()).unwrap_or_default();
        let fed = self.feeder.take().and_then(|t| t.join().ok()).unwrap_or(Ok(()));
        let status =
            self.child.wait().map_err(|e| Cause::Gpg(format!("cannot wait for it: {e}")))?;
        fed?;
        // "DECRYPTION_INFO mdc cipher aead": a third word other than 0 stands for a mode that
        // authenticates by itself.
        let authenticated = said
            .status("DECRYPTION_INFO")
            .any(|w| w.split(' ').nth(2).is_some_and(|aead| aead != "0"));
        if said.has("BADMDC") {
            return Err(Cause::NotAuthentic(
                "gpg finds its modification detection code (MDC) wrong".to_owned(),
            ));
        }
        if !said.has("DECRYPTION_OKAY") {
            return Err(said.refusal());
        }
        if !authenticated && !said.has("GOODMDC") {
            return Err(Cause::NotAuthentic(
                "it is encrypted without integrity protection".to_owned(),
            ));
        }
        if let Some(accept) = &self.signer {
            let good = said.has("GOODSIG") && !said.has("BADSIG") && !said.has("REVKEYSIG");
            // "VALIDSIG fingerprint date ... primary-fingerprint"
            let ours = |words: &str| {
                let mut words = words.split(' ');
                let key = words.next().unwrap_or_default();
                accept(key, words.next_back().unwrap_or(key))
            };
            if !good || !said.status("VALIDSIG").any(ours) {
                return Err(Cause::Signature(format!(
                    "gpg does not confirm that the demanded key has signed: {}",
                    said.last_words()
                )));
            }
        }
        // gpg's exit status is that of the signatures too, which count only if they are demanded.
        if !status.success()
            && self.signer.is_none()
            && !said.has("NO_PUBKEY")
            && !said.has("ERRSIG")
        {
            return Err(Cause::Gpg(said.last_words()));
        }
        Ok(())
    }
}

impl Source for Decryption {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        if self.position == self.length && !self.finished {
            let read = loop {
                match self.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(&mut self.buffer)) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.length = read.map_err(|e| Cause::Gpg(format!("cannot read its output: {e}")))?;
            self.position = 0;
            if self.length == 0 {
                self.finish()?;
                self.finished = true;
            }
        }
        Ok(&self.buffer[self.position..self.length])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.length);
    }
}

impl Stage for Decryption {
    fn mark(&self) -> Result<Option<Vec<u8>>, Cause> {
        Ok(Some(state::begin(Kind::Spooled)))
    }
}

impl Drop for Decryption {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
