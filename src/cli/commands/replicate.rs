//! `replicate`: the sets of one collection that another lacks, with the keys that are asked for.

use crate::cli::arguments::values::time;
use crate::cli::arguments::{Common, decoding, encoding, names};
use crate::cli::failure::{Failure, goes_on_when_run_again, keeping_interrupts};
use crate::cli::open;
use crate::cli::output::Report;
use crate::cli::output::status::last_full;
use clap::Args;
use dupfs::codec::{self, Codec};
use dupfs::collection::{LocalCopy, scan};
use dupfs::format::Encoding;
use dupfs::monitor::{Level, Monitor};
use dupfs::replicate::{Outcome, ReplicateOptions, Source, Target, replicate};
use dupfs::storage::ErrorKind;
use std::ffi::OsString;
use std::sync::Arc;

/// Arguments of `replicate`.
#[derive(Debug, Args)]
pub struct ReplicateArgs {
    /// Where the backups are: file:///folder, sftp://user@host/folder, or a plain path
    pub source_url: OsString,
    /// Where they go, too: file:///folder, sftp://user@host/folder, or a plain path
    pub target_url: OsString,
}

/// Replicates, and fails if something that there is could not be.
pub fn run(arguments: &ReplicateArgs, common: &Common) -> anyhow::Result<()> {
    goes_on_when_run_again();
    let report = Arc::new(Report::new(common.verbosity, false));
    let (now, dry_run) = (common.now(), common.writing.dry_run);
    let before = common.time.as_deref().map(|text| time(text, now)).transpose()?;
    let source = open::find(&arguments.source_url, common, report.clone())?;
    let (target_url, target_storage) = open::reach(&arguments.target_url, common, report.clone())?;
    if source.url.is_same_place(&target_url) {
        return Err(Failure::CommandLine("source and target are the same place".into()).into());
    }
    let archive = open::lock(&arguments.target_url, common)?;
    if !dry_run {
        target_storage.prepare()?;
    }
    let listing = match target_storage.list() {
        Err(error) if dry_run && error.kind == ErrorKind::NotFound => Vec::new(),
        listing => listing?,
    };
    let prefixes = names::prefixes(common);
    let collection = scan(&listing, &prefixes);
    report.notice(&last_full(&collection));
    if source.collection.chains.is_empty() {
        report.notice("No old backup sets found.");
        return Ok(());
    }
    let options = codec::Options { sign_key: None, ..decoding::codec_options(common)? };
    let codec = Arc::new(Codec::new(options.clone()));
    let encode = encoding::options(common, now, report.as_ref())?;
    let signed = encode.sign_key.clone().filter(|_| encode.encoding == Encoding::OpenPgp);
    let signed = signed.map(|key| Codec::new(codec::Options { sign_key: Some(key), ..options }));
    let (encoder, manifest_encoder) = encoding::encoders(&codec, common, &encode)?;
    let local_copy = source
        .archive
        .as_deref()
        .map(|directory| LocalCopy::open(directory, &prefixes))
        .transpose()?;
    let outcome = keeping_interrupts(|| {
        replicate(
            &Source {
                storage: source.storage,
                collection: &source.collection,
                local_copy,
                codec,
                signed,
            },
            &Target {
                storage: target_storage,
                listing: &listing,
                collection: &collection,
                archive: &archive,
                encoder,
                manifest_encoder,
            },
            &ReplicateOptions { before, names: names::form(&common.writing), prefixes, dry_run },
            report.as_ref(),
        )
    })?;
    report_outcome(
        &outcome,
        source.collection.orphaned.len() + source.collection.incomplete.len(),
        &report,
    );
    match outcome.cause {
        None => Ok(()),
        Some(cause) => {
            Err(Failure::NotReplicated { sets: outcome.failed, cause: Arc::new(cause) }.into())
        }
    }
}

/// Says what was left out on purpose, and at verbosity info what was there.
fn report_outcome(outcome: &Outcome, loose: usize, report: &Report) {
    let Outcome { replicated, there, .. } = outcome;
    report
        .message(Level::Info, &format!("{replicated} sets replicated, {there} were there before"));
    if loose > 0 {
        let text = format!(
            "{loose} incomplete or orphaned sets of the source are not replicated, since nothing can be restored from them"
        );
        report.message(Level::Warning, &text);
    }
}
