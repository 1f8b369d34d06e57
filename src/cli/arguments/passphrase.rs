//! Passphrases: taken out of the environment, or asked for; in which case, how often, and in which
//! words, is duplicity's.
//!
//! Further ones may stand in a file, which nobody else may be able to read.
//!
//! They are held in memory that is wiped, go to gpg by a pipe, and stand in no list of arguments,
//! no environment, no log, no core file.

use super::{Common, secret_file};
use crate::cli::failure::Failure;
use dupfs::codec::PassphraseSource;
use dupfs::storage::{PasswordSource, VariableSource};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

/// The passphrase from the environment.
static PASSPHRASE: OnceLock<Zeroizing<String>> = OnceLock::new();
/// The same for the key that signs.
static SIGN_PASSPHRASE: OnceLock<Zeroizing<String>> = OnceLock::new();
/// The password of the storage, in the variable of duplicity 0.8.
static FTP_PASSWORD: OnceLock<Zeroizing<String>> = OnceLock::new();
/// The same in the variable of 3.x, which goes before.
static BACKEND_PASSWORD: OnceLock<Zeroizing<String>> = OnceLock::new();
/// Whether a passphrase that is typed has to be typed twice.
static TWICE: AtomicBool = AtomicBool::new(false);
/// Whether the passphrase of the signing key is asked for before the second time.
static SIGNER_BETWEEN: AtomicBool = AtomicBool::new(false);
/// What was typed then.
static SIGNER_TYPED: Mutex<Option<Zeroizing<String>>> = Mutex::new(None);

/// Takes the passphrases out of the environment, so that no program that we run inherits them, and
/// nobody reads them in `/proc`; from now on the process leaves no core file, which would hold
/// them. To be called before any thread is started.
pub fn take() -> Result<(), Failure> {
    forbid_core_files();
    for (name, kept) in [
        (c"PASSPHRASE", &PASSPHRASE),
        (c"SIGN_PASSPHRASE", &SIGN_PASSPHRASE),
        (c"FTP_PASSWORD", &FTP_PASSWORD),
        (c"BACKEND_PASSWORD", &BACKEND_PASSWORD),
    ] {
        let Some(taken) = take_variable(name) else { continue };
        let name = name.to_string_lossy();
        let taken = taken
            .into_string()
            .map_err(|_| Failure::CommandLine(format!("{name} is not valid UTF-8")))?;
        let _ = kept.set(Zeroizing::new(taken));
    }
    Ok(())
}

/// Those in the file that `--passphrase-file` names.
static FROM_FILE: OnceLock<Vec<Zeroizing<String>>> = OnceLock::new();

/// Reads the file of passphrases, if one is named.
///
/// # Errors
/// [`Failure::CommandLine`] as [`secret_file::read`], and for one that holds none.
pub fn read_file(common: &Common) -> Result<(), Failure> {
    let Some(typed) = &common.passphrase_file else { return Ok(()) };
    let text = secret_file::read("passphrases", typed)?;
    let lines =
        text.lines().filter(|line| !line.is_empty()).map(|line| Zeroizing::new(line.to_string()));
    let passphrases: Vec<_> = lines.collect();
    if passphrases.is_empty() {
        return Err(secret_file::refuse("passphrases", typed, "it holds none"));
    }
    let _ = FROM_FILE.set(passphrases);
    Ok(())
}

/// Sets the variables of the file that `--env-file` names: `NAME=value`, one a line, as systemd and
/// shells have them. They count more than those that are set already. To be called before
/// [`take`], and before any thread is started.
///
/// # Errors
/// [`Failure::CommandLine`] as [`secret_file::read`], and for a line that is no such thing.
pub fn read_variables(common: &Common) -> Result<(), Failure> {
    let Some(typed) = &common.env_file else { return Ok(()) };
    let text = secret_file::read("variables", typed)?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let pair = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let Some((name, value)) = pair.filter(|(name, _)| is_name(name)) else {
            let why = format!("line {number} is not NAME=value");
            return Err(secret_file::refuse("variables", typed, &why));
        };
        let quoted = ['"', '\''].iter().find_map(|quote| {
            value.strip_prefix(*quote).and_then(|value| value.strip_suffix(*quote))
        });
        let value = quoted.unwrap_or(value);
        if value.contains('\0') {
            let why = format!("line {number} holds a NUL");
            return Err(secret_file::refuse("variables", typed, &why));
        }
        let secrets = [
            ("PASSPHRASE", &PASSPHRASE),
            ("SIGN_PASSPHRASE", &SIGN_PASSPHRASE),
            ("FTP_PASSWORD", &FTP_PASSWORD),
            ("BACKEND_PASSWORD", &BACKEND_PASSWORD),
        ];
        match secrets.iter().find(|(secret, _)| *secret == name) {
            Some((_, kept)) => drop(kept.set(Zeroizing::new(value.to_string()))),
            // SAFETY: no other thread is running that could read or change the environment.
            None => unsafe { std::env::set_var(name, value) },
        }
    }
    Ok(())
}

