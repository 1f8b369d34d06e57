//! Lists of patterns, and lists of files to save.

use super::Error;
use crate::model::EntryPath;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a fifo that is to bring a list may have no writer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for one.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// For each directory that has something listed in it, the names, sorted.
pub type Listed = HashMap<EntryPath, Vec<Vec<u8>>>;

/// Reads a list as text, its line ends made plain.
///
/// # Errors
/// [`Error::Filelist`] if it cannot be read, [`Error::FilelistEncoding`] if it is not UTF-8.
pub fn read(path: &Path) -> Result<String, Error> {
    let bytes = read_bytes(path, PATIENCE)
        .map_err(|cause| Error::Filelist { path: path.to_path_buf(), cause })?;
    let text = String::from_utf8(bytes).map_err(|_| Error::FilelistEncoding(path.to_path_buf()))?;
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text })
}

/// Reads a list from whatever it is: a file, standard input, the pipe of a shell's `<(...)`, or a
/// fifo. The originals wait for ever for somebody to write to a fifo; here that has an end. Whoever
/// has opened it may take any time.
fn read_bytes(path: &Path, patience: Duration) -> io::Result<Vec<u8>> {
    // A pipe of a shell is a fifo that needs no name to be opened by, and its writer may be done
    // already.
    let is_fifo = std::fs::metadata(path)?.file_type().is_fifo()
        && rustix::fs::statfs(path)?.f_type != PIPEFS;
    if !is_fifo {
        return std::fs::read(path);
    }
    let (mut bytes, began) = (Vec::new(), Instant::now());
    let fifo = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    loop {
        let mut seen = [PollFd::new(&fifo, PollFlags::IN)];
        let _ = poll(&mut seen, Some(&PAUSE));
        let was_written = seen[0].revents().contains(PollFlags::HUP);
        match (&fifo).read_to_end(&mut bytes) {
            Ok(_) if was_written || !bytes.is_empty() => return Ok(bytes),
            Ok(_) if began.elapsed() >= patience => {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "it is a fifo, and nobody writes to it",
                ));
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            // Nobody writes yet, or is just at it.
            Ok(_) | Err(_) => {}
        }
    }
}

/// What `statfs` says of pipes without a name.
const PIPEFS: rustix::fs::FsWord = 0x5049_5045;

/// Returns the patterns of a list with whether each includes: `is_include`, unless its line has a
/// sign.
///
/// Source: seen with 0.8.22 and 3.2.1, CLI.md 5.4.
pub fn patterns(
    text: &str,
    null_separator: bool,
    is_include: bool,
) -> impl Iterator<Item = (bool, &str)> {
    let lines = text.split(separator(null_separator)).map(|line| line.trim_matches(is_space));
    lines.filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let (is_include, pattern) = match line.split_at_checked(2) {
            Some(("+ ", pattern)) => (true, pattern),
            Some(("- ", pattern)) => (false, pattern),
            _ => (is_include, line),
        };
        let pattern = unquoted(pattern);
        (!pattern.is_empty()).then_some((is_include, pattern))
    })
}

/// Parses a list of files to save: paths below the source, nothing stripped, parents added.
///
/// Empty components and `.` are left out, which duplicity would store as such.
///
/// # Errors
/// [`Error::AbsoluteFilesFrom`] for a path that leads elsewhere, [`Error::EmptyFilesFrom`] if none
/// is listed.
pub fn files(text: &str, null_separator: bool) -> Result<Listed, Error> {
    let mut listed = Listed::new();
    for line in text.split(separator(null_separator)).filter(|line| !line.is_empty()) {
        let elsewhere = || Error::AbsoluteFilesFrom(line.to_string());
        if line.starts_with('/') {
            return Err(elsewhere());
        }
        let mut directory = EntryPath::root();
        for name in line.split('/').filter(|name| !matches!(*name, "" | ".")) {
            let path = directory.join(name.as_bytes()).map_err(|_| elsewhere())?;
            listed.entry(directory).or_default().push(name.as_bytes().to_vec());
            directory = path;
        }
    }
    if listed.is_empty() {
        return Err(Error::EmptyFilesFrom);
    }
    for names in listed.values_mut() {
        names.sort_unstable();
        names.dedup();
    }
    Ok(listed)
}

fn separator(null_separator: bool) -> char {
    if null_separator { '\0' } else { '\n' }
}

/// What Python's `strip` takes away.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Takes one pair of quotes away; a quote alone counts as a pair, as it does with duplicity.
fn unquoted(pattern: &str) -> &str {
    for quote in ['\'', '"'] {
        if let Some(rest) = pattern.strip_prefix(quote) {
            if rest.is_empty() {
                return rest;
            }
            return rest.strip_suffix(quote).unwrap_or(pattern);
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_is_read_if_somebody_writes() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let error = read_bytes(&fifo, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "it is a fifo, and nobody writes to it");
        for expected in ["/a\n".repeat(100_000), String::new()] {
            std::thread::scope(|scope| {
                scope.spawn(|| std::fs::write(&fifo, &expected).unwrap());
                assert!(read_bytes(&fifo, PATIENCE).unwrap() == expected.as_bytes());
            });
        }
        let (reader, writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut { writer }, b"/b\n").unwrap();
        let pipe = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert_eq!(read_bytes(Path::new(&pipe), Duration::ZERO).unwrap(), b"/b\n");
    }

    #[test]
    fn lines_become_patterns() {
        let text = "\t/a \n# no\n\n+ /b\n- /c\n+x\n+  /two\n- '/q q'\n\"/r\"\n'\n'/open\n+ ''\n-\n - /edge\n\u{feff}/bom";
        let expected = [
            (false, "/a"),
            (true, "/b"),
            (false, "/c"),
            (false, "+x"),
            (true, " /two"),
            (false, "/q q"),
            (false, "/r"),
            (false, "'/open"),
            (false, "-"),
            (false, "/edge"),
            (false, "\u{feff}/bom"),
        ];
        assert_eq!(patterns(text, false, false).collect::<Vec<_>>(), expected);
        assert_eq!(
            patterns("/a\0#x\0/b\nc", true, true).collect::<Vec<_>>(),
            [(true, "/a"), (true, "/b\nc")]
        );
    }

    #[test]
    fn listed_files_bring_their_parents() {
        let listed = files("b/c\na\n./b/d/\nb//c\n", false).unwrap();
        let names = |path: &str| {
            listed.get(&EntryPath::parse(path.as_bytes()).unwrap()).cloned().unwrap_or_default()
        };
        assert_eq!(
            (names("."), names("b"), names("b/d")),
            (vec![b"a".to_vec(), b"b".to_vec()], vec![b"c".to_vec(), b"d".to_vec()], vec![])
        );
        assert!(
            matches!(files("a\n/b", false), Err(Error::AbsoluteFilesFrom(path)) if path == "/b")
        );
        assert!(matches!(files("a/../../b", false), Err(Error::AbsoluteFilesFrom(_))));
        assert!(matches!(files("\n\n", false), Err(Error::EmptyFilesFrom)));
    }
}
