//! [`Uploads`]: volumes on their way to the storage, several at once, and noted in the order in
//! which they were made.
//!
//! Journal, checkpoint and manifest name stored volumes only. So what is to be noted of a volume
//! waits until it is stored, and all before it. A staged volume takes its size in temporary files
//! until then: there are as many as uploads at once, and the one that is being made.

use crate::storage::{self, Listed, Staged, Storage};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Volumes that are being stored, each with what is to be noted of it.
pub struct Uploads<T> {
    storage: Arc<dyn Storage>,
    at_once: usize,
    /// Oldest first.
    under_way: VecDeque<(JoinHandle<Result<Listed, storage::Error>>, T)>,
}

impl<T> Uploads<T> {
    /// Stores as many volumes at once as [`Abilities::transfers`](storage::Abilities::transfers)
    /// of the storage states.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { at_once: storage.abilities().transfers.max(1), storage, under_way: VecDeque::new() }
    }

    /// Stores a volume; `None` is one that only seems to be stored. Returns the volumes that are
    /// stored by now, as they would be listed, and what is to be noted of each. Waits as long as
    /// too many are under way.
    ///
    /// # Errors
    /// That of the oldest volume that cannot be stored.
    pub fn push(
        &mut self,
        staged: Option<Staged>,
        note: T,
    ) -> Result<Vec<(Option<Listed>, T)>, storage::Error> {
        let mut stored = Vec::new();
        while self.under_way.len() >= self.at_once
            || self.under_way.front().is_some_and(|(thread, _)| thread.is_finished())
        {
            stored.extend(self.wait()?);
        }
        let Some(staged) = staged.map(Arc::new) else {
            stored.extend(self.finish()?);
            stored.push((None, note));
            return Ok(stored);
        };
        let (storage, upload) = (self.storage.clone(), staged.clone());
        let thread = (self.at_once > 1)
            .then(|| Builder::new().name("upload".into()).spawn(move || storage.put(&upload)).ok())
            .flatten();
        match thread {
            Some(thread) => self.under_way.push_back((thread, note)),
            // There is one at a time, or no thread to be had.
            None => {
                stored.extend(self.finish()?);
                stored.push((Some(self.storage.put(&staged)?), note));
            }
        }
        Ok(stored)
    }

    /// Waits for all that are under way, and returns them as [`Uploads::push`] does.
    ///
    /// # Errors
    /// That of the oldest volume that cannot be stored.
    pub fn finish(&mut self) -> Result<Vec<(Option<Listed>, T)>, storage::Error> {
        let mut stored = Vec::new();
        while let Some(oldest) = self.wait()? {
            stored.push(oldest);
        }
        Ok(stored)
    }

    /// Waits for the oldest, if there is one.
    fn wait(&mut self) -> Result<Option<(Option<Listed>, T)>, storage::Error> {
        let Some((thread, note)) = self.under_way.pop_front() else { return Ok(None) };
        let listed = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Some((Some(listed), note)))
    }
}

/// Whoever gives up goes on from what is stored, so nothing may appear later.
impl<T> Drop for Uploads<T> {
    fn drop(&mut self) {
        self.under_way.drain(..).for_each(|(thread, _)| drop(thread.join()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Call, ErrorKind, MemoryStorage, RecordingStorage};
    use parking_lot::{Condvar, Mutex};
    use std::time::Duration;

    /// Lets uploads wait, and counts them.
    #[derive(Default)]
    struct Gate {
        /// How many wait, how many have waited together at most, and whether none has to wait any
        /// more.
        state: Mutex<(usize, usize, bool)>,
        changed: Condvar,
    }

    impl Gate {
        fn pass(&self) {
            let mut state = self.state.lock();
            state.0 += 1;
            state.1 = state.1.max(state.0);
            self.changed.notify_all();
            self.changed.wait_while(&mut state, |state| !state.2);
            state.0 -= 1;
        }

        fn wait_for(&self, count: usize) {
            self.changed.wait_while(&mut self.state.lock(), |state| state.0 < count);
        }

        fn open(&self) {
            self.state.lock().2 = true;
            self.changed.notify_all();
        }
    }

    fn uploads(
        at_once: usize,
        gate: &Arc<Gate>,
        bad: Option<&'static str>,
    ) -> (Uploads<u32>, Arc<MemoryStorage>) {
        let (memory, gate) = (Arc::new(MemoryStorage::default()), gate.clone());
        let storage = RecordingStorage::failing(memory.clone(), move |call| match call {
            Call::Put { name } => {
                gate.pass();
                (bad == Some(name)).then_some(ErrorKind::Other)
            }
            _ => None,
        });
        (Uploads::new(Arc::new(storage.far(Duration::ZERO, at_once))), memory)
    }

    fn push(uploads: &mut Uploads<u32>, number: u32) -> Result<Vec<u32>, storage::Error> {
        let staged = uploads.storage.stage(&format!("volume {number}"))?.seal();
        uploads.push(Some(staged), number).map(numbers)
    }

    /// Returns what is noted; each volume is listed by its own name.
    fn numbers(stored: Vec<(Option<Listed>, u32)>) -> Vec<u32> {
        let is_right = |(listed, number): &(Option<Listed>, u32)| {
            listed.as_ref().is_none_or(|listed| listed.name == format!("volume {number}"))
        };
        assert!(stored.iter().all(is_right), "{stored:?}");
        stored.into_iter().map(|(_, number)| number).collect()
    }

    #[test]
    fn several_are_stored_at_once_and_noted_in_order() {
        let gate = Arc::new(Gate::default());
        let (mut uploads, memory) = uploads(3, &gate, None);
        let mut noted: Vec<u32> =
            (1..=3).flat_map(|number| push(&mut uploads, number).unwrap()).collect();
        assert!(noted.is_empty());
        // All three wait for each other, so none of them is waited for before.
        gate.wait_for(3);
        gate.open();
        noted.extend((4..=9).flat_map(|number| push(&mut uploads, number).unwrap()));
        noted.extend(numbers(uploads.push(None, 10).unwrap()));
        assert_eq!(noted, (1..=10).collect::<Vec<_>>());
        noted.extend(push(&mut uploads, 11).unwrap());
        noted.extend(numbers(uploads.finish().unwrap()));
        assert_eq!((noted.len(), memory.list().unwrap().len(), gate.state.lock().1), (11, 10, 3));
    }

    #[test]
    fn one_at_a_time_is_stored_when_push_returns() {
        let gate = Arc::new(Gate::default());
        gate.open();
        let (mut uploads, memory) = uploads(1, &gate, None);
        for number in 1..4 {
            assert_eq!(push(&mut uploads, number).unwrap(), [number]);
            assert_eq!(memory.list().unwrap().len(), number as usize);
        }
    }

    /// Nothing behind a failure is noted, and nothing is stored after whoever gave up is gone.
    #[test]
    fn a_failure_is_that_of_the_oldest() {
        let gate = Arc::new(Gate::default());
        let (mut uploads, memory) = uploads(4, &gate, Some("volume 2"));
        (1..=4).for_each(|number| assert!(push(&mut uploads, number).unwrap().is_empty()));
        gate.wait_for(4);
        gate.open();
        assert_eq!(uploads.wait().unwrap().map(|(_, number)| number), Some(1));
        assert!(uploads.finish().is_err());
        drop(uploads);
        assert_eq!(memory.list().unwrap().len(), 3);
    }
}
