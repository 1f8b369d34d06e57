//! `mount`: the history as the mount crate's tree, the library's errors as errnos.

use super::args::{Common, MountArgs};
use super::exit::Failure;
use super::open::{self, Opened};
use super::report::Report;
use super::touched::TouchedPaths;
use anyhow::Context;
use dupfs::codec;
use dupfs::collection::scan;
use dupfs::contents::{Contents, File};
use dupfs::format::Encoding;
use dupfs::history::{self, Attributes, Found, HistoryTree, TimeTemplate};
use dupfs::model::EntryKind;
use dupfs::monitor::{Level, Monitor};
use dupfs::storage::{Listed, Url};
use dupfs_mount::{FOREVER, Kind, Lookup, Node, Options, Totals, Tree};
use rustix::process;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Volumes whose session keys are derived before somebody needs them: what the reader keeps open.
const PREPARED_VOLUMES: usize = 32;

/// Chains whose keys are derived together.
const LOOKED_AT_TOGETHER: usize = 16;

/// How long the mount may wait for a look at the keys of all chains.
const LOOK: Duration = Duration::from_secs(2);

/// Address space for the work beside the cache: eight volumes that are decrypted and decoded at
/// once. Measured: with less, the end of memory comes under the first readers instead of before the
/// mount.
const WORK_MEMORY: usize = 32 << 20;

/// Seconds until a request ends in an error: the first look into a large volume far away takes a
/// while.
const TIMEOUT: u64 = 300;

/// Refuses the options that would choose what is shown, or how: a mount shows all backups as they
/// are. Options that say how backups are reached, and those of making backups, which a list of
/// options for all actions may hold, are no harm.
fn refuse_ignored(common: &Common) -> Result<(), Failure> {
    const ALL: &str = "a mount shows every backup, each in a folder of its own";
    const WHOLE: &str = "a mount shows the whole of every backup";
    let (reading, writing) = (&common.reading, &common.writing);
    let given = [
        (common.time.is_some(), "--time", ALL),
        (common.path_to_restore.is_some(), "--path-to-restore", WHOLE),
        (!writing.selection.is_empty(), "options that include, exclude or filter", WHOLE),
        (!reading.renames()?.is_empty(), "--rename", WHOLE),
        (
            common.no_restore_ownership,
            "--no-restore-ownership",
            "--owner and --numeric-owner choose the owners that a mount shows",
        ),
        (common.force, "--force", "a mount takes an empty folder, and changes nothing"),
        (writing.dry_run, "--dry-run", "a mount changes nothing anyhow"),
        (
            reading.ignore_errors,
            "--ignore-errors",
            "a mount shows all that is sound, and nothing damaged",
        ),
        (reading.compare_data, "--compare-data", "verify does that"),
        (reading.against_signatures, "--against-signatures", "verify does that"),
        (reading.file_changed.is_some(), "--file-changed", "collection-status does that"),
        (
            reading.show_changes_in_set.is_some(),
            "--show-changes-in-set",
            "collection-status does that",
        ),
    ];
    match given.iter().find(|(is_given, ..)| *is_given) {
        Some((_, option, why)) => {
            Err(Failure::CommandLine(format!("mount does not take {option}: {why}")))
        }
        None => Ok(()),
    }
}

