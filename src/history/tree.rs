//! [`HistoryTree`]: look up, list, attributes, link target, read.

use super::Error;
use super::names::{LATEST, Names, SnapshotName, TimeTemplate};
use super::number::{self, Inode};
use crate::accounts::Accounts;
use crate::catalog::{self, Chain, DirectoryId, Version, VersionId, VersionKind};
use crate::collection::Collection;
use crate::contents::{self, Contents, File};
use crate::model::{BackupTime, Entry, EntryKind};
use crate::monitor::Level;
use crate::sets::{self, Sets, Snapshot};
use crate::storage::Listed;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::Arc;

/// All snapshots as one tree. All methods may be called from many threads at once.
pub struct HistoryTree {
    contents: Arc<Contents>,
    accounts: Accounts,
    owner: Option<(u32, u32)>,
    template: TimeTemplate,
    names: RwLock<Arc<Names>>,
    /// The chains that have no folders.
    closed: RwLock<HashSet<Identity>>,
}

/// What `stat` tells of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub inode: u64,
    /// Type, with link target and device numbers.
    pub kind: EntryKind,
    /// The 12 permission bits.
    pub mode: u16,
    /// Snapshots that show this version; 1 for directories, as their subdirectories are not
    /// counted.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Exact size in bytes; of a link, the length of its target; of a directory 0.
    pub size: u64,
    /// Modification time in seconds since 1970 UTC.
    pub mtime: i64,
}

/// An entry that was looked up.
#[derive(Debug, Clone)]
pub struct Found {
    /// What `stat` tells of it.
    pub attributes: Attributes,
    /// A new backup may change this answer; otherwise it holds for ever.
    pub may_change: bool,
}

/// One line of a listing.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name.
    pub name: Vec<u8>,
    /// Its inode number.
    pub inode: u64,
    /// Its type.
    pub kind: EntryKind,
    /// All the rest, unless that would take reading a volume.
    pub found: Option<Found>,
}

/// Returns what no other chain has, for numbers come back when chains have gone; and what this one
/// no longer has when its newest manifest is another, which may open.
fn identity(chain: &Chain) -> Identity {
    let manifest = chain.sets.last().and_then(|last| last.manifest.as_ref());
    (
        chain.number(),
        chain.sets.first().map(|full| full.end()),
        manifest.map(|file| file.listed.clone()),
    )
}

type Identity = (u64, Option<BackupTime>, Option<Listed>);

impl HistoryTree {
    /// Shows the chains that the catalog knows. `owner`, if given, owns everything.
    pub fn new(
        contents: Arc<Contents>,
        accounts: Accounts,
        owner: Option<(u32, u32)>,
        template: TimeTemplate,
    ) -> Self {
        let (names, closed) = Default::default();
        let tree = Self { contents, accounts, owner, template, names, closed };
        tree.name_snapshots();
        tree
    }

    /// Takes over a new picture of the collection.
    ///
    /// # Errors
    /// [`sets::Error`] when the catalog cannot take it; the old one stays then.
    pub fn refresh(&self, collection: &Collection) -> Result<(), sets::Error> {
        self.sets().set_collection(collection)?;
        self.name_snapshots();
        Ok(())
    }

    /// Fills the catalog for all chains, the newest first, so that nobody has to wait for it later.
    /// What the storage has refused so far is tried again.
    ///
    /// # Errors
    /// [`sets::Error`] when the database fails. A backup that cannot be read is no error; if it
    /// is damaged, it loses its folder.
    pub fn fill(&self) -> Result<(), sets::Error> {
        let filled: Vec<_> = self
            .sets()
            .catalog()
            .chains()
            .iter()
            .rev()
            .map(|chain| self.fill_chain(chain))
            .collect();
        self.name_snapshots();
        filled.into_iter().collect()
    }

    /// Takes the folders from the backups of a chain, since there is no key to them, until its
    /// newest manifest is another.
    pub fn close(&self, chain: &Chain) {
        self.closed.write().insert(identity(chain));
        self.name_snapshots();
    }

