//! Level 1, the sources: the lines of a set from its signature file, or else from its volumes, on their way to the writer.

use super::Error;
use super::catalog::{Catalog, set_at};
use super::chains::{Chain, filled_sets, keep_numbers};
use super::fill::{LeftOut, Line, SetWriter};
use super::spool::Spool;
use crate::codec;
use crate::collection::BackupSet;
use crate::format::{self, Encoding, SignatureKind, SignatureMember, TarReader};
use crate::model::{Entry, EntryPath};
use crate::monitor::Level;
use crate::storage::ReadAt;
use crate::volume::Event;
use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;
use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Lines that travel together from the thread that decodes a signature file to the one that writes rows.
const BATCH: usize = 512;
/// Batches that may wait for the writer, per signature file.
const WAITING: usize = 16;
/// Signature files whose session keys are derived together.
const KEYS_TOGETHER: usize = 16;
/// Signature files that are decoded at the same time.
const AHEAD: usize = 2;

impl Catalog {
    /// Fills the sets of a chain from `filled` on, a few signature files being decoded ahead.
    pub(super) fn fill_from(&self, chain: &Chain, filled: &mut u32) -> Result<(), Error> {
        let first = *filled as usize;
        std::thread::scope(|scope| {
            let (mut receivers, mut started) = (std::collections::VecDeque::new(), first);
            for position in first..chain.sets.len() {
                if (position - first).is_multiple_of(KEYS_TOGETHER) {
                    let coming = chain.sets[position..].iter().take(KEYS_TOGETHER);
                    self.unlock(coming.filter(|set| !self.has_local_signatures(set)).filter_map(|set| set.signatures.as_ref()));
                }
                while started < chain.sets.len() && started < position + AHEAD {
                    let (sender, receiver) = bounded(WAITING);
                    let number = started as u32;
                    let thread = std::thread::Builder::new().name("signatures".into());
                    thread.spawn_scoped(scope, move || self.tell_lines(chain, number, &sender)).map_err(Error::Thread)?;
                    receivers.push_back(receiver);
                    started += 1;
                }
                let Some(receiver) = receivers.pop_front() else { break };
                // Nobody who writes waits for a storage meanwhile, or for a process that was stopped.
                let mut lines = collect(&receiver)?;
                let left_out = self.database.write(|connection| write_set(connection, chain, position as u32, &mut lines))?;
                if let Some(LeftOut { count, first }) = left_out {
                    // It may be as long as a header.
                    let first: String = first.to_string().chars().take(200).collect();
                    let set = chain.sets[position].end();
                    let text = format!(
                        "set {set}: {count} paths are not shown, since folders above them are not in it, among them '{first}'"
                    );
                    self.say_once(Level::Error, text);
                }
                *filled = position as u32 + 1;
            }
            Ok(())
        })
    }

    fn has_local_signatures(&self, set: &BackupSet) -> bool {
        self.local_copy().is_some_and(|copy| copy.signatures(set.session).is_some())
    }

    /// Sends the lines of one set, from its signature file or else from its volumes; at the end what went wrong.
    fn tell_lines(&self, chain: &Chain, position: u32, sender: &Sender<Message>) {
        let result = match self.signature_lines(chain, position, sender) {
            Err(error @ Error::Set { .. }) if !is_locked(&error) => {
                let set = chain.sets.get(position as usize).map_or_else(String::new, |set| set.end().to_string());
                self.say_once(Level::Warning, format!("{error}; reading the volumes of set {set} instead"));
                // What came so far is void.
                let _ = sender.send(Message::Again);
                self.volume_lines(chain, position, sender)
            }
            result => result,
        };
        let _ = sender.send(Message::End(result));
    }

    fn signature_lines(&self, chain: &Chain, position: u32, sender: &Sender<Message>) -> Result<(), Error> {
        let set = set_at(chain, position)?;
        let copy = self.local_copy();
        let local = copy.as_ref().and_then(|copy| copy.signatures(set.session));
        if let Some(local) = local
            && self.decode_lines(set, Arc::new(local.file.clone()), local.encoding, sender).is_ok()
        {
            return Ok(());
        }
        let failed = |cause: Cause| Error::Set { what: format!("the signature file of set {}", set.end()), cause };
        let stored = set.signatures.as_ref().ok_or_else(|| failed("it is not in storage".into()))?;
        let _ = sender.send(Message::Again);
        let last = self.decode_lines(set, Arc::new(self.stored(stored)), stored.encoding, sender)?;
        if stored.encoding == Encoding::Plain {
            // Nothing else would tell that a plain file was cut: duplicity accepts one without trailer.
            let manifest = self.manifest(chain, position)?;
            let expected = manifest.volumes().next_back().map(|volume| volume.last);
            if expected.is_some_and(|expected| last.as_ref() < Some(&expected) && !expected.is_root()) {
                return Err(failed("it ends before the last path of the set".into()));
            }
        }
        Ok(())
    }