/// Mounts, and serves until it is unmounted.
pub fn run(arguments: &MountArgs, common: &Common) -> anyhow::Result<()> {
    refuse_ignored(common)?;
    let template = match &arguments.time_template {
        Some(text) => {
            TimeTemplate::parse(text).map_err(|error| Failure::CommandLine(error.to_string()))?
        }
        None => TimeTemplate::default(),
    };
    // Before the first thread is started: a fork keeps only the thread that calls it.
    let ready = match arguments.foreground {
        true => None,
        false => Some(Ready::fork()?),
    };
    let report = Arc::new(Report::new(common.verbosity, false));
    let touched = TouchedPaths::new(&Url::parse(&arguments.url)?, &arguments.url, common);
    touched.check(&arguments.directory)?;
    let opened = open::open(&arguments.url, common, report.clone())?;
    opened.report_unusable();
    if opened.collection.chains.is_empty() {
        return Err(Failure::NoBackups(opened.url.to_string()).into());
    }
    let locked = locked_chains(&opened)?;
    let contents = Arc::new(Contents::new(
        opened.catalog.clone(),
        opened.codec.clone(),
        arguments.cache_size << 20,
    ));
    let tree = Arc::new(HistoryTree::new(
        contents.clone(),
        open::accounts(common),
        arguments.owner,
        template,
    ));
    close(locked, &opened, &tree);
    let log = report.clone();
    let options = Options {
        name: opened.url.to_string(),
        allow_other: arguments.allow_other,
        no_exec: arguments.noexec,
        timeout: Duration::from_secs(common.timeout.unwrap_or(TIMEOUT).max(1)),
        memory: arguments.cache_size.saturating_mul(1 << 20).saturating_add(WORK_MEMORY),
        log: Arc::new(move |text| log.message(Level::Warning, text)),
    };
    let served = Served {
        tree: tree.clone(),
        refresh: arguments.refresh,
        catalog_bytes: stored_bytes(&opened),
    };
    let caught = dupfs_mount::Caught::new()?;
    let mount = dupfs_mount::mount(served, &arguments.directory, &options)?;
    caught.unmount(&mount)?;
    if let Some(ready) = ready {
        report.go_to_background();
        ready.announce(touched.need_current_directory())?;
    }
    let refresh = arguments.refresh;
    std::thread::Builder::new().name("refresh".into()).spawn(move || {
        prepare(&opened, &tree, &contents);
        watch(&opened, &tree, refresh)
    })?;
    Ok(mount.wait()?)
}

fn stored_bytes(opened: &Opened) -> u64 {
    let sets = opened.collection.chains.iter().flat_map(|chain| chain.sets());
    sets.flat_map(|set| set.files()).map(|file| file.listed.size).sum()
}

/// Finds the chains that the keys at hand do not open, of those that can be looked at in a moment,
/// the newest first: they get no folder. A passphrase is asked for while there is a terminal, and a
/// wrong one is noticed before the mount stands.
///
/// # Errors
/// Whatever keeps the newest manifest from being read, but for the want of a key; that, too, if no
/// chain opens.
fn locked_chains(opened: &Opened) -> anyhow::Result<Vec<(usize, codec::Error)>> {
    let chains = &opened.collection.chains;
    let manifest = |index: usize| {
        chains[index].last().manifest.as_ref().filter(|file| file.encoding == Encoding::OpenPgp)
    };
    let (start, newest_first) = (Instant::now(), Vec::from_iter((0..chains.len()).rev()));
    let (mut locked, mut opens) = (Vec::new(), false);
    for batch in newest_first.chunks(LOOKED_AT_TOGETHER) {
        let encrypted: Vec<_> = batch.iter().filter_map(|index| manifest(*index)).collect();
        let mut files = opened.catalog.small_files(&encrypted).into_iter();
        for &index in batch {
            let is_newest = index + 1 == chains.len();
            let file =
                manifest(index).and_then(|manifest| files.next().zip(Some(manifest.encoding)));
            let looked_at: Result<(), codec::Error> = file.map_or(Ok(()), |(file, encoding)| {
                let mut decoder = opened.codec.decode(file, encoding)?;
                // To its end, since only that shows who has signed it.
                if is_newest {
                    std::io::copy(&mut decoder, &mut std::io::sink())
                        .map_err(codec::Error::from)?;
                }
                Ok(())
            });
            match looked_at {
                Err(error) if open::is_for_want_of_key(&error.cause) => locked.push((index, error)),
                Err(error) if is_newest => return Err(error.into()),
                // Damage shows where it is met.
                _ => opens = true,
            }
        }
        if start.elapsed() > LOOK {
            break;
        }
    }
    match locked.first() {
        Some(_) if !opens => Err(locked.remove(0).1.into()),
        _ => Ok(locked),
    }
}

