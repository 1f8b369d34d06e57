//! [`mount()`], and what can be done with a [`Mount`]: wait, unmount, unmount on signals.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Error;
use crate::fuse::{Adapter, LARGEST_READ, LOOPS};
use crate::guard::Guard;
use crate::mountpoint::{self, MountedAt};
use crate::options::{Log, Options};
use crate::rehearsal::rehearse;
use crate::requests::Requests;
use crate::shared::{Shared, Usage};
use crate::tree::{ROOT, Tree};

/// How often a detached mount is asked whether it is still used.
const GLANCE: Duration = Duration::from_millis(100);

/// How often any other is asked whether it still is one. The session tells so itself, unless a loop
/// is stuck in the tree.
const LOOK: Duration = Duration::from_secs(1);

/// A mounted tree. Dropping it unmounts, without waiting for users of open files.
pub struct Mount(Arc<Inner>);

struct Inner {
    place: MountedAt,
    log: Log,
    state: Mutex<MountState>,
    changed: Condvar,
    guard: Mutex<Option<Guard>>,
}

#[derive(Default)]
struct MountState {
    /// Tells who needs the mount; none until it is served.
    usage: Option<Box<dyn Fn() -> Usage + Send>>,
    /// How the session ended, once it has and all is tidied up.
    ended: Option<io::Result<()>>,
    /// The mount point is free again.
    detached: bool,
    /// Nobody shall wait for open files.
    hurried: bool,
}

/// Mounts a tree on an empty directory, and returns once the kernel has greeted the server
/// (FUSE_INIT): what anybody asks from then on is answered.
///
/// # Errors
/// Each variant of [`Error`] but the last two: the directory or FUSE does not allow it, the tree
/// cannot show its top, or there are too few threads or too little memory.
pub fn mount<T: Tree>(tree: T, mountpoint: &Path, options: &Options) -> Result<Mount, Error> {
    tree.attributes(ROOT).map_err(|error| Error::Root(error.to_string()))?;
    mountpoint::check(mountpoint)?;
    rehearse(options.memory).map_err(Error::Scarce)?;
    let mountpoint =
        mountpoint.canonicalize().map_err(|error| Error::Unreadable(mountpoint.into(), error))?;
    let mut guard = match Guard::post(&mountpoint) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Err(Error::Scarce(error));
        }
        guard => guard,
    };
    let (place, device) = match mountpoint::attach(&mountpoint, options) {
        Ok(attached) => attached,
        Err(error) => {
            guard.into_iter().for_each(Guard::dismiss);
            return Err(error);
        }
    };
    match &mut guard {
        Ok(guard) => guard.watch(&place),
        Err(error) => {
            (options.log)(&format!(
                "cannot start sh: after a crash this mount would have to be removed by hand: {error}"
            ));
        }
    }
    let (log, guard) = (Arc::clone(&options.log), Mutex::new(guard.ok()));
    let mount = Mount(Arc::new(Inner {
        place,
        log,
        guard,
        state: Mutex::default(),
        changed: Condvar::new(),
    }));
    // Where this fails, the mount is dropped, and so unmounted.
    mount.serve(tree, device, options)?;
    mount.0.place.widen_read_ahead(LARGEST_READ);
    Ok(mount)
}

impl Mount {
    /// Waits for the kernel's greeting and starts to answer.
    fn serve<T: Tree>(&self, tree: T, device: OwnedFd, options: &Options) -> Result<(), Error> {
        let own_device = Arc::new(device.try_clone().map_err(Error::Session)?);
        let requests =
            Requests::start(options.timeout, Arc::clone(&options.log)).map_err(Error::Session)?;
        let shared = Arc::new(Shared::new(tree, requests, &own_device, Arc::clone(&options.log)));
        let adapter = Adapter::new(Arc::clone(&shared), own_device);
        let mut config = Config::default();
        // They share one device: with a clone for each, an answer would have to go to the clone its
        // request came from, which is not to be learnt (see `wire`).
        config.n_threads = Some(LOOPS);
        // The kernel lets nobody else in; fuser's own check would trip over setfsuid(2).
        let session =
            Session::from_fd(adapter, device, SessionACL::All, config).map_err(Error::Session)?;
        self.0.change(|state| state.usage = Some(Box::new(move || shared.usage())));
        let inner = Arc::clone(&self.0);
        let serve = move || {
            // A request that the kernel was handing out while the mount ended is answered so, in
            // place of "no such device".
            let ended = session.run().or_else(|error| match error.raw_os_error() {
                Some(libc::ECONNABORTED) => Ok(()),
                _ => Err(error),
            });
            // The mount may still be there, dead; and the guard must hear of the end.
            inner.unmount_and_log();
            inner.change(|state| state.ended = Some(ended));
        };
        thread::Builder::new().name("fuse-session".into()).spawn(serve).map_err(Error::Session)?;
        Ok(())
    }

