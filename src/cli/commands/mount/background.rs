//! [`Ready`]: the server goes to the background, and the terminal waits until the mount answers.

use crate::cli::failure::EXCEPTION;
use anyhow::Context;
use rustix::process;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// By which the process on the terminal learns that the mount answers.
pub struct Ready(OwnedFd);

impl Ready {
    /// Splits the process: the child goes on, the parent waits until it is ready, or has failed and
    /// said why, and ends.
    pub fn fork() -> anyhow::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .context("cannot make a pipe")?;
        // SAFETY: no other thread has been started, so the child is a whole process.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()).context("cannot go to the background"),
            0 => Ok(Self(writer)),
            child => {
                drop(writer);
                let mut answer = [0];
                let code = match std::fs::File::from(reader).read(&mut answer) {
                    Ok(1) => 0,
                    // It has failed, and its exit code tells how.
                    _ => {
                        let mut status = 0;
                        // SAFETY: waits for our own child, into a variable of ours.
                        unsafe { libc::waitpid(child, &mut status, 0) };
                        if libc::WIFEXITED(status) {
                            libc::WEXITSTATUS(status)
                        } else {
                            i32::from(EXCEPTION)
                        }
                    }
                };
                std::process::exit(code)
            }
        }
    }

    /// Leaves the terminal, and the current directory unless the server `stays`, and lets the
    /// parent end.
    pub fn announce(self, stays: bool) -> anyhow::Result<()> {
        process::setsid().context("cannot leave the terminal")?;
        if !stays {
            process::chdir("/").context("cannot change to '/'")?;
        }
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .context("cannot open '/dev/null'")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        std::fs::File::from(self.0).write_all(&[0]).context("cannot tell that the mount stands")
    }
}