/// Takes the folders from chains that do not open, and names each once.
fn close(locked: Vec<(usize, codec::Error)>, opened: &Opened, tree: &HistoryTree) {
    let chains = opened.catalog.chains();
    for (index, error) in locked {
        let Some(chain) = chains.get(index) else { continue };
        let times: Vec<String> = chain.sets.iter().map(|set| set.end().to_string()).collect();
        let newest =
            if index + 1 == chains.len() { ", and 'latest' is an older backup" } else { "" };
        let text = format!(
            "cannot show the backups of {}: {error}{newest}; --passphrase-file gives several passphrases",
            times.join(", ")
        );
        opened.catalog.log_once(Level::Error, text);
        tree.close(chain);
    }
}

/// Fills the catalog, as far as backups can be read.
fn fill(opened: &Opened, tree: &HistoryTree) {
    if let Err(error) = tree.fill() {
        opened.catalog.log_once(Level::Error, format!("cannot fill the catalog: {error}"));
    }
}

/// Fills the catalog, then derives the session keys of the newest volumes that are known already, so
/// that the first reads need not. Those read nothing: a mount of what is known is quiet.
fn prepare(opened: &Opened, tree: &HistoryTree, contents: &Contents) {
    fill(opened, tree);
    let Some(chain) = opened.catalog.chains().pop() else { return };
    let sets = chain.sets.iter().enumerate().rev();
    let volumes = sets.flat_map(|(position, set)| {
        let encrypted =
            set.volumes.iter().filter(|(_, volume)| volume.encoding == Encoding::OpenPgp);
        encrypted.map(move |(number, _)| (position as u32, *number))
    });
    let is_known = |volume: &(u32, u32)| {
        opened.catalog.is_volume_filled(&chain, volume.0, volume.1).unwrap_or(false)
    };
    let volumes: Vec<_> = volumes.take(PREPARED_VOLUMES).filter(is_known).collect();
    opened.catalog.unlock_known(&chain, &volumes);
    for (position, number) in volumes {
        // What is wrong with it is for whoever reads it to hear of.
        if let Ok(source) = opened.catalog.volume(&chain, position, number) {
            let _ = contents.volumes().prepare(&source);
        }
    }
}

/// Looks for new and removed backups for as long as the process lives.
fn watch(opened: &Opened, tree: &HistoryTree, refresh: Duration) {
    let mut known: Option<Vec<Listed>> = None;
    let mut incomplete = Vec::new();
    loop {
        std::thread::sleep(refresh);
        match opened.storage.list() {
            Ok(mut listing) => {
                listing.sort_by(|a, b| a.name.cmp(&b.name));
                if known.as_ref() != Some(&listing) {
                    let collection = scan(&listing, &opened.prefixes);
                    match tree.refresh(&collection) {
                        Ok(()) => {
                            known = Some(listing);
                            // What grows is being made just now.
                            opened.report_unusable_in(&collection, |set| incomplete.contains(set));
                            incomplete = collection.incomplete;
                        }
                        Err(error) => opened
                            .report
                            .message(Level::Warning, &format!("cannot show new backups: {error}")),
                    }
                }
            }
            Err(error) => opened
                .catalog
                .log_once(Level::Warning, format!("cannot look for new backups: {error}")),
        }
        fill(opened, tree);
    }
}

/// The history, with what the mount crate wants to know beyond it.
struct Served {
    tree: Arc<HistoryTree>,
    refresh: Duration,
    catalog_bytes: u64,
}

/// An open file, with its inode for messages.
struct Open {
    file: File,
    inode: u64,
}

/// Names the errno of each error of the history.
struct TreeError(history::Error);

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl dupfs_mount::Errno for TreeError {
    fn errno(&self) -> i32 {
        match self.0 {
            history::Error::NotFound => libc::ENOENT,
            // What NFS says of a file that was removed while somebody knew it.
            history::Error::Stale => libc::ESTALE,
            history::Error::NotDirectory => libc::ENOTDIR,
            history::Error::NotFile => libc::EINVAL,
            // Never "no such file": it is there, but cannot be had.
            history::Error::Unreadable { .. } => libc::EIO,
        }
    }
}

impl From<history::Error> for TreeError {
    fn from(error: history::Error) -> Self {
        Self(error)
    }
}

impl Served {
    fn node(&self, found: &Found) -> Node {
        Node {
            attributes: attributes(&found.attributes),
            ttl: if found.may_change { self.refresh } else { FOREVER },
        }
    }
}