/// Takes a variable out of the environment, and wipes the bytes that the process was started with.
fn take_variable(name: &CStr) -> Option<OsString> {
    let taken = std::env::var_os(OsStr::from_bytes(name.to_bytes()))?;
    // SAFETY: no other thread is running that could read or change the environment; what getenv
    // returns is writable up to its NUL.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        let length = if value.is_null() { 0 } else { libc::strlen(value) };
        (0..length).for_each(|place| value.add(place).write_volatile(0));
        std::env::remove_var(OsStr::from_bytes(name.to_bytes()));
    }
    Some(taken)
}

/// A limit of one byte ends a dump into a program, too, which one of zero bytes does not
/// (`core(5)`).
fn forbid_core_files() {
    let least = rustix::process::Rlimit { current: Some(1), maximum: Some(1) };
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Where the hard limit is 0 already, it cannot become 1, and need not.
    let set = |limit| rustix::process::setrlimit(rustix::process::Resource::Core, limit);
    let _ = set(least).or_else(|_| set(none));
}

/// Returns where the passphrase for encrypting and decrypting comes from. The other variable
/// serves, if the key signs and decrypts.
pub fn source(common: &Common) -> PassphraseSource {
    let names_key = !common.encrypt_key.is_empty()
        || !common.hidden_encrypt_key.is_empty()
        || common.encrypt_sign_key.is_some();
    let of_environment = variable(&PASSPHRASE)
        .or_else(|| variable(&SIGN_PASSPHRASE).filter(|_| signer_decrypts(common)));
    if let Some(from_file) = FROM_FILE.get() {
        return PassphraseSource::Several(
            of_environment.into_iter().chain(from_file.iter().cloned()).collect(),
        );
    }
    match of_environment {
        Some(passphrase) => PassphraseSource::Fixed(passphrase),
        // gpg-agent knows or asks.
        None if common.use_agent || common.no_encryption || names_key => PassphraseSource::None,
        None => PassphraseSource::Ask(Arc::new(ask)),
    }
}

/// Returns the variables of the process, those included that [`take`] took out of its environment
/// and that concern storages.
pub fn environment() -> VariableSource {
    Arc::new(|name| match name {
        "BACKEND_PASSWORD" => variable(&BACKEND_PASSWORD),
        "FTP_PASSWORD" => variable(&FTP_PASSWORD),
        _ => std::env::var(name).ok().map(Into::into),
    })
}

/// Returns who is asked for the password of a storage: whoever sits at the terminal.
pub fn of_storage() -> PasswordSource {
    Arc::new(|login| prompt(&format!("Password for '{login}': ")))
}

/// Has passphrases typed twice from now on, as duplicity does when it is going to encrypt with
/// them; that of the signing key, if it is to be asked for, in between.
pub fn ask_twice(common: &Common) {
    TWICE.store(true, Ordering::Relaxed);
    SIGNER_BETWEEN.store(matches!(of_signer(common), PassphraseSource::Ask(_)), Ordering::Relaxed);
}

