//! `verify`: reads a backup as a restore does, and says what is damaged, or differs from a folder.
//!
//! The last line is that of duplicity 0.8.22, with its count of paths: those of the backup, of the
//! folder, or of both, whether they are looked at or not. The line before says what was really
//! done. A run that finds damage has no such last line, so that whoever searches for it never finds
//! `0 differences` of a backup that cannot be restored.

use crate::cli::arguments::folders::expand;
use crate::cli::arguments::values::entry_path;
use crate::cli::arguments::{Common, selection};
use crate::cli::failure::Failure;
use crate::cli::output::Report;
use crate::cli::{open, traces};
use clap::Args;
use dupfs::contents::{self, Contents};
use dupfs::model::EntryPath;
use dupfs::source::{self, Base, SourceOptions, SourceTree};
use dupfs::verify::{Summary, VerifyOptions, verify};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of decoded volumes that are kept while files are compared with their signatures.
const CACHE: usize = 32 << 20;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub url: OsString,
    /// The folder that was backed up, or the counterpart of --path-to-restore
    pub directory: PathBuf,
}

/// Verifies, and fails if something is damaged or differs.
pub fn run(arguments: &VerifyArgs, common: &Common) -> anyhow::Result<()> {
    let report = Arc::new(Report::new(common.verbosity, true));
    let path = common.path_to_restore.as_ref().map_or(Ok(EntryPath::root()), entry_path)?;
    let directory = expand(&arguments.directory);
    let source =
        SourceTree::open(&directory, &SourceOptions { copy_links: common.writing.copy_links })
            .map_err(|error| match error {
                source::Error::Missing(missing) => Failure::NoVerifyDirectory(missing).into(),
                error => anyhow::Error::from(error),
            })?;
    let now = common.now();
    let selection =
        selection::compile(&common.writing, Base::Source(source.name()), now, report.as_ref())?;
    let opened = open::open(&arguments.url, common, report.clone())?;
    let traces =
        traces::find(source.name(), &opened.url, common, selection.as_deref(), report.as_ref());
    let source = source.leaving_out(traces);
    opened.print_head();
    let snapshot = opened.snapshot_with_manifests(common)?;
    if common.writing.dry_run {
        report.required(&contents::required_volumes(&opened.backups.sets, &snapshot, &path)?);
        return Ok(());
    }
    opened.backups.check_keys(&snapshot)?;
    let proves = common.reading.against_signatures;
    let contents = proves.then(|| {
        Arc::new(Contents::new(opened.backups.sets.clone(), opened.backups.codec.clone(), CACHE))
    });
    let options =
        VerifyOptions { path, source, selection, compares: common.reading.compare_data, contents };
    let result =
        verify(&opened.backups.sets, &snapshot, &common.accounts(), report.as_ref(), &options);
    report.finish();
    let summary = result?;
    report.notice(&operations(&summary, &options, &directory.display().to_string()));
    if let Some(cause) = summary.cause {
        let Summary { damaged, unread, files, differences, .. } = summary;
        return Err(Failure::NotVerified { damaged, unread, files, differences, cause }.into());
    }
    if proves && summary.proved < summary.files {
        let Summary { files, proved, differences, .. } = summary;
        return Err(Failure::NotProved { missing: files - proved, files, differences }.into());
    }
    report.notice(&last_line(&summary));
    if summary.differences > 0 { Err(Failure::Differences.into()) } else { Ok(()) }
}

/// Says what was really checked.
fn operations(summary: &Summary, options: &VerifyOptions, directory: &str) -> String {
    let Summary { volumes, files, damaged, unread, proved, .. } = summary;
    let whole = files - damaged - unread;
    let proof = match (&options.contents, proved) {
        (None, _) => String::new(),
        (Some(_), 1) => ", 1 of which matches its signature".into(),
        (Some(_), _) => format!(", {proved} of which match their signatures"),
    };
    let compared = match options.compares {
        true => format!("they were compared with '{directory}'"),
        false => format!("nothing was compared with '{directory}', as --compare-data does"),
    };
    let (of_volumes, of_files) = (plural(*volumes), plural(whole));
    format!(
        "Checked the hashes of {volumes} volume{of_volumes}, and put {whole} file{of_files} together{proof}; {compared}."
    )
}

fn last_line(summary: &Summary) -> String {
    let Summary { paths, differences, .. } = summary;
    format!(
        "Verify complete: {paths} file{} compared, {differences} difference{} found.",
        plural(*paths),
        plural(*differences)
    )
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
