//! `restore`: a snapshot, or a part of it, into a directory.

use super::args::{Common, RestoreArgs};
use super::exit::Failure;
use super::open;
use super::report::Report;
use dupfs::model::EntryPath;
use dupfs::restore::{RestoreOptions, restore};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Restores, and fails if not everything could be delivered.
pub fn run(arguments: &RestoreArgs, common: &Common) -> anyhow::Result<()> {
    let path = match &common.path_to_restore {
        // Slashes at both ends are forgiven, as 0.8 does.
        Some(path) => EntryPath::parse(trim_slashes(path.as_bytes())).map_err(|error| Failure::CommandLine(error.to_string()))?,
        None => EntryPath::root(),
    };
    let report = Arc::new(Report::new(common.verbosity, true));
    let opened = open::open(&arguments.url, common, report.clone())?;
    opened.report_unusable();
    opened.print_head();
    let snapshot = opened.snapshot_with_manifests(common)?;
    let options = RestoreOptions { path, force: common.force, keep_own_ownership: common.no_restore_ownership };
    let accounts = open::accounts(common);
    let result = restore(&opened.catalog, &snapshot, &arguments.target, &accounts, report.as_ref(), &options);
    report.finish();
    let summary = result?;
    match summary.failed {
        0 => Ok(()),
        failed => Err(Failure::Incomplete(failed, summary.delivered + failed).into()),
    }
}

fn trim_slashes(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}