    /// Sends the lines of a signature file and returns its last path.
    fn decode_lines(
        &self,
        set: &BackupSet,
        file: Arc<dyn ReadAt>,
        encoding: Encoding,
        sender: &Sender<Message>,
    ) -> Result<Option<EntryPath>, Error> {
        let failed = |cause: Cause| Error::Set { what: format!("the signature file of set {}", set.end()), cause };
        let decoder = self.codec.decode(file, encoding).map_err(|error| failed(error.into()))?;
        let mut tar = TarReader::new(decoder);
        let mut batch = Batch::new(sender);
        let mut last = None;
        while let Some(header) = tar.next().map_err(|error| failed(typed(error)))? {
            let member = SignatureMember::parse(&header).map_err(|error| failed(error.into()))?;
            last = Some(member.path.clone());
            let entry = match member.kind {
                SignatureKind::Present(entry) => Some(entry),
                SignatureKind::Deleted => None,
            };
            batch.push(Line { path: member.path, entry });
        }
        // The end of the stream proves what came before it.
        std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(|error| failed(codec::Error::from(error).into()))?;
        batch.flush();
        Ok(last)
    }

    /// Sends the lines of a set as its volumes give them: by their tables, or by the headers in them.
    fn volume_lines(&self, chain: &Chain, position: u32, sender: &Sender<Message>) -> Result<(), Error> {
        let set = set_at(chain, position)?;
        let manifest = self.manifest(chain, position)?;
        let mut batch = Batch::new(sender);
        let mut last: Option<EntryPath> = None;
        let mut tell = |path: &EntryPath, entry: &Option<Entry>| {
            if last.as_ref() != Some(path) {
                last = Some(path.clone());
                batch.push(Line { path: path.clone(), entry: entry.clone() });
            }
        };
        for volume in manifest.volumes() {
            if let Some(toc) = self.table(chain, position, &volume) {
                toc.rows().for_each(|row| tell(&row.path, &row.entry));
                continue;
            }
            let mut source = self.volume(chain, position, volume.number)?;
            source.hash = volume.hash;
            let listener = |event: Event<'_>| {
                if let Event::Member(member) = event {
                    tell(&member.path, &member.entry);
                }
                ControlFlow::Continue(())
            };
            crate::volume::first_pass(&source, &self.codec, listener).map_err(|cause| Error::Volume { set: set.end(), cause })?;
        }
        batch.flush();
        Ok(())
    }
}

/// Why a stored file of a set cannot be read.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Takes the decoder's error out of a parser's.
pub(super) fn typed(error: format::Error) -> Cause {
    match error {
        format::Error::Read { source, .. } | format::Error::Stream(source) => codec::Error::from(source).into(),
        error => error.into(),
    }
}

/// Tells whether a set could be read if only there were the right key, so that nothing else of it can be read either.
pub(super) fn is_locked(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<codec::Error>());
    cause.is_some_and(|error| {
        use codec::Cause::{Gpg, NoPassphrase, NoSecretKey, Passphrase, WrongPassphrase};
        matches!(error.cause, NoPassphrase | WrongPassphrase | Passphrase(_) | NoSecretKey(_) | Gpg(_))
    })
}

/// What comes from the thread that decodes.
enum Message {
    Lines(Vec<Line>),
    /// The lines so far are void.
    Again,
    End(Result<(), Error>),
}

struct Batch<'a> {
    sender: &'a Sender<Message>,
    lines: Vec<Line>,
}

impl<'a> Batch<'a> {
    fn new(sender: &'a Sender<Message>) -> Self {
        Self { sender, lines: Vec::with_capacity(BATCH) }
    }

    fn push(&mut self, line: Line) {
        self.lines.push(line);
        if self.lines.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // The receiver is gone only when it has failed for a reason of its own.
        let _ = self.sender.send(Message::Lines(std::mem::replace(&mut self.lines, Vec::with_capacity(BATCH))));
    }
}

/// Takes all lines of a set.
fn collect(receiver: &Receiver<Message>) -> Result<Spool, Error> {
    let mut spool = Spool::new();
    loop {
        match receiver.recv() {
            Ok(Message::Lines(lines)) => lines.iter().try_for_each(|line| spool.push(line))?,
            Ok(Message::Again) => spool = Spool::new(),
            Ok(Message::End(result)) => return result.map(|()| spool),
            Err(_) => return Err(Error::Gone("the lines of a set".into())),
        }
    }
}

fn write_set(connection: &Connection, chain: &Chain, position: u32, lines: &mut Spool) -> Result<Option<LeftOut>, Error> {
    match filled_sets(connection, chain)?.cmp(&position) {
        Ordering::Equal => {}
        // Another process was faster.
        Ordering::Greater => return Ok(None),
        // Somebody has started over, or has seen another collection: above a gap this one would be wrong.
        Ordering::Less => return Err(Error::Lost),
    }
    let mut writer = SetWriter::new(connection, chain.id, position)?;
    lines.read(|line| writer.add(line))?;
    let (rows, left_out) = writer.finish();
    keep_numbers(connection, std::slice::from_ref(&chain))?.then_some(()).ok_or(Error::Lost)?;
    connection.execute(
        "UPDATE sets SET first_version = ?2, end_version = ?3 WHERE id = ?1",
        (chain.set_id(position), rows.start, rows.end),
    )?;
    Ok(left_out)
}
