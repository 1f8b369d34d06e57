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

/// What happened, for people and for programs that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// How much it matters.
    pub level: Level,
    /// duplicity's number for it within its level; 1 if it has none of its own.
    pub code: u8,
    /// What it is about, for programs: words between blanks, paths as [`quoted`].
    pub words: &'a str,
    /// What people read; nothing if it is for programs alone.
    pub text: &'a str,
}

/// duplicity's numbers for what the library tells, beside 1.
///
/// Source: duplicity 0.8.22 and 3.2.1, tried with --log-fd.
pub mod code {
    /// Info: so much of the work is done, of so much if that is known.
    pub const PROGRESS: u8 = 2;
    /// Info: a path is new in this backup.
    pub const ADDED: u8 = 4;
    /// Info: a path has changed.
    pub const CHANGED: u8 = 5;
    /// Info: a path is gone.
    pub const DELETED: u8 = 6;
    /// Info: a path is restored.
    pub const RESTORED: u8 = 7;
    /// Info: a volume is ready, and is stored now.
    pub const STORING: u8 = 11;
    /// Info: it is stored.
    pub const STORED: u8 = 13;
    /// Info: a socket is left out.
    pub const SOCKET: u8 = 15;
    /// Warning: nothing can be learnt about a path, and it is not in this backup.
    pub const CANNOT_STAT: u8 = 9;
    /// Warning: a path cannot be read, and is not in this backup.
    pub const CANNOT_READ: u8 = 10;
    /// Warning: a path cannot be restored.
    pub const CANNOT_RESTORE: u8 = 12;
    /// Warning: a path is not tried, since the directory for it could not be made.
    pub const SKIPPED: u8 = 13;
}

/// Returns a path or a name between single quotes, with what is not plain ASCII escaped as
/// duplicity does: code points as `\xe9`, `\u2026` or `\U0001f600`, bytes that are no UTF-8 as the
/// lone surrogates `\udc80` to `\udcff`.
///
/// Source: duplicity 0.8.22 and 3.2.1, tried.
pub fn quoted(name: &[u8]) -> String {
    let mut quoted = String::from("'");
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            quoted += &match (character, u32::from(character)) {
                ('\\', _) => "\\\\".to_string(),
                ('\n', _) => "\\n".into(),
                ('\t', _) => "\\t".into(),
                ('\r', _) => "\\r".into(),
                ('\'', _) => "\\x27".into(),
                (' '..='~', _) => character.into(),
                (_, number @ ..=0xff) => format!("\\x{number:02x}"),
                (_, number @ ..=0xffff) => format!("\\u{number:04x}"),
                (_, number) => format!("\\U{number:08x}"),
            };
        }
        chunk.invalid().iter().for_each(|byte| quoted += &format!("\\udc{byte:02x}"));
    }
    quoted + "'"
}

/// Receives messages and counts from any thread. The library never prints: the program does, behind
/// this trait.
pub trait Monitor: Send + Sync {
    /// Takes one message: lower case, without full stop, perhaps of several lines.
    fn message(&self, level: Level, text: &str);

    /// Returns whether the work is to end as soon as it can be left in order.
    fn is_interrupted(&self) -> bool {
        false
    }

    /// Takes a message that programs know by a number.
    fn event(&self, event: &Event) {
        if !event.text.is_empty() {
            self.message(event.level, event.text);
        }
    }

    /// Reports that a long task has got to `done` of `total`, both in bytes.
    fn progress(&self, _done: u64, _total: u64) {}
}

/// A monitor that hears nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn message(&self, _level: Level, _text: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two are lines of both versions of duplicity; the others are what Python's
    /// `unicode_escape` makes of such names.
    #[test]
    fn names_are_quoted_as_duplicity_does() {
        for (name, expected) in [
            (&b"docs/sub/b 'q' \xc3\xa9"[..], r"'docs/sub/b \x27q\x27 \xe9'"),
            (b".", "'.'"),
            ("a…\\\n\u{1f600}\u{7f}".as_bytes(), r"'a\u2026\\\n\U0001f600\x7f'"),
            (b"\xff", r"'\udcff'"),
        ] {
            assert_eq!(quoted(name), expected);
        }
    }
}
