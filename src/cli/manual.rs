//! `completions` and `man`: what shells and readers get, made from the table that the parser is
//! made of.

use super::args::{CompletionsArgs, ManArgs, command};
use super::exit::Failure;
use super::report::Output;
use std::io::Write;

/// Prints a script that completes command lines in a shell.
pub fn completions(arguments: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "dupfs", &mut script);
    let mut out = Output::new();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Prints the manual page of the program, or of one command.
pub fn man(arguments: &ManArgs) -> anyhow::Result<()> {
    let mut table = command();
    table.build();
    let page = match &arguments.command {
        None => table,
        Some(name) => {
            let found = table.find_subcommand(name).cloned();
            found.ok_or_else(|| Failure::CommandLine(format!("there is no command '{name}'")))?
        }
    };
    let mut out = Output::new();
    clap_mangen::Man::new(page).render(&mut out)?;
    Ok(out.flush()?)
}
