//! The archive directory becomes what duplicity would make of it, in duplicity's words.

use super::output::Report;
use dupfs::codec::Codec;
use dupfs::collection::{ArchiveDirectory, ArchiveError, SyncPlan};
use dupfs::storage::Storage;
use std::sync::Arc;

/// Does what has to be done for the archive directory to be what duplicity would make of it.
pub fn synchronize(
    plan: &SyncPlan,
    archive: &ArchiveDirectory,
    (storage, codec): (&Arc<dyn Storage>, &Codec),
    report: &Report,
) -> Result<(), ArchiveError> {
    if *plan == SyncPlan::default() {
        report.notice("Local and Remote metadata are synchronized, no sync needed.");
        return Ok(());
    }
    report.notice("Synchronizing remote metadata to local cache...");
    archive.synchronize(plan, storage, codec, report)
}

/// Reports what would have to be done.
pub fn report_plan(plan: &SyncPlan, report: &Report) {
    if *plan == SyncPlan::default() {
        report.notice("Local and Remote metadata are synchronized, no sync needed.");
    }
    if !plan.copy.is_empty() {
        report.notice("Sync would copy the following from remote to local:");
        plan.copy.iter().for_each(|copy| report.notice(&copy.listed.name));
    }
    if !plan.delete.is_empty() {
        report.notice("Sync would remove the following spurious local files:");
        plan.delete.iter().for_each(|name| report.notice(name));
    }
}
