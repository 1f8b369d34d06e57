//! [`BackupSet`]: the files that one session left.

use crate::format::{Content, Encoding, Session};
use crate::model::BackupTime;
use crate::storage::Listed;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The files that one session left, by their names alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSet {
    /// Kind and times.
    pub session: Session,
    /// The manifest; written last, so a set without it is incomplete.
    pub manifest: Option<SetFile>,
    /// The signature file; no restore needs it.
    pub signatures: Option<SetFile>,
    /// Statistics, which versions 3.x write if asked to.
    pub statistics: Option<SetFile>,
    /// The volumes by number. Gaps show only against the manifest.
    pub volumes: BTreeMap<u32, SetFile>,
    /// What is odd about the set, in no particular order.
    pub problems: Vec<Problem>,
}

/// A stored file of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetFile {
    /// What the listing said.
    pub listed: Listed,
    /// How it is stored. Each file of a chain may be stored differently.
    pub encoding: Encoding,
}

/// A signature file and the session that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureFile {
    /// Kind and times.
    pub session: Session,
    /// The file.
    pub file: SetFile,
}

/// What can be odd about a set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There are several files where one is expected, mostly in two encodings. duplicity aborts
    /// over such volumes.
    #[error("'{}' is ignored because of '{kept}'", ignored.name)]
    Duplicate {
        /// Name of the file that counts.
        kept: String,
        /// The file that does not.
        ignored: Listed,
    },
    /// No complete set ends where this one starts.
    #[error("the set that it builds on is missing")]
    NoBase,
    /// A later set builds on the same one, and has taken its place in the chain.
    #[error("a later set, of {}, has the same base and takes its place", by.end())]
    Replaced {
        /// The later set.
        by: Session,
    },
}

impl BackupSet {
    /// Sorts a session's files into a set. `files` has at least one file for each content.
    pub(super) fn new(session: Session, files: BTreeMap<Content, Vec<SetFile>>) -> Self {
        let mut set = Self {
            session,
            manifest: None,
            signatures: None,
            statistics: None,
            volumes: BTreeMap::new(),
            problems: Vec::new(),
        };
        let common = common_encoding(&files);
        for (content, candidates) in files {
            let Some(chosen) = set.choose(candidates, common) else { continue };
            match content {
                Content::Volume(number) => drop(set.volumes.insert(number, chosen)),
                Content::Manifest => set.manifest = Some(chosen),
                Content::Signatures => set.signatures = Some(chosen),
                Content::Statistics => set.statistics = Some(chosen),
            }
        }
        set
    }

    /// Returns the time that the set shows.
    pub fn end(&self) -> BackupTime {
        self.session.end()
    }

    /// Returns whether the session came to its end: the manifest is there.
    pub fn is_complete(&self) -> bool {
        self.manifest.is_some()
    }

    /// Returns whether it is an increment without a single volume: even one that changes nothing
    /// has one, so they are gone.
    pub fn is_hollow(&self) -> bool {
        !self.session.is_full() && self.volumes.is_empty()
    }

    /// Returns whether any file of the set is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.files().any(|file| file.encoding == Encoding::OpenPgp)
    }

    /// Returns the set's files: manifest, signature file, statistics, volumes by number.
    pub fn files(&self) -> impl Iterator<Item = &SetFile> {
        self.manifest
            .iter()
            .chain(&self.signatures)
            .chain(&self.statistics)
            .chain(self.volumes.values())
    }

    /// Returns the signature file with its session.
    pub fn signature_file(&self) -> Option<SignatureFile> {
        Some(SignatureFile { session: self.session, file: self.signatures.clone()? })
    }

    /// Chooses from several files for one purpose: one that is not empty, is encrypted or
    /// compressed like most volumes, and was written last, in this order; then by name. The others
    /// are noted as problems.
    fn choose(
        &mut self,
        mut candidates: Vec<SetFile>,
        common: Option<Encoding>,
    ) -> Option<SetFile> {
        candidates.sort_by_cached_key(|file| {
            let Listed { name, size, stamp } = &file.listed;
            let encrypted = common.map(|common| common == Encoding::OpenPgp);
            let fits = (
                common == Some(file.encoding),
                encrypted == Some(file.encoding == Encoding::OpenPgp),
            );
            Reverse((*size > 0, fits, *stamp, Reverse(name.clone())))
        });
        let mut candidates = candidates.into_iter();
        let chosen = candidates.next()?;
        for other in candidates {
            self.problems.push(Problem::Duplicate {
                kept: chosen.listed.name.clone(),
                ignored: other.listed,
            });
        }
        Some(chosen)
    }
}

/// Returns the encoding that most of the volumes have.
fn common_encoding(files: &BTreeMap<Content, Vec<SetFile>>) -> Option<Encoding> {
    let mut counts = BTreeMap::new();
    let volumes = files.iter().filter(|(content, _)| matches!(content, Content::Volume(_)));
    for file in volumes.flat_map(|(_, candidates)| candidates).filter(|file| file.listed.size > 0) {
        *counts.entry(file.encoding).or_insert(0usize) += 1;
    }
    counts.into_iter().max_by_key(|&(_, count)| count).map(|(encoding, _)| encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackupTime;

    fn file(name: &str, encoding: Encoding, size: u64, stamp: u64) -> SetFile {
        SetFile { listed: Listed { name: name.into(), size, stamp }, encoding }
    }

    fn set(files: Vec<(Content, SetFile)>) -> BackupSet {
        let mut by_content: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (content, file) in files {
            by_content.entry(content).or_default().push(file);
        }
        BackupSet::new(Session::Full { time: BackupTime::from_seconds(1) }, by_content)
    }

    fn name(file: Option<&SetFile>) -> &str {
        file.map_or("", |file| &file.listed.name)
    }

    #[test]
    fn the_sound_one_of_several_files_is_chosen() {
        use Encoding::*;
        let set = set(vec![
            (Content::Volume(1), file("1.gz", Gzip, 9, 0)),
            (Content::Volume(1), file("1.gpg", OpenPgp, 9, 0)),
            (Content::Volume(2), file("2.gpg", OpenPgp, 9, 0)),
            (Content::Volume(3), file("3.gpg", OpenPgp, 0, 5)),
            (Content::Volume(3), file("3", Plain, 9, 0)),
            (Content::Manifest, file("m", Plain, 9, 5)),
            (Content::Manifest, file("m.gpg", OpenPgp, 9, 0)),
            (Content::Signatures, file("s.gpg", OpenPgp, 9, 0)),
            (Content::Signatures, file("S.gpg", OpenPgp, 9, 1)),
        ]);
        assert_eq!(
            set.volumes.values().map(|file| name(Some(file))).collect::<Vec<_>>(),
            ["1.gpg", "2.gpg", "3"]
        );
        assert_eq!(
            (name(set.manifest.as_ref()), name(set.signatures.as_ref())),
            ("m.gpg", "S.gpg")
        );
        assert_eq!(set.problems.len(), 4);
        assert_eq!(set.problems[0].to_string(), "'1.gz' is ignored because of '1.gpg'");
        assert!(set.is_encrypted() && set.is_complete());
    }

    #[test]
    fn plain_manifests_go_with_compressed_volumes() {
        let set = set(vec![
            (Content::Volume(1), file("1.gz", Encoding::Gzip, 9, 0)),
            (Content::Manifest, file("m.gpg", Encoding::OpenPgp, 9, 9)),
            (Content::Manifest, file("m", Encoding::Plain, 9, 0)),
        ]);
        assert_eq!(name(set.manifest.as_ref()), "m");
        assert!(!set.is_encrypted());
    }
}
