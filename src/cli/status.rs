//! `collection-status`: which backups there are, and what is left over, in the words of duplicity 0.8.22.

use crate::args::{Common, StatusArgs};
use crate::open::{self, Found};
use crate::report::Report;
use dupfs::collection::{BackupChain, BackupSet, Collection, SignatureFile};
use dupfs::format::Session;
use dupfs::model::BackupTime;
use dupfs::monitor::{Level, Monitor};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// Prints the chains, with their sets, and how many sets are in none.
pub fn run(arguments: &StatusArgs, common: &Common) -> anyhow::Result<()> {
    let Found { collection, prefixes, archive, .. } = open::find(&arguments.url, common)?;
    let status = Status::new(&collection, open::archived(archive.as_deref(), &prefixes));
    let text = if arguments.json {
        format!("{}\n", status.json(archive.as_deref()))
    } else {
        let report = Report::new(common.verbosity, false);
        status.warnings().iter().for_each(|text| report.message(Level::Warning, text));
        open::oddities(&collection).for_each(|(level, text)| report.message(level, &text));
        report.notice(&open::last_full(&collection));
        status.text(archive.as_deref())
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A collection as duplicity sees it: with the signature files in its archive directory, too.
pub struct Status<'c> {
    collection: &'c Collection,
    /// Signature files in the archive directory that are in no chain.
    archived_orphans: Vec<SignatureFile>,
    has_signatures: bool,
    /// Position of the chain that duplicity would build further increments on.
    primary: Option<usize>,
    /// Whether the last set of that chain counts as incomplete, since it has no signature file.
    discards_last: bool,
}

impl<'c> Status<'c> {
    /// Looks at a collection, and at what duplicity's archive directory holds.
    pub fn new(collection: &'c Collection, archived: Collection) -> Self {
        let mut signatures = archived.signature_chains;
        signatures.extend(collection.signature_chains.iter().cloned());
        let end = collection.chains.last().map(BackupChain::end);
        let discards_last = !signatures.iter().any(|chain| Some(chain.end()) == end);
        let has_signatures = !signatures.is_empty();
        let last = collection.chains.last().cloned();
        let newest = Collection { chains: last.into_iter().collect(), signature_chains: signatures, ..Collection::default() };
        let primary = newest.primary().map(|_| collection.chains.len() - 1);
        let discards_last = discards_last && primary.is_some();
        Self { collection, archived_orphans: archived.orphaned_signatures, has_signatures, primary, discards_last }
    }

    /// As [`Status::new`], for a command that reads sets without signature file, too.
    pub fn for_reading(collection: &'c Collection, archived: Collection) -> Self {
        Self { discards_last: false, ..Self::new(collection, archived) }
    }

    /// Returns the warnings that duplicity prints before anything else, each with the names that it is about.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.discards_last {
            warnings.push("Warning, discarding last backup set, because of missing signature file.".to_string());
        }
        for (place, files) in [("local", &self.archived_orphans), ("remote", &self.collection.orphaned_signatures)] {
            let names: Vec<_> = files.iter().map(|file| file.file.listed.name.clone()).collect();
            warnings.extend(warning_about(&format!("{place} orphaned signature"), &names));
        }
        if self.has_signatures && self.primary.is_none() {
            warnings.push("Warning, found signatures but no corresponding backup files".into());
        }
        if self.incomplete() > 0 {
            warnings.push("Warning, found incomplete backup sets, probably left from aborted session".into());
        }
        let orphaned: Vec<_> = self.collection.orphaned.iter().map(names).collect();
        warnings.extend(warning_about("orphaned backup", &orphaned));
        warnings
    }

    fn incomplete(&self) -> usize {
        self.collection.incomplete.len() + usize::from(self.discards_last)
    }

    /// Returns the sets of a chain that duplicity counts.
    fn sets(&self, position: usize) -> &[BackupSet] {
        let sets = self.collection.chains.get(position).map_or(&[][..], BackupChain::sets);
        let discarded = usize::from(self.discards_last && self.primary == Some(position));
        &sets[..sets.len().saturating_sub(discarded)]
    }

    fn text(&self, archive: Option<&Path>) -> String {
        let archive = archive.map_or_else(|| "None".into(), |path| path.to_string_lossy());
        let secondary: Vec<_> = (0..self.collection.chains.len()).filter(|&chain| self.primary != Some(chain)).collect();
        let count = secondary.len();
        // duplicity names the class of its wrapper for whatever backend it is.
        let mut text = format!(
            "Collection Status\n-----------------\nConnecting with backend: BackendWrapper\nArchive dir: {archive}\n\n\
             Found {} secondary backup chain{}.\n",
            count,
            plural(count)
        );
        for (number, &chain) in (1..).zip(&secondary) {
            text += &format!("Secondary chain {number} of {count}:\n{}\n", self.chain_text(chain));
        }
        text += &match self.primary {
            Some(chain) => format!("\nFound primary backup chain with matching signature chain:\n{}", self.chain_text(chain)),
            None => "No backup chains with active signatures found\n".into(),
        };
        let (orphaned, incomplete) = (self.collection.orphaned.len(), self.incomplete());
        text += &match (orphaned, incomplete) {
            (0, 0) => "No orphaned or incomplete backup sets found.\n".into(),
            _ => format!(
                "Also found {orphaned} backup set{} not part of any chain,\nand {incomplete} incomplete backup set{}.\n\
                 These may be deleted by running duplicity with the \"cleanup\" command.\n",
                plural(orphaned),
                plural(incomplete)
            ),
        };
        text
    }

    fn chain_text(&self, position: usize) -> String {
        const RULE: &str = "-------------------------\n";
        let Some(chain) = self.collection.chains.get(position) else { return String::new() };
        let sets = self.sets(position);
        let (start, end) = (chain.start().print_asctime(), chain.end().print_asctime());
        let volumes: usize = sets.iter().map(|set| set.volumes.len()).sum();
        let mut text = format!(
            "{RULE}Chain start time: {start}\nChain end time: {end}\nNumber of contained backup sets: {}\n\
             Total number of contained volumes: {volumes}\n",
            sets.len()
        );
        text += &row("Type of backup set:", "Time:", "Num volumes:");
        for set in sets {
            let kind = if set.session.is_full() { "Full" } else { "Incremental" };
            text += &row(kind, &set.end().print_asctime(), &set.volumes.len().to_string());
        }
        text + RULE
    }

    /// Returns everything that is in the storage as one object. Sets are where dupfs has them: a set without signature file stays in
    /// its chain, since it can be read.
    fn json(&self, archive: Option<&Path>) -> Value {
        let last_full = self.collection.chains.iter().map(BackupChain::start).max();
        let chains = self.collection.chains.iter().enumerate().map(|(position, chain)| {
            json!({
                "kind": if self.primary == Some(position) { "primary" } else { "secondary" },
                "start": rfc3339(chain.start()),
                "end": rfc3339(chain.end()),
                "sets": chain.sets().iter().map(set_json).collect::<Vec<_>>(),
            })
        });
        json!({
            "archive_dir": archive.map(Path::to_string_lossy),
            "last_full": last_full.map(rfc3339),
            "chains": chains.collect::<Vec<_>>(),
            "orphaned": self.collection.orphaned.iter().map(set_json).collect::<Vec<_>>(),
            "incomplete": self.collection.incomplete.iter().map(set_json).collect::<Vec<_>>(),
            "leftovers": self.leftovers(),
        })
    }

    /// Returns the files that belong to no set, signature files among them.
    fn leftovers(&self) -> Vec<Value> {
        let Collection { chains, orphaned, incomplete, signature_chains, orphaned_signatures, leftovers } = self.collection;
        let chained = chains.iter().flat_map(BackupChain::sets);
        let sessions: BTreeSet<Session> = chained.chain(orphaned).chain(incomplete).map(|set| set.session).collect();
        let signatures = signature_chains.iter().flat_map(|chain| chain.files()).chain(orphaned_signatures);
        let signatures = signatures.filter(|file| !sessions.contains(&file.session));
        let signatures = signatures.map(|file| (&file.file.listed, "it is the signature file of a set that is gone".to_string()));
        let others = leftovers.iter().map(|left| (&left.listed, left.reason.to_string()));
        let found = others.chain(signatures);
        found.map(|(listed, reason)| json!({ "name": listed.name, "bytes": listed.size, "reason": reason })).collect()
    }
}