    /// Blocks until the mount is gone: unmounted by anybody and closed by its last user; or, after
    /// our own [`Mount::unmount`], until no file is open and nothing is asked any more (a working
    /// directory inside does not count); or until a second [`Mount::unmount`].
    ///
    /// # Errors
    /// [`Error::Session`] where the mount ended otherwise.
    pub fn wait(&self) -> Result<(), Error> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(ended) = state.ended.take() {
                state.ended = Some(Ok(()));
                return ended.map_err(Error::Session);
            }
            let usage = state.usage.as_ref().map_or(Usage::Idle, |usage| usage());
            if usage == Usage::Gone || state.detached && (state.hurried || usage == Usage::Idle) {
                return Ok(());
            }
            let pause = if state.detached { GLANCE } else { LOOK };
            self.0.changed.wait_for(&mut state, pause);
        }
    }

    /// Unmounts. A mount that is in use is detached: no path leads there any more, open files can
    /// be read on as long as this process lives, see [`Mount::wait`]. Calling it again ends that
    /// waiting.
    ///
    /// # Errors
    /// [`Error::Unmount`].
    pub fn unmount(&self) -> Result<(), Error> {
        self.0.unmount()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.0.unmount_and_log();
    }
}

impl Inner {
    fn change(&self, change: impl FnOnce(&mut MountState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Returns whether the kernel has closed the connection, so that nobody's question can come to
    /// this process any more.
    fn is_gone(&self) -> bool {
        self.state.lock().usage.as_ref().is_some_and(|usage| usage() == Usage::Gone)
    }

    fn unmount(&self) -> Result<(), Error> {
        let mut guard = self.guard.lock();
        if self.state.lock().detached {
            self.change(|state| state.hurried = true);
            return Ok(());
        }
        let mountpoint = &self.place.mountpoint;
        if self
            .place
            .detach(self.is_gone())
            .map_err(|error| Error::Unmount(mountpoint.clone(), error))?
        {
            (self.log)(&format!(
                "\"{}\" is in use: detached, serving what is open",
                mountpoint.display()
            ));
        }
        if let Some(guard) = guard.take() {
            guard.dismiss();
        }
        self.change(|state| state.detached = true);
        Ok(())
    }

    fn unmount_and_log(&self) {
        if let Err(error) = self.unmount() {
            (self.log)(&describe(&error));
        }
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// SIGINT, SIGTERM and SIGHUP, caught: they no longer end the process, but wait for
/// [`Caught::unmount`].
pub struct Caught(Signals);

impl Caught {
    /// Catches the signals from now on. To be called just before [`mount()`], so that none can end
    /// the process with the mount standing and nobody to serve it.
    ///
    /// # Errors
    /// [`Error::Signals`].
    pub fn new() -> Result<Self, Error> {
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map(Self).map_err(Error::Signals)
    }

    /// Unmounts on each of these signals, those that came already too, until the mount is gone; the
    /// second one no longer waits for open files. Afterwards they end the process again.
    ///
    /// # Errors
    /// [`Error::Signals`].
    pub fn unmount(mut self, mount: &Mount) -> Result<(), Error> {
        let inner = Arc::downgrade(&mount.0);
        let listen = move || {
            for signal in self.0.forever() {
                match inner.upgrade() {
                    Some(inner) => inner.unmount_and_log(),
                    None => drop(signal_hook::low_level::emulate_default_handler(signal)),
                }
            }
        };
        thread::Builder::new().name("fuse-signals".into()).spawn(listen).map_err(Error::Signals)?;
        Ok(())
    }
}
