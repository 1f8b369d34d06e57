//! [`replicate()`]: one set after the other, oldest chain first.

use super::set::SetReplicator;
use super::{Error, Outcome, ReplicateOptions, Source, Target};
use crate::collection::{BackupSet, Collection};
use crate::format::{Session, StoredName};
use crate::monitor::{Event, Level, Monitor};
use crate::storage::Listed;
use std::collections::{BTreeMap, BTreeSet};

/// Stores all sets of the source's chains that the target lacks, oldest chain first. A set that is
/// damaged is left out, with all that builds on it, and told.
///
/// # Errors
/// [`Error`] when nothing more can be stored, or there is no key; the next call goes on.
pub fn replicate(
    source: &Source,
    target: &Target,
    options: &ReplicateOptions,
    monitor: &dyn Monitor,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome { replicated: 0, there: 0, failed: 0, cause: None };
    let there = sessions(target.collection);
    let mut left: BTreeMap<Session, Vec<&Listed>> = BTreeMap::new();
    for listed in target.listing {
        let name = StoredName::parse(&listed.name, &options.prefixes);
        name.into_iter().for_each(|name| left.entry(name.session).or_default().push(listed));
    }
    let is_wanted = |set: &&BackupSet| options.before.is_none_or(|before| set.end() < before);
    for chain in &source.collection.chains {
        let mut sets = chain.sets().iter().filter(is_wanted);
        while let Some(set) = sets.next() {
            if there.contains(&set.session) {
                let name = set.manifest.as_ref().map_or("", |file| &file.listed.name);
                monitor.event(&Event::Replicated(name));
                outcome.there += 1;
                continue;
            }
            let left = left.get(&set.session).map_or(&[][..], Vec::as_slice);
            match SetReplicator::new(source, target, options, monitor, set, left).run() {
                Err(error) if error.is_of_set() => {
                    let rest = 1 + sets.by_ref().count();
                    let others = if rest > 1 { ", and what builds on it" } else { "" };
                    let text =
                        format!("the backup of {} is not replicated{others}: {error}", set.end());
                    monitor.message(Level::Warning, &text);
                    outcome.failed += rest;
                    outcome.cause.get_or_insert(error);
                }
                done => {
                    done?;
                    outcome.replicated += 1;
                }
            }
        }
    }
    Ok(outcome)
}

/// Returns the sessions of all complete sets.
fn sessions(collection: &Collection) -> BTreeSet<Session> {
    let chained = collection.chains.iter().flat_map(|chain| chain.sets());
    chained.chain(&collection.orphaned).map(|set| set.session).collect()
}
