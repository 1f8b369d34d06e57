//! [`Status`]: which backups there are, and what is left over, in the words of duplicity 0.8.22.
//!
//! Only names count, so no key is needed. What duplicity makes of them was tried with some hundred
//! listings. Two things are told differently on purpose. A full set whose volumes are all gone has
//! its row, with 0 volumes; duplicity leaves the row out. A session that was killed is an
//! incomplete set; duplicity counts it as a set of the chain as long as the archive directory has
//! its manifest as a `.part` file, since it can go on with it.

use super::json::rfc3339;
use super::log::{self, Message};
use super::report::Report;
use super::stamp::stamp;
use dupfs::collection::{BackupChain, BackupSet, Collection, Leftover, SignatureFile};
use dupfs::format::Session;
use dupfs::model::BackupTime;
use dupfs::monitor::Level;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

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
        let newest = Collection {
            chains: last.into_iter().collect(),
            signature_chains: signatures,
            ..Collection::default()
        };
        let primary = newest.primary().map(|_| collection.chains.len() - 1);
        let discards_last = discards_last && primary.is_some();
        Self {
            collection,
            archived_orphans: archived.orphaned_signatures,
            has_signatures,
            primary,
            discards_last,
        }
    }

    /// As [`Status::new`], for a command that reads sets without signature file, too.
    pub fn for_reading(collection: &'c Collection, archived: Collection) -> Self {
        Self { discards_last: false, ..Self::new(collection, archived) }
    }

    /// Gives the warnings that duplicity prints before anything else, each with its number.
    pub fn warn(&self, report: &Report) {
        self.warnings().iter().for_each(|warning| warn(warning, report));
    }

    /// Returns these warnings: number and text.
    pub fn warnings(&self) -> Vec<(u8, String)> {
        let mut warnings = Vec::new();
        if self.discards_last {
            warnings.push((
                1,
                "Warning, discarding last backup set, because of missing signature file."
                    .to_string(),
            ));
        }
        for (place, files) in
            [("local", &self.archived_orphans), ("remote", &self.collection.orphaned_signatures)]
        {
            let names: Vec<_> = files.iter().map(|file| file.file.listed.name.clone()).collect();
            warnings.extend(warning_about(2, &format!("{place} orphaned signature"), &names));
        }
        if self.has_signatures && self.primary.is_none() {
            warnings.push((
                4,
                "Warning, found signatures but no corresponding backup files".to_string(),
            ));
        }
        if self.incomplete() > 0 {
            warnings.push((
                5,
                "Warning, found incomplete backup sets, probably left from aborted session"
                    .to_string(),
            ));
        }
        let orphaned: Vec<_> = self.collection.orphaned.iter().map(names).collect();
        warnings.extend(warning_about(6, "orphaned backup", &orphaned));
        warnings
    }

    /// Prints when the newest full backup was made; from verbosity 8 on all that is known, too, as
    /// duplicity does before every action.
    pub fn print_head(&self, archive: Option<&Path>, report: &Report) {
        report.notice(&last_full(self.collection));
        if report.shows(8) {
            report.print(&self.describe(archive));
        }
    }

    /// Tells programs everything, and returns it as it is printed.
    pub fn describe(&self, archive: Option<&Path>) -> String {
        let text = self.text(archive);
        let message = Message {
            level: Level::Info,
            code: log::code::COLLECTION_STATUS,
            words: "",
            text: text.trim_end(),
        };
        log::write(&message, &self.data());
        format!("{}{text}", stamp(Level::Info))
    }

    /// Returns the collection in lines for programs.
    fn data(&self) -> String {
        let mut data = String::from("backend BackendWrapper\narchive-dir (. dir)\n");
        let secondary = (0..self.collection.chains.len())
            .filter(|&chain| self.primary != Some(chain))
            .enumerate();
        let heads = secondary.map(|(number, chain)| (format!("chain-no-sig {number}\n"), chain));
        for (head, chain) in
            heads.chain(self.primary.map(|chain| ("chain-complete\n".to_string(), chain)))
        {
            data += &head;
            for set in self.sets(chain) {
                let kind = if set.session.is_full() { "full" } else { "inc" };
                let encryption = if set.is_encrypted() { "enc" } else { "noenc" };
                data += &format!(" {kind} {} {} {encryption}\n", set.end(), set.volumes.len());
            }
        }
        data + &format!(
            "orphaned-sets-num {}\nincomplete-sets-num {}\n",
            self.collection.orphaned.len(),
            self.incomplete()
        )
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
        let secondary: Vec<_> = (0..self.collection.chains.len())
            .filter(|&chain| self.primary != Some(chain))
            .collect();
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
            Some(chain) => format!(
                "\nFound primary backup chain with matching signature chain:\n{}",
                self.chain_text(chain)
            ),
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

    /// Returns everything that is in the storage as one object. Sets are where dupfs has them: a
    /// set without signature file stays in its chain, since it can be read.
    pub fn json(&self, archive: Option<&Path>) -> Value {
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
        let Collection {
            chains,
            orphaned,
            incomplete,
            signature_chains,
            orphaned_signatures,
            leftovers,
        } = self.collection;
        let chained = chains.iter().flat_map(BackupChain::sets);
        let sessions: BTreeSet<Session> =
            chained.chain(orphaned).chain(incomplete).map(|set| set.session).collect();
        let signatures =
            signature_chains.iter().flat_map(|chain| chain.files()).chain(orphaned_signatures);
        let signatures = signatures.filter(|file| !sessions.contains(&file.session));
        let signatures = signatures.map(|file| {
            (&file.file.listed, "it is the signature file of a set that is gone".to_string())
        });
        let others = leftovers.iter().map(|left| (&left.listed, left.reason.to_string()));
        let found = others.chain(signatures);
        found.map(|(listed, reason)| json!({ "name": listed.name, "bytes": listed.size, "reason": reason })).collect()
    }
}

