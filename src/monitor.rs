//! [`Monitor`]: by which the library reports what does not stop it, and counts what it has done.

/// How much a message matters, in duplicity's five levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something could not be delivered.
    Error,
    /// Something is odd, but nothing is lost.
    Warning,
    /// What a user wants to read by default.
    Notice,
    /// One line per step.
    Info,
    /// For developers.
    Debug,
}

/// Receives messages and counts from any thread. The library never prints: the program does, behind this trait.
pub trait Monitor: Send + Sync {
    /// Takes one message: lower case, without full stop, perhaps of several lines.
    fn message(&self, level: Level, text: &str);

    /// Tells that a long task has got to `done` of `total`, both in bytes.
    fn progress(&self, _done: u64, _total: u64) {}
}

/// A monitor that hears nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn message(&self, _level: Level, _text: &str) {}
}
