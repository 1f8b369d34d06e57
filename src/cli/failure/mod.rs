//! How the program ends when it fails: exit code, hint, and the words that other programs know.
//!
//! | file | what it holds |
//! |---|---|
//! | `exit_code` | the table of exit codes |
//! | `own` | [`Failure`]: what the program itself fails by |
//! | `known` | which error of the library an error is: the only place that asks for its type |
//! | `decisions` | what follows from each variant: one exhaustive match for each type |
//! | `summary` | the same for an error with all its causes |
//! | `quoted` | names, as duplicity writes them for programs |
//! | `interrupt` | what becomes of a signal |

mod decisions;
mod exit_code;
mod interrupt;
mod known;
mod own;
mod quoted;
mod summary;

pub use exit_code::{EXCEPTION, HELP};
pub use interrupt::{
    goes_on_when_run_again, is_interrupted, keep_interrupts, keeping_interrupts, on_interrupt,
};
pub use own::Failure;
pub use quoted::quoted;
pub use summary::{code, hint, is_closed_pipe, is_reported, of_source, own, searched, text, words};
