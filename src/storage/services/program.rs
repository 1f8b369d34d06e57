//! [`run`]: a program of the user's that does one thing and ends.
//!
//! It gets no terminal. Whatever it prints counts as progress; where it prints nothing for as long
//! as a wait may take, it is killed. What is kept of its output is bounded, whatever it prints.

use crate::storage::ErrorKind;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind as Io, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much is kept of what a program reports.
const SAID: usize = 8 << 10;
/// The most that is taken of what it prints.
const PRINTED: usize = 256 << 20;
/// How often a program from which nothing comes is looked at; less than a second.
const LOOK: Duration = Duration::from_millis(50);

/// What a program has left behind.
pub struct Done {
    /// How it has ended.
    pub status: ExitStatus,
    /// What it has printed.
    pub printed: Vec<u8>,
    /// The end of what it has reported on stderr.
    pub said: String,
}

/// Why a program could not be run to its end.
pub struct NotRun {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// Words for the user.
    pub cause: String,
}

/// A child that is not left behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end, or kills it when nothing comes from it for so long.
pub fn run(command: &mut Command, timeout: Duration) -> Result<Done, NotRun> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| NotRun {
        kind: ErrorKind::Other,
        cause: format!("cannot follow '{program}': {error}"),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| NotRun {
        kind: ErrorKind::Unsupported,
        cause: format!(
            "cannot run '{program}': {error}; install it, or look whether PATH leads to it"
        ),
    })?;
    let mut running = Running(child);
    let (mut output, mut messages) = (running.0.stdout.take(), running.0.stderr.take());
    let (mut printed, mut said) = (Vec::new(), Vec::new());
    let mut last = Instant::now();
    let mut part = vec![0; 64 << 10];
    let status = loop {
        let left = timeout.saturating_sub(last.elapsed());
        if left.is_zero() {
            let seconds = timeout.as_secs();
            let cause = format!("nothing came from '{program}' for {seconds} seconds");
            return Err(NotRun { kind: ErrorKind::TimedOut, cause });
        }
        let (has_printed, has_said) =
            wait(output.as_ref(), messages.as_ref(), LOOK.min(left)).map_err(failed)?;
        // What it has left in the background, as ssh may, holds its pipes open.
        if !has_printed
            && !has_said
            && let Some(status) = running.0.try_wait().map_err(failed)?
        {
            break status;
        }
        if has_printed {
            take(&mut output, &mut part, &mut printed).map_err(failed)?;
            last = Instant::now();
            if printed.len() > PRINTED {
                let cause = format!("'{program}' prints more than makes sense");
                return Err(NotRun { kind: ErrorKind::Other, cause });
            }
        }
        if has_said {
            take(&mut messages, &mut part, &mut said).map_err(failed)?;
            last = Instant::now();
            let excess = said.len().saturating_sub(SAID);
            said.drain(..excess);
        }
    };
    Ok(Done { status, printed, said: String::from_utf8_lossy(&said).into_owned() })
}

/// Waits until the pipes hold something, or are at their end, and returns which.
fn wait(
    output: Option<&ChildStdout>,
    messages: Option<&ChildStderr>,
    longest: Duration,
) -> std::io::Result<(bool, bool)> {
    let fds = [output.map(AsFd::as_fd), messages.map(AsFd::as_fd)];
    let mut watched: Vec<_> =
        fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let longest = Timespec { tv_sec: 0, tv_nsec: longest.subsec_nanos().into() };
    match poll(&mut watched, Some(&longest)) {
        Err(rustix::io::Errno::INTR) => return Ok((false, false)),
        result => result?,
    };
    let mut ready = watched.iter().map(|watched| !watched.revents().is_empty());
    let mut next = |fd: &Option<_>| fd.is_some() && ready.next() == Some(true);
    Ok((next(&fds[0]), next(&fds[1])))
}

/// Takes what a pipe holds, and drops the pipe at its end.
fn take<R: Read>(pipe: &mut Option<R>, part: &mut [u8], kept: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(open) = pipe else { return Ok(()) };
    match open.read(part) {
        Ok(0) => *pipe = None,
        Ok(count) => kept.extend_from_slice(&part[..count]),
        Err(error) if error.kind() == Io::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_prints_is_kept_apart_from_what_it_reports() {
        let timeout = Duration::from_secs(30);
        let done = run(&mut shell("echo out; echo wrong >&2; exit 7"), timeout).ok().unwrap();
        assert_eq!((done.status.code(), done.said.as_str()), (Some(7), "wrong\n"));
        assert_eq!(done.printed, b"out\n");
        let missing = run(&mut Command::new("/nowhere/program"), timeout).err().unwrap();
        assert_eq!(missing.kind, ErrorKind::Unsupported);
        assert!(missing.cause.contains("install it"), "{}", missing.cause);
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let begun = Instant::now();
        for script in ["exec sleep 60", "exec >&- 2>&-; exec sleep 60"] {
            let error = run(&mut shell(script), Duration::from_millis(300)).err().unwrap();
            assert_eq!(error.kind, ErrorKind::TimedOut);
        }
        // Whatever comes shows that it is at work.
        let slow = "for i in 1 2 3 4; do sleep 0.15; echo $i; done";
        assert!(run(&mut shell(slow), Duration::from_millis(500)).is_ok());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
