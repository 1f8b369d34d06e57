//! Whether a selection takes a folder that is not met by a walk.

use super::selection::{Candidate, CandidateKind, Selection, Verdict};
use crate::model::EntryPath;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Selection {
    /// Returns whether this takes a folder inside the root, and each on the way to it.
    ///
    /// A mount is not asked for its device: it may never answer.
    pub fn takes_folder(&self, root: &Path, inside: &Path, is_mount: bool) -> bool {
        let device = |path: &Path| path.metadata().map(|data| data.dev()).ok();
        let mut on_the_way: Vec<_> =
            inside.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        on_the_way.reverse();
        on_the_way.into_iter().all(|folder| {
            let full = root.join(folder);
            let Ok(path) = EntryPath::parse(folder.as_os_str().as_bytes()) else { return false };
            let holds = |name: &[u8]| {
                !(is_mount && folder == inside) && full.join(OsStr::from_bytes(name)).exists()
            };
            let is_foreign = is_mount && folder == inside || device(&full) != device(root);
            let candidate = Candidate {
                path: &path,
                kind: CandidateKind::Directory,
                mtime: 0,
                is_foreign,
                holds: &holds,
            };
            self.decide(&candidate) != Verdict::Exclude
        })
    }
}