    fn is_closed(&self, chain: &Chain) -> bool {
        self.closed.read().contains(&identity(chain))
    }

    fn fill_chain(&self, chain: &Chain) -> Result<(), sets::Error> {
        if self.is_closed(chain) {
            return Ok(());
        }
        self.sets().fill(chain)?;
        self.sets()
            .locked(chain)
            .into_iter()
            .for_each(|text| self.sets().log_once(Level::Error, text));
        Ok(())
    }

    /// Returns the number of snapshots that have a folder.
    pub fn snapshot_count(&self) -> usize {
        self.names().sorted.len()
    }

    /// Finds a name in a directory; `None` if there is none.
    ///
    /// # Errors
    /// [`Error`] when the parent is no directory (any more), or something cannot be read.
    pub fn look_up(&self, parent: u64, name: &[u8]) -> Result<Option<Found>, Error> {
        match Inode::parse(parent) {
            Some(Inode::Root) if name == LATEST => Ok(self.latest()),
            Some(Inode::Root) => {
                let names = self.names();
                names.get(name).map(|snapshot| self.snapshot_found(snapshot)).transpose()
            }
            Some(Inode::Directory { set, directory }) => {
                let (snapshot, id) = self.directory(set, directory)?;
                let found = snapshot
                    .look_up(self.sets(), id, name)
                    .map_err(|error| self.unreadable(&snapshot, error))?;
                found.map(|version| self.found(&snapshot, &version)).transpose()
            }
            Some(_) => Err(Error::NotDirectory),
            None => Err(Error::NotFound),
        }
    }

    /// Returns what `stat` tells of an inode.
    ///
    /// # Errors
    /// [`Error`] when it is not there (any more), or something cannot be read.
    pub fn attributes(&self, inode: u64) -> Result<Found, Error> {
        match Inode::parse(inode).ok_or(Error::NotFound)? {
            Inode::Root => Ok(self.root()),
            latest @ Inode::Latest { .. } => self
                .latest()
                .filter(|found| found.attributes.inode == latest.number())
                .ok_or(Error::Stale),
            Inode::Directory { set, directory } => {
                let (snapshot, id) = self.directory(set, directory)?;
                let version = self.directory_version(&snapshot, id)?;
                self.found(&snapshot, &version)
            }
            Inode::Version(id) => {
                let (snapshot, version) = self.version(id)?;
                self.found(&snapshot, &version)
            }
        }
    }

