//! What the program ends with when it fails: a text with a hint on stderr, and a message in the
//! machine log.

use super::log::{self, Message};
use super::stamp::stamp;
use crate::cli::arguments::grammar::is_duplicity;
use crate::cli::failure::{self, Failure};
use dupfs::monitor::Level;

/// Reports to programs and people what the program ends with.
pub fn fail(error: &anyhow::Error) {
    let text = spoken(error);
    let text = match failure::hint(error) {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text,
    };
    let told = [Some(text.clone()), failure::searched(error)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n");
    log::write(
        &Message {
            level: Level::Error,
            code: failure::code(error),
            words: &failure::words(error),
            text: &told,
        },
        "",
    );
    eprintln!("{}{text}", stamp(Level::Error));
}

/// Returns the text of an error; of a bad command line in the words of the program as which we were
/// called.
fn spoken(error: &anyhow::Error) -> String {
    use Failure::{BadOption, CommandLine, Usage};
    let text = failure::text(error);
    match (is_duplicity(), failure::own(error)) {
        (true, Some(CommandLine(_))) => {
            format!("Command line error: {text}\nEnter 'duplicity --help' for help screen.")
        }
        (true, Some(BadOption(_))) => format!("{USAGE}\nduplicity: error: {text}"),
        (true, Some(Usage(_))) => {
            let first = text.lines().next().unwrap_or_default();
            format!("{USAGE}\nduplicity: error: {}", first.strip_prefix("error: ").unwrap_or(first))
        }
        (false, Some(BadOption(_) | CommandLine(_))) => {
            format!("error: {text}\n\nFor more information, try '--help'.")
        }
        _ => text,
    }
}

/// What a bad option is answered by first, as duplicity.
const USAGE: &str = "Usage: duplicity [ACTION] [OPTIONS] ARGUMENTS, as 'duplicity --help' tells";
