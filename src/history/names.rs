//! Names of the snapshot folders, and `latest`.

use crate::catalog::{Chain, Tops};
use crate::model::{BackupTime, EntryKind, EntryPath};
use crate::sets::Sets;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local};
use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// The name of the link to the newest snapshot.
pub const LATEST: &[u8] = b"latest";

/// How the time of a snapshot becomes the name of its folder: strftime fields.
#[derive(Debug, Clone)]
pub struct TimeTemplate(String);

/// Sorts as the times do within one zone; without colons, at which rsync, scp, `docker -v`,
/// overlayfs and Samba split or refuse names.
const DEFAULT: &str = "%Y-%m-%dT%H.%M.%S%z";

/// What [`TimeTemplate::parse`] calls RFC 3339, and its fields.
const RFC3339: (&str, &str) = ("rfc3339", "%Y-%m-%dT%H:%M:%S%:z");

impl Default for TimeTemplate {
    fn default() -> Self {
        Self(DEFAULT.to_string())
    }
}

/// Why a template cannot name folders.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "'{0}' is no template for folder names: use strftime fields such as %Y-%m-%d_%H-%M-%S, and no '/', or rfc3339"
)]
pub struct InvalidTemplate(String);

impl TimeTemplate {
    /// Parses strftime fields, or the word `rfc3339`.
    ///
    /// # Errors
    /// [`InvalidTemplate`] for an unknown field, or one that does not make a name.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let template = Self(if text == RFC3339.0 { RFC3339.1 } else { text }.to_string());
        let is_known = StrftimeItems::new(text).all(|item| !matches!(item, Item::Error));
        match is_known && EntryPath::is_name(template.name(BackupTime::from_seconds(0)).as_bytes())
        {
            true => Ok(template),
            false => Err(InvalidTemplate(text.to_string())),
        }
    }

    /// Returns the name for a time, in the local zone.
    fn name(&self, time: BackupTime) -> String {
        let local: DateTime<Local> = time.utc().into();
        let mut name = String::new();
        // Fails only for unknown fields, which were refused.
        write!(name, "{}", local.format(&self.0)).map_or_else(|_| time.to_string(), |()| name)
    }
}

/// One folder of the root.
#[derive(Clone)]
pub struct SnapshotName {
    /// Its name.
    pub name: Vec<u8>,
    /// Its chain.
    pub chain: Arc<Chain>,
    /// Position of its set there.
    pub position: u32,
    /// End of its set.
    pub time: BackupTime,
}

/// The folders of the root, by name.
#[derive(Default)]
pub struct Names {
    /// In order of their names.
    pub sorted: Vec<SnapshotName>,
    /// Index of the newest.
    pub latest: Option<usize>,
    /// What stands at the tops of chains, once somebody has listed the root.
    tops: OnceLock<Tops>,
}

impl Names {
    /// Names the first sets of each chain, as many as given. Of several that would get one name,
    /// the later ones get `.2`, `.3` …
    pub fn new(chains: &[(Arc<Chain>, usize)], template: &TimeTemplate) -> Self {
        let mut sorted: Vec<SnapshotName> = Vec::new();
        for (chain, usable) in chains {
            sorted.extend(chain.sets.iter().take(*usable).enumerate().map(|(position, set)| {
                SnapshotName {
                    name: template.name(set.end()).into_bytes(),
                    chain: chain.clone(),
                    position: position as u32,
                    time: set.end(),
                }
            }));
        }
        sorted.sort_by_key(|snapshot| snapshot.time);
        let mut taken = HashSet::from([LATEST.to_vec()]);
        for snapshot in &mut sorted {
            let plain = snapshot.name.clone();
            for number in 2.. {
                if !taken.contains(&snapshot.name) {
                    break;
                }
                snapshot.name = plain.clone();
                snapshot.name.extend(format!(".{number}").bytes());
            }
            taken.insert(snapshot.name.clone());
        }
        let newest = sorted.last().map(|snapshot| snapshot.name.clone());
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let latest =
            newest.and_then(|newest| sorted.iter().position(|snapshot| snapshot.name == newest));
        Self { sorted, latest, tops: OnceLock::new() }
    }

    /// Returns the folder of a name.
    pub fn get(&self, name: &[u8]) -> Option<&SnapshotName> {
        self.sorted
            .binary_search_by(|snapshot| snapshot.name.as_slice().cmp(name))
            .ok()
            .map(|index| &self.sorted[index])
    }

    /// Returns what a snapshot's top is: a directory, but for the backup of a single file. Taken
    /// for a directory as long as the catalog does not know.
    pub fn top(&self, snapshot: &SnapshotName, sets: &Sets) -> EntryKind {
        let tops = self.tops.get_or_init(|| sets.catalog().tops().unwrap_or_default());
        let of_chain = tops.get(&snapshot.chain.number()).map(Vec::as_slice).unwrap_or_default();
        let top = of_chain.iter().rfind(|(position, _)| *position <= snapshot.position);
        top.map_or(EntryKind::Directory, |(_, kind)| kind.clone())
    }

    /// Returns the newest snapshot.
    pub fn newest(&self) -> Option<&SnapshotName> {
        self.latest.map(|index| &self.sorted[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_make_names_or_are_refused() {
        for good in ["%Y-%m-%d", "backup %H%M%S", "rfc3339"] {
            assert!(TimeTemplate::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "%Y/%m", "%Q", ".", "%"] {
            assert!(TimeTemplate::parse(bad).is_err(), "{bad}");
        }
    }
}
