//! Files with secrets, which nobody else may be able to read.

use super::folders::expand;
use crate::cli::failure::Failure;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The longest of them.
const LIMIT: u64 = 1 << 20;

/// Returns what is said of a file that is not taken.
pub fn refuse(what: &str, typed: &Path, why: &str) -> Failure {
    Failure::CommandLine(format!("cannot take {what} from '{}': {why}", expand(typed).display()))
}

/// Reads a file with these secrets.
///
/// # Errors
/// [`Failure::CommandLine`] for a file that cannot be read, is somebody else's, or is open to
/// others, and for one that is no text.
pub fn read(what: &str, typed: &Path) -> Result<Zeroizing<String>, Failure> {
    let path = expand(typed);
    let refuse = |why: String| refuse(what, typed, &why);
    // Without waiting for whoever would write into a fifo.
    let options =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, options, rustix::fs::Mode::empty())
        .map_err(|error| refuse(error.to_string()))?;
    let file = std::fs::File::from(file);
    let found = file.metadata().map_err(|error| refuse(error.to_string()))?;
    if !found.is_file() {
        return Err(refuse("it is not a regular file".into()));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refuse(format!("it belongs to the user {}, not to you", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        return Err(refuse(format!(
            "others may use it (mode {:o}): chmod 600 '{}'",
            found.mode() & 0o7777,
            path.display()
        )));
    }
    // As large as the file from the beginning, so that no copy of it stays behind where it has
    // grown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(found.len().min(LIMIT) as usize + 1));
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > LIMIT {
        return Err(refuse(format!("it is longer than {LIMIT} bytes")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| refuse("it is not valid UTF-8".into()))?;
    Ok(Zeroizing::new(text.to_string()))
}