/// Asks for the passphrase; `None` if there is nobody to ask.
fn ask() -> std::io::Result<Option<Zeroizing<String>>> {
    loop {
        let Some(first) = prompt("GnuPG passphrase for decryption: ")? else { return Ok(None) };
        if !TWICE.load(Ordering::Relaxed) {
            return Ok(Some(first));
        }
        if SIGNER_BETWEEN.swap(false, Ordering::Relaxed) {
            let Some(typed) = prompt(SIGNER_PROMPT)? else { return Ok(None) };
            *SIGNER_TYPED.lock() = Some(typed);
        }
        let Some(second) = prompt("Retype passphrase for decryption to confirm: ")? else {
            return Ok(None);
        };
        if *first != *second {
            eprintln!("First and second passphrases do not match!  Please try again.");
        } else if first.is_empty() {
            eprintln!("Cannot use empty passphrase with symmetric encryption!  Please try again.");
        } else {
            return Ok(Some(first));
        }
    }
}

/// Asks on the terminal, whatever stdin is; without a terminal a line of stdin is the answer, and
/// `None` its end. Where stdin has ended already, nobody is there to read a prompt, and none is
/// printed.
fn prompt(text: &str) -> std::io::Result<Option<Zeroizing<String>>> {
    if std::fs::File::open("/dev/tty").is_ok() {
        return rpassword::prompt_password(text).map(|answer| Some(Zeroizing::new(answer)));
    }
    let stdin = rustix::stdio::stdin();
    let is_ready = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&Timespec::default()))? > 0;
    let first = if is_ready { read_byte()? } else { None };
    if is_ready && first.is_none() {
        return Ok(None);
    }
    eprint!("Warning: Password input may be echoed.\n{text}");
    let line = read_line(first)?;
    if line.is_none() {
        eprintln!();
    }
    Ok(line)
}

/// Reads a byte of stdin, `None` where it ends.
fn read_byte() -> std::io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            count => return Ok((count? > 0).then_some(byte[0])),
        }
    }
}

/// Reads a line of stdin, of which the first byte may be at hand, without its end; `None` where
/// stdin ends. By single bytes, since a buffer would keep it.
fn read_line(first: Option<u8>) -> std::io::Result<Option<Zeroizing<String>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(1024));
    let mut next = first.map_or_else(read_byte, |byte| Ok(Some(byte)))?;
    let is_ended = next.is_none();
    while let Some(byte) = next.filter(|byte| *byte != b'\n') {
        line.push(byte);
        next = read_byte()?;
    }
    if is_ended {
        return Ok(None);
    }
    let text = std::str::from_utf8(&line)
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
    Ok(Some(Zeroizing::new(text.trim_end_matches('\r').to_string())))
}

/// Returns where the passphrase of the signing key comes from. The other variable serves, if the
/// key signs and decrypts.
pub fn of_signer(common: &Common) -> PassphraseSource {
    match variable(&SIGN_PASSPHRASE)
        .or_else(|| variable(&PASSPHRASE).filter(|_| signer_decrypts(common)))
    {
        Some(passphrase) => PassphraseSource::Fixed(passphrase),
        None if common.use_agent || common.no_encryption || common.signer().is_none() => {
            PassphraseSource::None
        }
        None => PassphraseSource::Ask(Arc::new(ask_signer)),
    }
}

const SIGNER_PROMPT: &str = "GnuPG passphrase for signing key: ";

/// Asks for the passphrase of the signing key, unless that is done.
fn ask_signer() -> std::io::Result<Option<Zeroizing<String>>> {
    let typed = SIGNER_TYPED.lock().take();
    typed.map_or_else(|| prompt(SIGNER_PROMPT), |typed| Ok(Some(typed)))
}

/// Says which variable serves for the other, too, if one does.
pub fn reused(common: &Common) -> Option<&'static str> {
    match (variable(&PASSPHRASE), variable(&SIGN_PASSPHRASE)) {
        (Some(_), None) if signer_decrypts(common) => {
            Some("Reuse configured PASSPHRASE as SIGN_PASSPHRASE")
        }
        (None, Some(_)) if signer_decrypts(common) => {
            Some("Reuse configured SIGN_PASSPHRASE as PASSPHRASE")
        }
        _ => None,
    }
}

fn variable(kept: &OnceLock<Zeroizing<String>>) -> Option<Zeroizing<String>> {
    kept.get().cloned()
}

/// Returns whether the key that signs is one of those that decrypt.
fn signer_decrypts(common: &Common) -> bool {
    let recipients = || common.encrypt_key.iter().chain(&common.hidden_encrypt_key);
    common.encrypt_sign_key.is_some()
        || common.signer().is_some_and(|key| recipients().any(|recipient| recipient == key))
}