    /// Lists a directory by name, from behind `after` on: at most `limit` items, fewer only at the
    /// end.
    ///
    /// # Errors
    /// [`Error`] when it is no directory (any more), or something cannot be read.
    pub fn list(
        &self,
        directory: u64,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        match Inode::parse(directory) {
            Some(Inode::Root) => Ok(self.list_root(after, limit)),
            Some(Inode::Directory { set, directory }) => {
                let (snapshot, id) = self.directory(set, directory)?;
                let versions = snapshot
                    .list(self.sets(), id, after, limit)
                    .map_err(|error| self.unreadable(&snapshot, error))?;
                Ok(versions.iter().filter_map(|version| self.item(&snapshot, version)).collect())
            }
            Some(_) => Err(Error::NotDirectory),
            None => Err(Error::NotFound),
        }
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// [`Error`] when it is none, or is gone.
    pub fn link_target(&self, inode: u64) -> Result<Vec<u8>, Error> {
        match Inode::parse(inode) {
            Some(Inode::Latest { .. }) => match self.attributes(inode)?.attributes.kind {
                EntryKind::Symlink { target } => Ok(target),
                _ => Err(Error::NotFound),
            },
            Some(Inode::Version(id)) => {
                match self.version(id)?.1.entry().map(|entry| &entry.kind) {
                    Some(EntryKind::Symlink { target }) => Ok(target.clone()),
                    _ => Err(Error::NotFound),
                }
            }
            _ => Err(Error::NotFound),
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error`] when it is none, is gone, or a volume that it needs cannot be read.
    pub fn open(&self, inode: u64) -> Result<File, Error> {
        let Some(Inode::Version(id)) = Inode::parse(inode) else { return Err(Error::NotFile) };
        let (snapshot, version) = self.version(id)?;
        match version.is_file() {
            true => self
                .contents
                .open(&snapshot.chain, &version)
                .map_err(|error| self.damaged(&snapshot, &version, &error)),
            false => Err(Error::NotFile),
        }
    }

    /// Reads an open file as [`Contents::read`] does.
    ///
    /// # Errors
    /// [`Error`] when any byte of the range cannot be read or trusted; the monitor has heard of it.
    pub fn read(
        &self,
        file: &File,
        inode: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        self.contents.read(file, offset, buffer).map_err(|error| match Inode::parse(inode) {
            Some(Inode::Version(id)) => match self.version(id) {
                Ok((snapshot, version)) => self.damaged(&snapshot, &version, &error),
                Err(gone) => gone,
            },
            _ => Error::NotFile,
        })
    }

    fn sets(&self) -> &Sets {
        self.contents.sets()
    }

    fn names(&self) -> Arc<Names> {
        self.names.read().clone()
    }

    fn name_snapshots(&self) {
        let chains =
            self.sets().catalog().chains().into_iter().filter(|chain| !self.is_closed(chain));
        let chains: Vec<_> =
            chains.map(|chain| (chain.clone(), self.sets().usable(&chain))).collect();
        *self.names.write() = Arc::new(Names::new(&chains, &self.template));
    }

    fn chain(&self, number: u64) -> Result<Arc<Chain>, Error> {
        self.sets().catalog().chain(number).ok_or(Error::Stale)
    }

    /// Returns the snapshot of a set, and the id of a directory in it.
    fn directory(&self, set: u64, directory: u64) -> Result<(Snapshot, DirectoryId), Error> {
        let (chain, position) = self.sets().catalog().set(set).ok_or(Error::Stale)?;
        let snapshot =
            self.sets().snapshot(&chain, position).map_err(|error| Error::Unreadable {
                what: format!("cannot open directory {directory}"),
                cause: error.to_string(),
            })?;
        let id = DirectoryId::from_parts(snapshot.chain.number(), directory);
        Ok((snapshot, id))
    }

    /// Returns a version, in the first snapshot that shows it.
    fn version(&self, id: VersionId) -> Result<(Snapshot, Version), Error> {
        let chain = self.chain(id.chain())?;
        match self.sets().version(id) {
            Ok(version) => Ok((Snapshot { chain, position: version.position }, version)),
            Err(sets::Error::Catalog(catalog::Error::Gone(_))) => Err(Error::Stale),
            Err(error) => Err(Error::Unreadable {
                what: format!("cannot find version {}", id.number()),
                cause: error.to_string(),
            }),
        }
    }

    fn directory_version(&self, snapshot: &Snapshot, id: DirectoryId) -> Result<Version, Error> {
        let version = match self.sets().parent(id) {
            Ok(None) => snapshot.root(self.sets()),
            Ok(Some((parent, name))) => snapshot.look_up(self.sets(), parent, &name),
            Err(sets::Error::Catalog(catalog::Error::Gone(_))) => return Err(Error::Stale),
            Err(error) => Err(error),
        };
        version.map_err(|error| self.unreadable(snapshot, error))?.ok_or(Error::Stale)
    }

    fn root(&self) -> Found {
        let names = self.names();
        let (uid, gid) = self.owner.unwrap_or_else(|| {
            let process = (rustix::process::geteuid(), rustix::process::getegid());
            (process.0.as_raw(), process.1.as_raw())
        });
        let mtime = names.newest().map_or(0, |newest| newest.time.seconds());
        let attributes = Attributes {
            inode: number::ROOT,
            kind: EntryKind::Directory,
            mode: 0o555,
            links: 1,
            uid,
            gid,
            size: 0,
            mtime,
        };
        Found { attributes, may_change: true }
    }

    fn latest(&self) -> Option<Found> {
        let names = self.names();
        let newest = names.newest()?;
        let mut found = self.root();
        found.attributes = Attributes {
            inode: Inode::Latest { set: newest.chain.set_number(newest.position) }.number(),
            kind: EntryKind::Symlink { target: newest.name.clone() },
            mode: 0o777,
            size: newest.name.len() as u64,
            ..found.attributes
        };
        Some(found)
    }

    fn list_root(&self, after: Option<&[u8]>, limit: usize) -> Vec<Item> {
        let names = self.names();
        let mut items: Vec<Item> = Vec::new();
        let latest = self.latest().map(|found| Item {
            name: LATEST.to_vec(),
            inode: found.attributes.inode,
            kind: found.attributes.kind.clone(),
            found: Some(found),
        });
        // There may be thousands, and they are asked for some at a time.
        let from = names.sorted.partition_point(|snapshot| {
            after.is_some_and(|after| snapshot.name.as_slice() <= after)
        });
        // Without attributes: they would have the backup's signature files read, and `ls` of the
        // root needs none of them.
        items.extend(names.sorted[from..].iter().take(limit).map(|snapshot| Item {
            name: snapshot.name.clone(),
            inode: self.snapshot_inode(snapshot).number(),
            kind: names.top(snapshot, self.sets()),
            found: None,
        }));
        items.extend(
            latest.filter(|latest| after.is_none_or(|after| latest.name.as_slice() > after)),
        );
        items.sort_by(|a, b| a.name.cmp(&b.name));
        items.truncate(limit);
        items
    }

    fn snapshot_inode(&self, snapshot: &SnapshotName) -> Inode {
        Inode::Directory {
            set: snapshot.chain.set_number(snapshot.position),
            directory: DirectoryId::root_number(),
        }
    }

    fn snapshot_found(&self, named: &SnapshotName) -> Result<Found, Error> {
        let what = || format!("cannot open the backup '{}'", String::from_utf8_lossy(&named.name));
        let unreadable = |error: sets::Error| {
            // It may just have turned out to be unreadable: then it has no folder any more.
            self.name_snapshots();
            let passes = error.is_passing();
            let error = Error::Unreadable { what: what(), cause: error.to_string() };
            if passes {
                self.sets().log_once(
                    Level::Warning,
                    format!("{error}; it is tried again whenever it is asked for"),
                );
            }
            error
        };
        let snapshot = self.sets().snapshot(&named.chain, named.position).map_err(unreadable)?;
        let root = snapshot.root(self.sets()).map_err(unreadable)?;
        let Some(root) = root else {
            return Err(Error::Unreadable {
                what: what(),
                cause: "it holds no source directory".into(),
            });
        };
        let mut found = self.found(&snapshot, &root)?;
        found.may_change = true; // The folder goes when the backup is removed.
        Ok(found)
    }

    fn found(&self, snapshot: &Snapshot, version: &Version) -> Result<Found, Error> {
        let Some(entry) = version.entry() else { return Err(Error::NotFound) };
        let size = match &entry.kind {
            EntryKind::File => self
                .contents
                .size(&snapshot.chain, version)
                .map_err(|error| self.damaged(snapshot, version, &error))?,
            EntryKind::Symlink { target } => target.len() as u64,
            _ => 0,
        };
        Ok(self.found_with(snapshot, version, entry, size))
    }

    fn found_with(
        &self,
        snapshot: &Snapshot,
        version: &Version,
        entry: &Entry,
        size: u64,
    ) -> Found {
        let (uid, gid) = self.owner.unwrap_or_else(|| self.accounts.numbers(&entry.owner));
        let (inode, links, may_change) = match version.child() {
            Some(id) => {
                let set = snapshot.chain.set_number(snapshot.position);
                (Inode::Directory { set, directory: id.number() }, 1, false)
            }
            None => {
                let end = version.until.unwrap_or(snapshot.chain.sets.len() as u32);
                (
                    Inode::Version(version.id),
                    end.saturating_sub(version.position).max(1),
                    version.until.is_none(),
                )
            }
        };
        let attributes = Attributes {
            inode: inode.number(),
            kind: entry.kind.clone(),
            mode: entry.mode,
            links,
            uid,
            gid,
            size,
            mtime: entry.mtime,
        };
        Found { attributes, may_change }
    }

    fn item(&self, snapshot: &Snapshot, version: &Version) -> Option<Item> {
        let VersionKind::Present { entry, size, .. } = &version.kind else { return None };
        let known = match &entry.kind {
            EntryKind::File => *size,
            EntryKind::Symlink { target } => Some(target.len() as u64),
            _ => Some(0),
        };
        let found = self.found_with(snapshot, version, entry, known.unwrap_or(0));
        let (inode, kind) = (found.attributes.inode, entry.kind.clone());
        Some(Item { name: version.name.clone(), inode, kind, found: known.map(|_| found) })
    }

    /// Shows what the volumes of a chain hold from now on, since its signature files say something
    /// else: all of it under new inode numbers. Who knows an old one hears that it is stale, and
    /// the kernel looks its path up again.
    fn correct(&self, chain: &Chain) -> Error {
        if let Err(error) = self.sets().catalog().void(chain) {
            return Error::Unreadable {
                what: "cannot correct what is shown".into(),
                cause: error.to_string(),
            };
        }
        self.name_snapshots();
        Error::Stale
    }

    fn unreadable(&self, snapshot: &Snapshot, error: sets::Error) -> Error {
        let time = snapshot
            .chain
            .sets
            .get(snapshot.position as usize)
            .map_or_else(String::new, |set| set.end().to_string());
        Error::Unreadable {
            what: format!("cannot read the backup of {time}"),
            cause: error.to_string(),
        }
    }

    /// Tells the monitor, once, that a file cannot be read, and why.
    fn damaged(&self, snapshot: &Snapshot, version: &Version, error: &contents::Error) -> Error {
        if error.is_contradicted() {
            return self.correct(&snapshot.chain);
        }
        let time = snapshot
            .chain
            .sets
            .get(version.position as usize)
            .map_or_else(String::new, |set| set.end().to_string());
        let path =
            self.sets().path(version).map_or_else(|_| "?".to_string(), |path| path.to_string());
        let error = Error::Unreadable {
            what: format!("cannot read '{path}' of {time}"),
            cause: error.to_string(),
        };
        self.sets().log_once(Level::Error, error.to_string());
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::sets::{Files, PathState, World};

    #[test]
    fn a_listing_of_the_root_costs_one_question() {
        let files = Arc::new(Files::default());
        for position in 0..50 {
            let top = if (20..30).contains(&position) {
                PathState::File(vec![1; 9])
            } else {
                PathState::Directory
            };
            files.write(position, &[&[(".", top)]], false);
        }
        let world = World::plain(&files);
        world.chain();
        let contents =
            Contents::new(world.sets.clone(), Arc::new(Codec::new(Default::default())), 1 << 20);
        let tree = HistoryTree::new(
            Arc::new(contents),
            Accounts::new(true),
            None,
            TimeTemplate::default(),
        );
        tree.fill().unwrap();
        for cost in [1, 0] {
            let before = world.sets.catalog().questions();
            let listed = tree.list(number::ROOT, None, 100).unwrap();
            assert_eq!(world.sets.catalog().questions() - before, cost);
            let files: Vec<_> =
                (0..50).filter(|position| listed[*position].kind == EntryKind::File).collect();
            assert_eq!((listed.len(), files), (51, Vec::from_iter(20..30)));
        }
    }
}