fn kind(kind: &EntryKind) -> Kind {
    match kind {
        EntryKind::Directory => Kind::Directory,
        EntryKind::File => Kind::File,
        EntryKind::Symlink { .. } => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::CharDevice { .. } => Kind::CharDevice,
        EntryKind::BlockDevice { .. } => Kind::BlockDevice,
    }
}

fn attributes(found: &Attributes) -> dupfs_mount::Attributes {
    let rdev = match found.kind {
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            (major, minor)
        }
        _ => (0, 0),
    };
    dupfs_mount::Attributes {
        inode: found.inode,
        kind: kind(&found.kind),
        mode: found.mode,
        nlink: found.links,
        uid: found.uid,
        gid: found.gid,
        size: found.size,
        blocks: if found.kind == EntryKind::File { found.size.div_ceil(512) } else { 0 },
        mtime: found.mtime,
        rdev,
    }
}

impl Tree for Served {
    type Error = TreeError;
    type File = Open;

    fn lookup(&self, parent: u64, name: &[u8]) -> Result<Lookup, TreeError> {
        Ok(match self.tree.look_up(parent, name)? {
            Some(found) => Lookup::Found(self.node(&found)),
            // A name may appear in the root with the next backup, nowhere else.
            None if parent == dupfs_mount::ROOT => Lookup::Missing { ttl: Duration::ZERO },
            None => Lookup::Missing { ttl: FOREVER },
        })
    }

    fn attributes(&self, inode: u64) -> Result<Node, TreeError> {
        Ok(self.node(&self.tree.attributes(inode)?))
    }

    fn list(
        &self,
        directory: u64,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<dupfs_mount::Item>, TreeError> {
        let items = self.tree.list(directory, after, limit)?;
        let item = |item: history::Item| dupfs_mount::Item {
            node: item.found.as_ref().map(|found| self.node(found)),
            kind: kind(&item.kind),
            inode: item.inode,
            name: item.name,
        };
        Ok(items.into_iter().map(item).collect())
    }

    fn link_target(&self, inode: u64) -> Result<Vec<u8>, TreeError> {
        Ok(self.tree.link_target(inode)?)
    }

    fn open(&self, inode: u64) -> Result<Open, TreeError> {
        Ok(Open { file: self.tree.open(inode)?, inode })
    }

    fn read(&self, open: &Open, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError> {
        Ok(self.tree.read(&open.file, open.inode, offset, buffer)?)
    }

    fn totals(&self) -> Totals {
        Totals { bytes: self.catalog_bytes, files: self.tree.snapshot_count() as u64 }
    }
}

/// The way to tell the process on the terminal that the mount answers.
struct Ready(OwnedFd);

impl Ready {
    /// Splits the process: the child goes on, the parent waits until it is ready, or has failed and
    /// said why, and ends.
    fn fork() -> anyhow::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .context("cannot make a pipe")?;
        // SAFETY: no other thread has been started, so the child is a whole process.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()).context("cannot go to the background"),
            0 => Ok(Self(writer)),
            child => {
                drop(writer);
                let mut answer = [0];
                let code = match std::fs::File::from(reader).read(&mut answer) {
                    Ok(1) => 0,
                    // It has failed, and its exit code tells how.
                    _ => {
                        let mut status = 0;
                        // SAFETY: waits for our own child, into a variable of ours.
                        unsafe { libc::waitpid(child, &mut status, 0) };
                        if libc::WIFEXITED(status) {
                            libc::WEXITSTATUS(status)
                        } else {
                            i32::from(super::exit::EXCEPTION)
                        }
                    }
                };
                std::process::exit(code)
            }
        }
    }

    /// Leaves the terminal, and the current directory unless the server `stays`, and lets the
    /// parent end.
    fn announce(self, stays: bool) -> anyhow::Result<()> {
        process::setsid().context("cannot leave the terminal")?;
        if !stays {
            process::chdir("/").context("cannot change to '/'")?;
        }
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .context("cannot open '/dev/null'")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        std::fs::File::from(self.0).write_all(&[0]).context("cannot tell that the mount stands")
    }
}
