//! `collection-status`: which backups there are, and what is left over.

use super::changes;
use crate::cli::arguments::folders::archive_directory;
use crate::cli::arguments::{Common, names};
use crate::cli::open;
use crate::cli::output::status::{Status, oddities};
use crate::cli::output::{Output, Report};
use clap::Args;
use dupfs::collection::scan;
use dupfs::monitor::Monitor;
use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;

/// Arguments of `collection-status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
    /// Print one JSON object: all sets, or what --file-changed or --show-changes-in-set asks for
    #[arg(long)]
    pub json: bool,
}

/// Prints the chains, with their sets, and how many sets are in none.
pub fn run(arguments: &StatusArgs, common: &Common) -> anyhow::Result<()> {
    if changes::is_asked(common) {
        return changes::run(&arguments.url, arguments.json, common);
    }
    let report = Arc::new(Report::new(common.verbosity, false).leaving_stdout(arguments.json));
    let (url, storage) = open::reach(&arguments.url, common, report.clone())?;
    let (prefixes, archive) = (names::prefixes(common), archive_directory(&arguments.url, common));
    let archived = open::archived_files(archive.as_deref());
    let collection = scan(
        &open::list_if_there(&url, storage.as_ref(), &archived, &prefixes, &report)?,
        &prefixes,
    );
    let status = Status::new(&collection, scan(&archived, &prefixes));
    let text = if arguments.json {
        format!("{}\n", status.json(archive.as_deref()))
    } else {
        status.warn(report.as_ref());
        oddities(&collection).for_each(|(level, text)| report.message(level, &text));
        status.print_head(archive.as_deref(), &report);
        status.describe(archive.as_deref())
    };
    let mut out = Output::new();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
