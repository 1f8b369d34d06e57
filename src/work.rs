//! Running things side by side: [`pipeline`], where one thread makes things, many work on them, and
//! one takes the results in order, with bounded queues in between; [`each`] and [`all`], for things
//! that are there already; and [`on_threads`], for a work that finds what to do by itself.
//!
//! Where threads cannot be had, fewer do the work; a pipeline needs two.

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

/// Returns how many threads can run at once, as was found at the first call: each look reads several
/// files of the system.
pub fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(2, usize::from))
}

/// Does a work for each thing, at most `threads` at a time; ends at the first error. Returns the
/// results in no order.
///
/// # Errors
/// The first of `work`.
pub fn each<T: Sync, R: Send, E: Send>(
    things: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::with_capacity(things.len()))));
    let turn = || {
        let coming = || things.get(next.fetch_add(1, Ordering::Relaxed));
        while let Some(thing) = coming().filter(|_| done.lock().is_ok()) {
            let result = work(thing);
            let mut done = done.lock();
            match (&mut *done, result) {
                (Ok(results), Ok(result)) => results.push(result),
                (Err(_), _) => {}
                (done, Err(error)) => *done = Err(error),
            }
        }
    };
    on_threads("work", threads.min(things.len()), turn);
    done.into_inner()
}

/// Does the same work on so many threads, this one among them, and waits for all. A panic in one of
/// them is passed on when the others have ended.
pub fn on_threads(name: &str, threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            if Builder::new().name(name.into()).spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

/// Does a work for each thing, at most `threads` at a time. Returns the results in the order of the
/// things.
pub fn all<T: Sync, R: Send>(
    things: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let numbers: Vec<usize> = (0..things.len()).collect();
    let run = |&number: &usize| Ok::<_, std::convert::Infallible>((number, work(&things[number])));
    let Ok(mut done) = each(&numbers, threads, run);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Why the work does not go on.
#[derive(Debug)]
pub enum Stopped {
    /// The one who takes the results has failed, and will report why.
    Taker,
    /// There is no thread to be had.
    Thread(std::io::Error),
}

/// Takes things to be worked on.
pub struct Feed<T, R> {
    work: Sender<(T, Sender<R>)>,
    order: Sender<Receiver<R>>,
}

impl<T, R> Feed<T, R> {
    /// Hands a thing over; waits while too many are under way.
    ///
    /// # Errors
    /// [`Stopped`] when nobody takes results any more.
    pub fn push(&self, thing: T) -> Result<(), Stopped> {
        let (done, result) = bounded(1);
        self.order.send(result).map_err(|_| Stopped::Taker)?;
        self.work.send((thing, done)).map_err(|_| Stopped::Taker)
    }
}

/// Lets `make` push things, `work` turn each into a result, on all cores, and `take` have the
/// results in the order of the things. Ends when all are taken, or at the first error; of two
/// errors that of `take` is returned. Three things for each core are under way at most.
///
/// # Errors
/// Those of `make` and `take`.
pub fn pipeline<T: Send, R: Send, E: From<Stopped> + Send>(
    make: impl FnOnce(&Feed<T, R>) -> Result<(), E>,
    work: impl Fn(T) -> R + Sync,
    take: impl FnMut(R) -> Result<(), E> + Send,
) -> Result<(), E> {
    let threads = cores();
    let (order, ordered) = bounded(3 * threads);
    let (sender, things) = bounded::<(T, Sender<R>)>(3 * threads);
    std::thread::scope(|scope| {
        let work = &work;
        for number in 0..threads {
            let things = things.clone();
            let started = Builder::new().spawn_scoped(scope, move || {
                for (thing, done) in things {
                    // Whoever wanted it may be gone.
                    let _ = done.send(work(thing));
                }
            });
            match started {
                // One is enough.
                Err(_) if number > 0 => break,
                started => started.map_err(Stopped::Thread)?,
            };
        }
        drop(things);
        let taker = Builder::new().spawn_scoped(scope, move || {
            let mut take = take;
            // A result that never comes is one whose worker has panicked, which the scope tells.
            ordered
                .iter()
                .filter_map(|result: Receiver<R>| result.recv().ok())
                .try_for_each(&mut take)
        });
        let taker = taker.map_err(Stopped::Thread)?;
        let feed = Feed { work: sender, order };
        let made = make(&feed);
        drop(feed);
        let taken = taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and(made)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Trouble {
        Stopped,
        At(u32),
    }

    impl From<Stopped> for Trouble {
        fn from(_: Stopped) -> Self {
            Self::Stopped
        }
    }

    #[test]
    fn each_thing_is_worked_on_once_up_to_the_first_error() {
        for threads in [0, 1, 4, 100] {
            let things: Vec<u32> = (0..50).collect();
            let mut doubled = each(&things, threads, |n| Ok::<_, ()>(2 * n)).unwrap();
            doubled.sort_unstable();
            assert_eq!(doubled, (0..50).map(|n| 2 * n).collect::<Vec<_>>());
            let begun = AtomicUsize::new(0);
            let fails = |n: &u32| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *n == 3 { Err(*n) } else { Ok(()) }
            };
            assert_eq!(each(&things, threads, fails), Err(3));
            assert!(begun.into_inner() <= 4 + threads.max(1));
        }
        assert_eq!(each(&[] as &[u32], 4, |n| Ok::<_, ()>(*n)), Ok(Vec::new()));
    }

    #[test]
    fn all_results_are_in_the_order_of_the_things() {
        let slow = |n: &u64| {
            std::thread::sleep(std::time::Duration::from_micros(100 * (9 - n)));
            2 * n
        };
        assert_eq!(all(&[1, 2, 3, 4, 5], 5, slow), [2, 4, 6, 8, 10]);
    }

    fn run(fail_making: Option<u32>, fail_taking: Option<u32>) -> (Result<(), Trouble>, Vec<u32>) {
        let mut taken = Vec::new();
        let make = |feed: &Feed<u32, u32>| {
            (0..500).try_for_each(|n| {
                if Some(n) == fail_making { Err(Trouble::At(n)) } else { Ok(feed.push(n)?) }
            })
        };
        let work = |n: u32| {
            std::thread::sleep(std::time::Duration::from_micros(u64::from(n % 7) * 20));
            n
        };
        let result = pipeline(make, work, |n| {
            taken.push(n);
            if Some(n) == fail_taking { Err(Trouble::At(n)) } else { Ok(()) }
        });
        (result, taken)
    }

    #[test]
    fn results_come_in_order_whoever_is_faster() {
        assert_eq!(run(None, None), (Ok(()), (0..500).collect()));
    }

    #[test]
    fn errors_end_it_and_what_was_made_before_is_taken() {
        assert_eq!(run(Some(100), None), (Err(Trouble::At(100)), (0..100).collect()));
        assert_eq!(run(None, Some(50)), (Err(Trouble::At(50)), (0..=50).collect()));
        assert_eq!(run(Some(400), Some(50)).0, Err(Trouble::At(50)));
    }
}
