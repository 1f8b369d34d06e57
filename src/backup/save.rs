//! [`backup`]: a session from top to bottom.

use super::compare::{Change, Comparison};
use super::members::{self, MemberWriter, Unreadable};
use super::reports::report_found;
use super::session::{SetWriter, StoredSet};
use super::signatures::Signatures;
use super::statistics::Statistics;
use super::{BackupOptions, Error, Job, Outcome, Target, journal, resume};
use crate::accounts::Accounts;
use crate::catalog::{Chain, SeenPlace, SeenSignatures};
use crate::collection::{LocalCopy, scan};
use crate::format::Session;
use crate::model::EntryKind;
use crate::monitor::{Event, Level, Monitor};
use crate::sets::SavedEntries;
use crate::source::Walk;
use crate::work;
use std::sync::Arc;

/// Saves a source as a new set.
///
/// # Errors
/// [`Error`] when nothing is saved; what is stored of the set then is gone on with by the next
/// call. Paths that cannot be read are no error: the monitor hears of them, and they are counted.
pub fn backup(job: &Job, monitor: &dyn Monitor) -> Result<Outcome, Error> {
    let &Job { target, source, base, options, .. } = job;
    let (session, kept) = resume::find(target, source, base, options, monitor)?;
    // A full session that was interrupted is gone on with whatever was asked for.
    let base = base.filter(|_| !session.is_full());
    let (mut session, mut kept, mut unreadable) = (session, kept, Unreadable::default());
    loop {
        let path = match store(job, base, session, kept.as_ref(), &mut unreadable, monitor) {
            Err(Error::Source { path, cause }) => {
                unreadable.insert(path.clone(), cause);
                path
            }
            Err(Error::Lost(path)) => {
                monitor.message(
                    Level::Warning,
                    &format!("{}; storing that part anew", Error::Lost(path.clone())),
                );
                path
            }
            result => return result,
        };
        kept = resume::go_back(target, source, session, &path, options)?;
        if kept.is_none() {
            session = resume::new_session(base, options);
        }
    }
}

fn store(
    job: &Job,
    base: Option<&Arc<Chain>>,
    session: Session,
    kept: Option<&journal::Journaled>,
    unreadable: &mut Unreadable,
    monitor: &dyn Monitor,
) -> Result<Outcome, Error> {
    let &Job { target, options, .. } = job;
    let accounts = Accounts::new(options.numeric_owner);
    let changes = compare(job, base, &accounts)?;
    let bases = base.map(|chain| bases(target, chain, options)).transpose()?;
    let (mut set, sigtar) = SetWriter::begin(target, options, monitor, session, kept)?;
    let stored = kept.and_then(resume::stored);
    let mut made = None;
    work::pipeline(
        |feed| {
            let mut members = MemberWriter::new(
                options,
                monitor,
                target.sets,
                feed,
                sigtar,
                bases,
                stored,
                unreadable,
            )?;
            for change in changes {
                check_interrupted(monitor)?;
                members.write(change?)?;
            }
            made = Some(members.finish()?);
            Ok(())
        },
        |members::Load { frame, mark, met }| {
            frame.encode(&target.encoder).map(|frame| members::Load { frame, mark, met })
        },
        |load| {
            check_interrupted(monitor)?;
            set.take(load?)
        },
    )?;
    let (mut written, sigtar) = made.ok_or(Error::Stopped)?;
    let mut statistics = written.statistics;
    if options.skip_if_no_change && base.is_some() && written.entries == 0 {
        set.abandon();
        return Ok(Outcome { statistics, session: None });
    }
    let members::Written { files, .. } = &mut written;
    let stored = set.finish(sigtar, files)?;
    statistics.stored_size = stored.size;
    remember(target, session, &stored, written, options, monitor);
    Ok(Outcome { statistics, session: Some(session) })
}

