//! The selection options: in the order of the command line, and what they mean.

use super::Writing;
use super::folders::expand;
use crate::cli::failure::Failure;
use dupfs::model::BackupTime;
use dupfs::monitor::Monitor;
use dupfs::source::{Base, Rule, Selection, SelectionOptions};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

/// The options whose order counts.
const SELECTION: &[&str] = &[
    "exclude",
    "include",
    "exclude_filelist",
    "include_filelist",
    "exclude_globbing_filelist",
    "include_globbing_filelist",
    "exclude_regexp",
    "include_regexp",
    "exclude_if_present",
    "exclude_older_than",
    "exclude_device_files",
    "exclude_other_filesystems",
    "files_from",
    "filter_globbing",
    "filter_literal",
    "filter_regexp",
    "filter_ignorecase",
    "filter_strictcase",
];

/// Returns the selection options in the order of the command line.
pub fn in_order(matches: &clap::ArgMatches) -> Vec<(&'static str, OsString)> {
    let matches = matches.subcommand().map_or(matches, |(_, below)| below);
    let mut found = Vec::new();
    for &name in SELECTION {
        let places = matches.indices_of(name).into_iter().flatten();
        let values = matches.get_many::<OsString>(name).into_iter().flatten();
        found.extend(places.zip(values).map(|(place, value)| (place, name, value.clone())));
    }
    found.sort_by_key(|(place, ..)| *place);
    found.into_iter().map(|(_, name, value)| (name, value)).collect()
}

/// Compiles the selection options.
///
/// # Errors
/// Whatever the options, or the lists that they name, fail by.
pub fn compile(
    writing: &Writing,
    base: Base,
    now: BackupTime,
    monitor: &dyn Monitor,
) -> anyhow::Result<Option<Arc<Selection>>> {
    if writing.selection.is_empty() {
        return Ok(None);
    }
    let rule = |(name, value): &(&'static str, OsString)| -> anyhow::Result<Rule> {
        let path = || expand(Path::new(value));
        Ok(match *name {
            "exclude" => Rule::Exclude(value.clone()),
            "include" => Rule::Include(value.clone()),
            "exclude_filelist" => Rule::ExcludeFilelist(path()),
            "include_filelist" => Rule::IncludeFilelist(path()),
            "exclude_globbing_filelist" => Rule::ExcludeGlobbingFilelist(path()),
            "include_globbing_filelist" => Rule::IncludeGlobbingFilelist(path()),
            "exclude_regexp" => Rule::ExcludeRegexp(value.clone()),
            "include_regexp" => Rule::IncludeRegexp(value.clone()),
            "exclude_if_present" => Rule::ExcludeIfPresent(value.clone()),
            "exclude_older_than" => {
                let time = BackupTime::parse_expression(&value.to_string_lossy(), now);
                Rule::ExcludeOlderThan(
                    time.map_err(|error| Failure::CommandLine(error.to_string()))?,
                )
            }
            "exclude_device_files" => Rule::ExcludeDeviceFiles,
            "exclude_other_filesystems" => Rule::ExcludeOtherFilesystems,
            "files_from" => Rule::FilesFrom(path()),
            "filter_globbing" => Rule::FilterGlobbing,
            "filter_literal" => Rule::FilterLiteral,
            "filter_regexp" => Rule::FilterRegexp,
            "filter_ignorecase" => Rule::FilterIgnoreCase,
            _ => Rule::FilterStrictCase,
        })
    };
    let rules = writing.selection.iter().map(rule).collect::<anyhow::Result<_>>()?;
    let options = SelectionOptions { rules, null_separator: writing.null_separator };
    Ok(Some(Arc::new(Selection::new(base, &options, monitor)?)))
}
