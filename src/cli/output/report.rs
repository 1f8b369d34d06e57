//! Monitors: for a terminal, for programs, and for a mount in the background.

use super::events::Told;
use super::log::code::{CANNOT_RESTORE, SKIPPED, UPLOAD_PROGRESS};
use super::log::{self, Message};
use super::progress::{Step, Way};
use super::stamp::stamp;
use crate::cli::failure;
use dupfs::monitor::{Event, Level, Monitor};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Prints messages as duplicity does: errors to stderr, all others to stdout; or, in the
/// background, to the system's log.
pub struct Report {
    verbosity: u8,
    in_background: AtomicBool,
    quiet_stdout: bool,
    progress: ProgressBar,
    way: Mutex<Option<Way>>,
}

impl Report {
    /// Prints what matters enough at a verbosity from 0 to 9. With `progress`, shows a bar if
    /// stderr is a terminal.
    pub fn new(verbosity: u8, progress: bool) -> Self {
        let bar = match progress && verbosity >= 3 && std::io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
            false => ProgressBar::hidden(),
        };
        let style =
            ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        let progress = match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar, // The template is a constant, which the tests show.
        };
        Self {
            verbosity,
            in_background: AtomicBool::new(false),
            quiet_stdout: false,
            progress,
            way: Mutex::default(),
        }
    }

    /// Sends all messages to stderr if `quiet`, for a command whose whole stdout is data.
    pub fn leaving_stdout(self, quiet: bool) -> Self {
        Self { quiet_stdout: quiet, ..self }
    }

    /// Sends everything to the system's log from now on.
    #[cfg(feature = "mount")]
    pub fn go_to_background(&self) {
        self.in_background.store(true, Ordering::Relaxed);
    }

    /// Prints a line that belongs to the output of a command, if the verbosity asks for notices.
    pub fn notice(&self, text: &str) {
        self.message(Level::Notice, text);
    }

    /// Prints the volumes that a dry run names, in duplicity's form.
    pub fn required(&self, names: &[String]) {
        self.notice("Required volumes to restore:");
        names.iter().for_each(|name| self.notice(&format!("\t{name}")));
    }

    /// Begins to show how far a backup has got, of so many bytes.
    pub fn begin_progress(&self, total: u64, rate: Duration) {
        *self.lock_way() = Some(Way::new(total, rate));
    }

    /// Shows that it has got to its end.
    pub fn end_progress(&self) {
        if let Some(way) = self.lock_way().take() {
            self.step(&way.last());
        }
    }

    /// Tells how far it has got; on a terminal in the place of what was told before.
    fn step(&self, step: &Step) {
        if self.verbosity < 3 {
            return;
        }
        log::write(
            &Message {
                level: Level::Notice,
                code: UPLOAD_PROGRESS,
                words: &step.words,
                text: &step.line,
            },
            "",
        );
        let over = if step.is_over { "\x1b[F\x1b[2K" } else { "" };
        self.print(&format!("{over}{}{}\n", stamp(Level::Notice), step.line));
    }

    fn lock_way(&self) -> parking_lot::MutexGuard<'_, Option<Way>> {
        self.way.lock()
    }

    /// Prints what is printed at any verbosity.
    pub fn always(&self, text: &str) {
        log::write(
            &Message {
                level: Level::Notice,
                code: 1,
                words: "",
                text: text.strip_suffix('\n').unwrap_or(text),
            },
            "",
        );
        self.print(&format!("{}{text}", stamp(Level::Notice)));
    }

    /// Returns whether what is said from a verbosity on is said.
    pub fn shows(&self, verbosity: u8) -> bool {
        self.verbosity >= verbosity
    }

    /// Prints lines as they are.
    pub fn print(&self, text: &str) {
        self.progress.suspend(|| {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        });
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        self.progress.finish_and_clear();
    }

    /// Prints and logs a message that has a number, if it matters enough.
    pub fn log(&self, message: &Message) {
        let &Message { level, code, text, .. } = message;
        let threshold = match level {
            Level::Error => 0,
            Level::Warning => 2,
            Level::Notice => 3,
            Level::Info => 5,
            Level::Debug => 9,
        };
        if self.verbosity < threshold {
            return;
        }
        log::write(message, "");
        if text.is_empty() {
            return;
        }
        if self.in_background.load(Ordering::Relaxed) {
            return to_system_log(level, text);
        }
        // Whoever closed the output does not want it; nothing can be said about that either.
        // What a restore could not deliver stands beside the error that sums it up.
        let is_failure = level == Level::Error
            || level == Level::Warning && [CANNOT_RESTORE, SKIPPED].contains(&code);
        self.progress.suspend(|| match self.quiet_stdout || is_failure {
            true => drop(writeln!(std::io::stderr(), "{}{text}", stamp(level))),
            false => drop(writeln!(std::io::stdout(), "{}{text}", stamp(level))),
        });
    }
}

impl Monitor for Report {
    fn is_interrupted(&self) -> bool {
        failure::is_interrupted()
    }

    fn message(&self, level: Level, text: &str) {
        self.log(&Message { level, code: 1, words: "", text });
    }

    fn event(&self, event: &Event) {
        let Told { level, code, words, text } = event.into();
        self.log(&Message { level, code, words: &words, text: &text });
    }

    fn progress(&self, done: u64, total: u64) {
        if let Some(way) = &mut *self.lock_way() {
            if let Some(step) = way.at(done) {
                self.step(&step);
            }
            return;
        }
        self.progress.set_length(total);
        self.progress.set_position(done);
    }
}

fn to_system_log(level: Level, text: &str) {
    let priority = match level {
        Level::Error => libc::LOG_ERR,
        Level::Warning => libc::LOG_WARNING,
        Level::Notice => libc::LOG_NOTICE,
        Level::Info => libc::LOG_INFO,
        Level::Debug => libc::LOG_DEBUG,
    };
    let Ok(text) = std::ffi::CString::new(text.replace('\0', "\\0")) else { return };
    // SAFETY: both strings end in NUL, and the format takes just one string.
    unsafe { libc::syslog(libc::LOG_DAEMON | priority, c"dupfs: %s".as_ptr(), text.as_ptr()) };
}