fn set_json(set: &BackupSet) -> Value {
    let missing = (!set.is_complete())
        .then(|| "it has no manifest; it was interrupted, or the manifest was lost".to_string());
    let reasons: Vec<_> =
        missing.into_iter().chain(set.problems.iter().map(ToString::to_string)).collect();
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

/// Gives one warning: number and text.
pub fn warn((code, text): &(u8, String), report: &Report) {
    report.log(&Message { level: Level::Warning, code: *code, words: "", text });
}

/// Says when the newest full backup was made; this need not be that of the chain that ends last.
pub fn last_full(collection: &Collection) -> String {
    let last = collection.chains.iter().map(|chain| chain.start()).max();
    format!(
        "Last full backup date: {}",
        last.map_or_else(|| "none".into(), BackupTime::print_asctime)
    )
}

/// Returns what is odd about sets in chains, and what belongs to no set.
pub fn oddities(collection: &Collection) -> impl Iterator<Item = (Level, String)> {
    let problems = |set: &BackupSet| {
        let end = set.end();
        set.problems
            .iter()
            .map(move |problem| (Level::Warning, format!("the backup of {end}: {problem}")))
            .collect::<Vec<_>>()
    };
    let leftover = |left: &Leftover| {
        (Level::Info, format!("'{}' belongs to no backup: {}", left.listed.name, left.reason))
    };
    let sets = collection.chains.iter().flat_map(|chain| chain.sets());
    sets.flat_map(problems).chain(collection.leftovers.iter().map(leftover))
}

fn warning_about(code: u8, kind: &str, names: &[String]) -> Option<(u8, String)> {
    let text = || {
        format!(
            "Warning, found the following {kind} file{}:\n{}",
            plural(names.len()),
            names.join("\n")
        )
    };
    (!names.is_empty()).then(|| (code, text()))
}

fn row(kind: &str, time: &str, volumes: &str) -> String {
    format!("{kind:>20}   {time:>30}   {volumes:>15}\n")
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dupfs::collection::scan;
    use dupfs::format::Prefixes;
    use dupfs::storage::Listed;

    /// 2023-11-14, on the full hours A, B, C and so on.
    const A: i64 = 1_700_000_000 - 80_000;

    fn time(letter: char) -> BackupTime {
        BackupTime::from_seconds(A + (letter as i64 - 'A' as i64) * 3600)
    }

    /// Makes names from `full A manifest`, `full A 1` (a volume), `inc AB signatures`.
    fn names(short: &[&str]) -> Vec<String> {
        let name = |short: &&str| {
            let words: Vec<_> = short.split(' ').collect();
            let times: Vec<_> = words[1].chars().map(|letter| time(letter).to_string()).collect();
            let kind = match (words[0], words[2]) {
                ("inc", "signatures") => "new-signatures".to_string(),
                (kind, "signatures") => format!("{kind}-signatures"),
                (kind, _) => kind.to_string(),
            };
            let end = match words[2] {
                "signatures" => "sigtar.gz".to_string(),
                "manifest" => "manifest".to_string(),
                number => format!("vol{number}.difftar.gz"),
            };
            format!("duplicity-{kind}.{}.{end}", times.join(".to."))
        };
        short.iter().map(name).collect()
    }

    fn scanned(names: &[String]) -> Collection {
        let listing: Vec<_> =
            names.iter().map(|name| Listed { name: name.clone(), size: 9, stamp: 0 }).collect();
        scan(&listing, &Prefixes::default())
    }

    /// Returns text with each time replaced by as long a row of its letter, since they are in the
    /// local zone.
    fn lettered(text: &str) -> String {
        ('A'..='F').fold(text.to_string(), |text, letter| {
            text.replace(&time(letter).print_asctime(), &letter.to_string().repeat(24))
                .replace(&time(letter).to_string(), &letter.to_string())
        })
    }

    const SOUND: &[&str] = &[
        "full A manifest",
        "full A signatures",
        "full A 1",
        "full A 2",
        "inc AB manifest",
        "inc AB signatures",
        "inc AB 1",
        "full C manifest",
        "full C signatures",
        "full C 1",
        "inc CD manifest",
        "inc CD signatures",
        "inc CD 1",
        "inc DE manifest",
        "inc DE signatures",
        "inc DE 1",
    ];

    const HEAD: &str = "\
Collection Status
-----------------
Connecting with backend: BackendWrapper
Archive dir: /a/n

";

    const FIRST: &str = "\
-------------------------
Chain start time: AAAAAAAAAAAAAAAAAAAAAAAA
Chain end time: BBBBBBBBBBBBBBBBBBBBBBBB
Number of contained backup sets: 2
Total number of contained volumes: 3
 Type of backup set:                            Time:      Num volumes:
                Full         AAAAAAAAAAAAAAAAAAAAAAAA                 2
         Incremental         BBBBBBBBBBBBBBBBBBBBBBBB                 1
-------------------------
";

    fn texts(status: &Status) -> Vec<String> {
        status.warnings().into_iter().map(|(_, text)| text).collect()
    }

    fn text_of(names: &[String], archived: &[String]) -> String {
        lettered(&Status::new(&scanned(names), scanned(archived)).text(Some(Path::new("/a/n"))))
    }

    fn without(gone: &[&str]) -> Vec<String> {
        let gone = names(gone);
        names(SOUND).into_iter().filter(|name| !gone.contains(name)).collect()
    }

    // The texts are what duplicity 0.8.22 printed for the same names.

    #[test]
    fn nothing_and_nowhere() {
        let collection = scanned(&[]);
        let expected = "Found 0 secondary backup chains.\nNo backup chains with active signatures found\n\
                        No orphaned or incomplete backup sets found.\n";
        assert_eq!(
            Status::new(&collection, scanned(&[])).text(None),
            HEAD.replace("/a/n", "None") + expected
        );
        assert_eq!(last_full(&collection), "Last full backup date: none");
    }

    #[test]
    fn secondary_chains_come_before_the_primary() {
        let rest = "
Found primary backup chain with matching signature chain:
-------------------------
Chain start time: CCCCCCCCCCCCCCCCCCCCCCCC
Chain end time: EEEEEEEEEEEEEEEEEEEEEEEE
Number of contained backup sets: 3
Total number of contained volumes: 3
 Type of backup set:                            Time:      Num volumes:
                Full         CCCCCCCCCCCCCCCCCCCCCCCC                 1
         Incremental         DDDDDDDDDDDDDDDDDDDDDDDD                 1
         Incremental         EEEEEEEEEEEEEEEEEEEEEEEE                 1
-------------------------
No orphaned or incomplete backup sets found.
";
        let secondary = "Found 1 secondary backup chain.\nSecondary chain 1 of 1:\n";
        let expected = format!("{HEAD}{secondary}{FIRST}\n{rest}");
        assert_eq!(text_of(&names(SOUND), &[]), expected);
        let collection = scanned(&names(SOUND));
        assert_eq!(texts(&Status::new(&collection, scanned(&[]))), [""; 0]);
        assert_eq!(
            lettered(&last_full(&collection)),
            "Last full backup date: CCCCCCCCCCCCCCCCCCCCCCCC"
        );
        // Signature files in the archive directory do as well.
        let gone: Vec<_> =
            SOUND.iter().copied().filter(|name| name.ends_with("signatures")).collect();
        assert_eq!(text_of(&without(&gone), &names(&gone)), expected);
        let unsigned = text_of(&without(&gone), &[]);
        assert!(unsigned.contains("Found 2 secondary backup chains.\nSecondary chain 1 of 2:\n"));
        assert!(
            unsigned.contains("-\n\nNo backup chains with active signatures found\nNo orphaned")
        );
    }

    #[test]
    fn a_last_set_without_signatures_counts_as_incomplete() {
        let listing = without(&["inc DE signatures"]);
        let text = text_of(&listing, &[]);
        let (_, primary) = text.split_once("Found primary").unwrap();
        assert!(
            primary.contains("Chain end time: EEEE")
                && primary.contains("contained backup sets: 2\n")
        );
        assert!(
            !primary.contains("  EEEE")
                && primary.contains("Also found 0 backup sets not part of any chain,\nand 1 incomplete backup set.\n")
        );
        let collection = scanned(&listing);
        let warnings = texts(&Status::new(&collection, scanned(&[])));
        assert_eq!(warnings.len(), 2);
        assert_eq!(
            warnings[0],
            "Warning, discarding last backup set, because of missing signature file."
        );
        assert_eq!(
            warnings[1],
            "Warning, found incomplete backup sets, probably left from aborted session"
        );
        assert_eq!(texts(&Status::for_reading(&collection, scanned(&[]))), [""; 0]);
        assert_eq!(texts(&Status::new(&collection, scanned(&names(SOUND)))), [""; 0]);
    }

    #[test]
    fn leftovers_are_counted_and_named() {
        let listing =
            without(&["inc CD manifest", "inc CD 1", "inc CD signatures", "full A manifest"]);
        let collection = scanned(&listing);
        let status = Status::new(&collection, scanned(&names(&["inc EF signatures"])));
        let end = "
Also found 2 backup sets not part of any chain,
and 1 incomplete backup set.
These may be deleted by running duplicity with the \"cleanup\" command.
";
        let text = lettered(&status.text(None));
        assert!(text.ends_with(&end[1..]), "{text}");
        let expected = "\
Warning, found the following local orphaned signature file:
duplicity-new-signatures.E.to.F.sigtar.gz
Warning, found the following remote orphaned signature file:
duplicity-new-signatures.D.to.E.sigtar.gz
Warning, found incomplete backup sets, probably left from aborted session
Warning, found the following orphaned backup files:
[duplicity-inc.A.to.B.manifest, duplicity-inc.A.to.B.vol1.difftar.gz]
[duplicity-inc.D.to.E.manifest, duplicity-inc.D.to.E.vol1.difftar.gz]";
        assert_eq!(lettered(&texts(&status).join("\n")), expected);
        let only = scanned(&names(&["full A signatures"]));
        let warnings = texts(&Status::new(&only, scanned(&[])));
        assert_eq!(warnings, ["Warning, found signatures but no corresponding backup files"]);
    }

    #[test]
    fn json_holds_every_file() {
        let mut listing = without(&["inc CD manifest", "inc CD 1", "full A manifest"]);
        listing.extend(["readme.txt".to_string()]);
        listing.retain(|name| *name != names(&["full A 1"])[0] && *name != names(&["full A 2"])[0]);
        let json = Status::new(&scanned(&listing), scanned(&[])).json(Some(Path::new("/a/n")));
        let set = |kind: &str, letter: char, bytes: u64, signatures: bool| json!({ "kind": kind, "time": rfc3339(time(letter)), "volumes": 1, "encrypted": false, "bytes": bytes, "signatures": signatures });
        let orphan = |base: char, letter: char| {
            let mut set = set("incremental", letter, 27, true);
            set["base"] = rfc3339(time(base)).into();
            set["reasons"] = json!(["the set that it builds on is missing"]);
            set
        };
        let chain = json!({
            "kind": "secondary", "start": rfc3339(time('C')), "end": rfc3339(time('C')), "sets": [set("full", 'C', 27, true)],
        });
        let gone = "it is the signature file of a set that is gone";
        let expected = json!({
            "archive_dir": "/a/n",
            "last_full": rfc3339(time('C')),
            "chains": [chain],
            "orphaned": [orphan('A', 'B'), orphan('D', 'E')],
            "incomplete": [],
            "leftovers": [
                { "name": "readme.txt", "bytes": 9, "reason": "its name is none of duplicity's" },
                { "name": names(&["full A signatures"])[0], "bytes": 9, "reason": gone },
                { "name": names(&["inc CD signatures"])[0], "bytes": 9, "reason": gone },
            ],
        });
        assert_eq!(json, expected);
    }
}