/// Ends a session whose user wants it: uploads under way end first, and the next call goes on from
/// what is stored.
fn check_interrupted(monitor: &dyn Monitor) -> Result<(), Error> {
    if monitor.is_interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Counts what a session would do, and stores nothing.
///
/// # Errors
/// [`Error`] when what is saved already cannot be read.
pub fn dry_run(job: &Job, monitor: &dyn Monitor) -> Result<Statistics, Error> {
    let &Job { base, options, .. } = job;
    let accounts = Accounts::new(options.numeric_owner);
    let mut statistics = Statistics::default();
    for change in compare(job, base, &accounts)? {
        let change = change?;
        statistics.meet(&change);
        match &change {
            Change::Same(..) | Change::Suspect(..) => {}
            Change::Socket(path) => monitor.event(&Event::Socket(&options.full_path(path))),
            Change::Failed(failure) => {
                statistics.errors += u64::from(!failure.is_gone());
                monitor.event(&failure.event(&options.full_path(&failure.path)));
            }
            Change::New(found) => {
                statistics.add_new(found);
                report_found(Event::Added, found, monitor);
            }
            Change::Changed(found, _) => {
                statistics.add_changed(found);
                report_found(Event::Changed, found, monitor);
            }
            Change::Gone(saved) => {
                statistics.add_deleted();
                monitor.event(&Event::Deleted(&saved.path));
            }
        }
        if matches!(&change, Change::New(found) | Change::Changed(found, _) if found.entry.kind == EntryKind::File)
        {
            report_met(&statistics, monitor);
        }
    }
    report_met(&statistics, monitor);
    Ok(statistics)
}

fn report_met(statistics: &Statistics, monitor: &dyn Monitor) {
    monitor.event(&Event::Met { bytes: statistics.source_file_size, volume: None });
}

/// Walks the source beside what is saved.
fn compare<'a>(
    &Job { target, source, ref selection, options, .. }: &Job<'a>,
    base: Option<&Arc<Chain>>,
    accounts: &'a Accounts,
) -> Result<Comparison<'a, Walk, std::iter::Flatten<std::option::IntoIter<SavedEntries<'a>>>>, Error>
{
    let saved = base
        .map(|chain| target.sets.saved_entries(chain, chain.sets.len() as u32 - 1))
        .transpose()?;
    let walk = source.walk(selection.clone());
    Ok(Comparison::new(walk, saved.into_iter().flatten(), accounts, options.keep_unreadable))
}

/// Returns the signatures of what is saved.
fn bases<'a>(
    target: &Target,
    chain: &'a Chain,
    options: &BackupOptions,
) -> Result<Signatures<'a>, Error> {
    let local_copy = LocalCopy::open(target.archive.path(), &options.prefixes)?;
    if let Some(error) = target.sets.unconfirmed(chain)? {
        return Err(error.into());
    }
    let distrusted = target.sets.unsound_signatures(chain)?;
    let (storage, codec, tempdir) =
        (target.storage.clone(), target.codec.clone(), options.tempdir.clone());
    Ok(Signatures::new(&chain.sets, local_copy, storage, codec, distrusted, tempdir))
}

/// Lets the catalog know the new set, so that a mount need not read it, and what was found of its
/// files, so that the next session knows them again. What goes wrong here is no harm: the catalog
/// fills in what it lacks.
fn remember(
    target: &Target,
    session: Session,
    stored: &StoredSet,
    mut written: members::Written,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) {
    let mut remember = || -> Result<(), Error> {
        let collection = scan(&stored.listing, &options.prefixes);
        let chains = target.sets.set_collection(&collection)?;
        let copies = LocalCopy::open(target.archive.path(), &options.prefixes)?;
        let mut newest = chains.iter().filter_map(|chain| Some((chain, chain.sets.last()?)));
        let Some((chain, set)) = newest.find(|(_, set)| set.session == session) else {
            return Ok(());
        };
        let place = SeenPlace::new(set.signatures.as_ref(), copies.signatures(session));
        target.sets.set_local_copy(copies);
        target.sets.trust_copies(set);
        target.sets.fill(chain)?;
        target
            .sets
            .catalog()
            .keep_seen_signatures(set, &SeenSignatures { hash: stored.signatures, place });
        let position = chain.sets.len() as u32 - 1;
        Ok(target.sets.save_stats(chain, position, written.stats().map_err(Error::temporary)?)?)
    };
    if let Err(error) = remember() {
        monitor.message(
            Level::Warning,
            &format!("the backup is complete, but the catalog does not know it yet: {error}"),
        );
    }
}
