//! [`Ahead`]: has directories looked at by threads before the consumer comes to them.
//!
//! What is to be looked at waits sorted in the order of the walk, and a thread takes the first.
//! What the consumer needs is done already, or is being done (then it helps with the next in order
//! meanwhile), or waits (then it does it itself). So the consumer never depends on there being
//! room, and the threads stop when enough is held.

use super::listing::{Batch, Position, Surveyor, Task};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// How many threads look ahead. A third one gains nothing while a directory's entries are in the
/// kernel's memory.
const THREADS: usize = 2;

/// How many entries are held ahead: some 3 MiB. The threads go on when half of them are consumed.
const HELD: usize = 8 << 10;

/// The threads of one walk, and what they have found.
pub struct Ahead {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    surveyor: Surveyor,
    state: Mutex<Schedule>,
    /// There is something to do, or nothing will be any more.
    work: Condvar,
    /// Something is done.
    done: Condvar,
}

#[derive(Default)]
struct Schedule {
    waiting: BTreeMap<Position, Task>,
    running: BTreeSet<Position>,
    finished: BTreeMap<Position, Batch>,
    /// Entries in what is finished.
    held: usize,
    is_full: bool,
    is_closed: bool,
    /// Threads that wait for work.
    idle: usize,
    /// The consumer waits for something to be done.
    is_consumer_waiting: bool,
}

impl Ahead {
    /// Starts with one task, or with nothing to do.
    pub fn start(surveyor: Surveyor, first: Option<Task>) -> Self {
        let threads = if first.is_some() { THREADS } else { 0 };
        let waiting = first.into_iter().map(|first| (first.position(), first)).collect();
        let state = Schedule { waiting, ..Schedule::default() };
        let shared = Shared {
            surveyor,
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
        };
        let shared = Arc::new(shared);
        let spawn = |number| {
            let shared = shared.clone();
            // If there can be no thread, the consumer does all by itself.
            Builder::new().name(format!("walk-{number}")).spawn(move || shared.work()).ok()
        };
        let threads = (0..threads).filter_map(spawn).collect();
        Self { shared, threads }
    }

    /// Returns what was found at a position, which some batch has named and nobody has taken yet.
    pub fn take(&self, position: &Position) -> Batch {
        let mut state = self.shared.lock();
        loop {
            if let Some(batch) = state.finished.remove(position) {
                state.held -= weight(&batch);
                if state.is_full && state.held < HELD / 2 {
                    state.is_full = false;
                    self.shared.work.notify_all();
                }
                return batch;
            }
            if let Some(task) = state.waiting.remove(position) {
                drop(state);
                let (batch, tasks) = self.shared.surveyor.survey(&task);
                self.shared.add(&mut self.shared.lock(), tasks);
                return batch;
            }
            if !state.running.contains(position) {
                return Task::unknown(position)
                    .failed(io::Error::other("it was never looked at, for a reason of our own"));
            }
            state = match state.next() {
                Some((at, task)) => self.shared.run(state, at, task),
                None => self.shared.wait_until_done(state),
            };
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Schedule {
    /// Takes the task that comes first in the order, if there is room for what it will find.
    fn next(&mut self) -> Option<(Position, Task)> {
        if self.is_full {
            return None;
        }
        let (at, task) = self.waiting.pop_first()?;
        self.running.insert(at.clone());
        Some((at, task))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.state.lock()
    }

    /// Does tasks until the walk is over.
    fn work(&self) {
        let mut state = self.lock();
        while !state.is_closed {
            state = match state.next() {
                Some((at, task)) => self.run(state, at, task),
                None => {
                    state.idle += 1;
                    self.work.wait(&mut state);
                    state.idle -= 1;
                    state
                }
            };
        }
    }

    /// Does one task, and keeps what it finds.
    fn run<'a>(
        &'a self,
        state: MutexGuard<'a, Schedule>,
        at: Position,
        task: Task,
    ) -> MutexGuard<'a, Schedule> {
        drop(state);
        let survey = catch_unwind(AssertUnwindSafe(|| self.surveyor.survey(&task)));
        let died = |_| {
            (
                task.failed(io::Error::other("looking at it failed for a reason of our own")),
                Vec::new(),
            )
        };
        let (batch, tasks) = survey.unwrap_or_else(died);
        let mut state = self.lock();
        self.add(&mut state, tasks);
        state.running.remove(&at);
        state.held += weight(&batch);
        state.is_full |= state.held >= HELD;
        state.finished.insert(at, batch);
        if state.is_consumer_waiting {
            self.done.notify_one();
        }
        state
    }

    fn add(&self, state: &mut Schedule, tasks: Vec<Task>) {
        let wanted = state.idle.min(tasks.len());
        state.waiting.extend(tasks.into_iter().map(|task| (task.position(), task)));
        if !state.is_full {
            for _ in 0..wanted {
                self.work.notify_one();
            }
        }
    }

    fn wait_until_done<'a>(
        &'a self,
        mut state: MutexGuard<'a, Schedule>,
    ) -> MutexGuard<'a, Schedule> {
        state.is_consumer_waiting = true;
        self.done.wait(&mut state);
        state.is_consumer_waiting = false;
        state
    }
}

/// What a batch counts: its entries, and itself.
fn weight(batch: &Batch) -> usize {
    batch.items.len() + 1
}