fn set_json(set: &BackupSet) -> Value {
    let missing = (!set.is_complete()).then(|| "it has no manifest, so it was not completed".to_string());
    let reasons: Vec<_> = missing.into_iter().chain(set.problems.iter().map(ToString::to_string)).collect();
    let mut value = json!({
        "kind": if set.session.is_full() { "full" } else { "incremental" },
        "time": rfc3339(set.end()),
        "volumes": set.volumes.len(),
        "encrypted": set.is_encrypted(),
        "bytes": set.files().fold(0u64, |sum, file| sum.saturating_add(file.listed.size)),
        "signatures": set.signatures.is_some(),
    });
    if !set.session.is_full() {
        value["base"] = rfc3339(set.session.start()).into();
    }
    if !reasons.is_empty() {
        value["reasons"] = reasons.into();
    }
    value
}

/// Returns a set's manifest and volumes as duplicity writes a list.
fn names(set: &BackupSet) -> String {
    let files = set.manifest.iter().chain(set.volumes.values());
    format!("[{}]", files.map(|file| file.listed.name.as_str()).collect::<Vec<_>>().join(", "))
}

fn warning_about(kind: &str, names: &[String]) -> Option<String> {
    let text = || format!("Warning, found the following {kind} file{}:\n{}", plural(names.len()), names.join("\n"));
    (!names.is_empty()).then(text)
}

fn row(kind: &str, time: &str, volumes: &str) -> String {
    format!("{kind:>20}   {time:>30}   {volumes:>15}\n")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn rfc3339(time: BackupTime) -> String {
    time.utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
