//! [`Pool`]: threads that work on requests, as many as there is work for, up to a bound.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// An idle thread ends after this time.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A queue of jobs and the threads that take from it. Dropping it lets the queue run empty; nobody
/// waits for that.
pub(crate) struct Pool {
    name: &'static str,
    limit: usize,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<JobQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct JobQueue {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Pool {
    /// Creates a pool of at most `limit` threads, and none yet.
    pub(crate) fn new(name: &'static str, limit: usize) -> Pool {
        Pool {
            name,
            limit,
            shared: Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }),
        }
    }

    /// Hands a job over. It must not panic. The queue is as long as the kernel has requests under
    /// way. Where no thread can be had at all, the caller works itself.
    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        state.queue.push_back(Box::new(job));
        // An idle thread that was notified still counts as idle until it wakes, and its job as
        // queued: the two balance.
        if state.queue.len() > state.idle && state.threads < self.limit {
            let shared = Arc::clone(&self.shared);
            match thread::Builder::new().name(self.name.into()).spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                // Nobody would ever come for it.
                Err(_) if state.threads == 0 => {
                    let jobs = std::mem::take(&mut state.queue);
                    drop(state);
                    return jobs.into_iter().for_each(|job| job());
                }
                // It waits for an old thread, or for the watchdog.
                Err(_) => (),
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                job();
                state = self.state.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let timeout = self.changed.wait_for(&mut state, IDLE);
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn stuck_jobs_leave_the_others_alone_up_to_the_limit() {
        let pool = Pool::new("test", 4);
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..3 {
            let held = Arc::clone(&held);
            pool.submit(move || held.lock().recv().unwrap_or_default());
        }
        let (done, results) = mpsc::channel();
        for number in 0..100 {
            let done = done.clone();
            pool.submit(move || done.send(number).unwrap());
        }
        for _ in 0..100 {
            results.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert!(pool.shared.state.lock().threads <= 4);
        drop(hold);
    }

    #[test]
    fn a_dropped_pool_finishes_its_queue() {
        let pool = Pool::new("test", 1);
        let (done, results) = mpsc::channel();
        for number in 0..10 {
            let done = done.clone();
            pool.submit(move || done.send(number).unwrap());
        }
        drop(pool);
        drop(done);
        assert_eq!(results.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}
