//! `completions` and `man`: what shells and readers get, made from the table that the parser is
//! made of.

use crate::cli::failure::Failure;
use crate::cli::output::Output;
use clap::{Args, Command};
use std::io::Write;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command
    pub command: Option<String>,
}

/// Prints a script that completes command lines in a shell.
pub fn completions(arguments: &CompletionsArgs, mut table: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut table, "dupfs", &mut script);
    let mut out = Output::new();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Prints the manual page of the program, or of one command.
pub fn man(arguments: &ManArgs, mut table: Command) -> anyhow::Result<()> {
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
