//! What an error comes to as a whole: what the first of its causes decides that decides it at all.

use super::decisions::{Decision, causes, decide};
use super::exit_code::EXCEPTION;
use super::known::Known;
use super::own::Failure;
use dupfs::source;
use std::io::ErrorKind;

/// Returns the exit code for an error.
pub fn code(error: &anyhow::Error) -> u8 {
    decisions(error).find_map(|decision| decision.code).unwrap_or(EXCEPTION)
}

/// Returns what is to be tried, if anything is known: the last line, behind "hint: ".
pub fn hint(error: &anyhow::Error) -> Option<&'static str> {
    decisions(error).find_map(|decision| decision.hint)
}

/// Returns what programs that follow the log read behind an error's code.
pub fn words(error: &anyhow::Error) -> String {
    decisions(error).find_map(|decision| decision.words).unwrap_or_else(|| match code(error) {
        EXCEPTION => "Exception".into(),
        31 => "GPGError".into(),
        _ => String::new(),
    })
}

/// Returns what front-ends search for in an error's text.
pub fn searched(error: &anyhow::Error) -> Option<String> {
    decisions(error).find_map(|decision| decision.searched)
}

/// Returns the text of an error, and the causes that it does not state itself.
pub fn text(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// Returns the failure of the program's own that an error is, if it is one.
pub fn own(error: &anyhow::Error) -> Option<&Failure> {
    known(error).find_map(|known| match known {
        Known::Own(failure) => Some(failure),
        _ => None,
    })
}

/// Returns the error of the source tree or of the selection that an error is, if it is one.
pub fn of_source(error: &anyhow::Error) -> Option<&source::Error> {
    known(error).find_map(|known| match known {
        Known::Source(error) => Some(error),
        _ => None,
    })
}

/// Returns whether an error only sums up what has been reported already.
pub fn is_reported(error: &anyhow::Error) -> bool {
    matches!(own(error), Some(Failure::Differences))
}

/// Returns whether an error only means that nobody reads our output any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = known(error).find_map(|known| match known {
        Known::Io(error) => Some(error),
        _ => None,
    });
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn decisions(error: &anyhow::Error) -> impl Iterator<Item = Decision<'_>> {
    causes(error.as_ref()).map(decide)
}

fn known(error: &anyhow::Error) -> impl Iterator<Item = Known<'_>> {
    causes(error.as_ref()).filter_map(Known::of)
}
