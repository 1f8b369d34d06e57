//! How stored files are named: prefixes, and the form of new names.

use super::{Common, Writing};
use dupfs::format::{NameForm, Prefixes};

/// Returns how names begin.
pub fn prefixes(common: &Common) -> Prefixes {
    Prefixes {
        global: common.file_prefix.clone(),
        archive: common.file_prefix_archive.clone(),
        manifest: common.file_prefix_manifest.clone(),
        signature: common.file_prefix_signature.clone(),
        jsonstat: common.file_prefix_jsonstat.clone(),
    }
}

/// Returns how new files are named.
pub fn form(writing: &Writing) -> NameForm {
    match (writing.short_filenames, writing.old_filenames) {
        (true, _) => NameForm::Short,
        (_, true) => NameForm::Old { separator: writing.time_separator },
        _ => NameForm::Long,
    }
}
