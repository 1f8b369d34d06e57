//! [`Requests`]: what is in flight, and the watchdog that sees to it that each request ends.
//!
//! A request's reply lies in a [`Slot`] that the working thread and the watchdog share: who takes
//! it out answers, and the other's answer is dropped.

use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::options::Log;

/// How often the watchdog looks; also the age from which it looks at a request.
const TICK: Duration = Duration::from_millis(100);

/// Ticks without a new request after which the watchdog sleeps until the next one.
const DROWSY: u32 = 20;

/// A reply that can say no.
pub(crate) trait Refuse: Send + 'static {
    /// Answers with an error number.
    fn refuse(self, errno: i32);
}

/// Holds a reply until somebody answers.
pub(crate) struct Slot<R>(Mutex<Option<R>>);

impl<R: Refuse> Slot<R> {
    /// Takes the right to answer; none, if the watchdog has answered.
    pub(crate) fn take(&self) -> Option<R> {
        self.0.lock().take()
    }

    /// Returns whether an answer is still wanted.
    pub(crate) fn is_open(&self) -> bool {
        self.0.lock().is_some()
    }
}

/// A slot of any reply.
trait Refusable: Send + Sync {
    /// Answers, unless somebody has.
    fn refuse(&self, errno: i32) -> bool;
}

impl<R: Refuse> Refusable for Slot<R> {
    fn refuse(&self, errno: i32) -> bool {
        self.take().map(|reply| reply.refuse(errno)).is_some()
    }
}

/// Who asked for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// The kernel's number of the request.
    pub(crate) unique: u64,
    /// Thread that asked; 0 where the kernel cannot name it.
    pub(crate) thread: u32,
    /// Inode it is about.
    pub(crate) inode: u64,
    /// What is to be done, for the log.
    pub(crate) what: &'static str,
}

struct Request {
    origin: Origin,
    since: Instant,
    slot: Arc<dyn Refusable>,
}

#[derive(Default)]
struct InFlight {
    requests: HashMap<u64, Request>,
    asleep: bool,
}

/// All requests that have been read and not been answered.
pub(crate) struct Requests {
    state: Mutex<InFlight>,
    wake: Condvar,
    seen: AtomicU64,
    timeout: Duration,
    log: Log,
}

impl Requests {
    /// Creates the list and starts the watchdog, which ends when the list is dropped.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(crate) fn start(timeout: Duration, log: Log) -> io::Result<Arc<Requests>> {
        let requests = Arc::new(Requests {
            state: Mutex::default(),
            wake: Condvar::new(),
            seen: AtomicU64::new(0),
            timeout,
            log,
        });
        let weak = Arc::downgrade(&requests);
        thread::Builder::new().name("fuse-watchdog".into()).spawn(move || watch(&weak))?;
        Ok(requests)
    }

    /// Enters a request.
    pub(crate) fn enter<R: Refuse>(&self, origin: Origin, reply: R) -> Arc<Slot<R>> {
        let slot = Arc::new(Slot(Mutex::new(Some(reply))));
        self.seen.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            origin,
            since: Instant::now(),
            slot: Arc::clone(&slot) as Arc<dyn Refusable>,
        };
        let mut state = self.state.lock();
        state.requests.insert(origin.unique, request);
        if state.asleep {
            state.asleep = false;
            self.wake.notify_one();
        }
        slot
    }

    /// Strikes a request off; its worker is done with it.
    pub(crate) fn leave(&self, unique: u64) {
        self.state.lock().requests.remove(&unique);
    }

    /// Returns whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().requests.is_empty()
    }

    /// Sleeps until there may be something to look at.
    fn doze(&self, quiet: u32) {
        let mut state = self.state.lock();
        if quiet >= DROWSY && state.requests.is_empty() {
            state.asleep = true;
            // The bound lets the watchdog notice that the list was dropped.
            self.wake.wait_for(&mut state, 10 * TICK);
            state.asleep = false;
        } else {
            drop(state);
            thread::sleep(TICK);
        }
    }

    /// Answers what has waited too long, and what nobody waits for any more.
    fn patrol(&self) {
        let old: Vec<(Origin, Duration, Arc<dyn Refusable>)> = self
            .state
            .lock()
            .requests
            .values()
            .filter(|request| request.since.elapsed() >= TICK)
            .map(|request| (request.origin, request.since.elapsed(), Arc::clone(&request.slot)))
            .collect();
        for (origin, age, slot) in old {
            if age >= self.timeout {
                if slot.refuse(libc::EIO) {
                    let Origin { what, inode, .. } = origin;
                    (self.log)(&format!(
                        "no answer within {:?} to {what} of inode {inode}: input/output error",
                        self.timeout
                    ));
                }
                self.leave(origin.unique);
            } else if is_dying(origin.thread) {
                slot.refuse(libc::EINTR);
                self.leave(origin.unique);
            }
        }
    }
}

fn watch(requests: &Weak<Requests>) {
    let (mut seen, mut quiet) = (0, 0);
    while let Some(requests) = requests.upgrade() {
        requests.doze(quiet);
        requests.patrol();
        let now = requests.seen.load(Ordering::Relaxed);
        quiet = if now == seen { quiet.saturating_add(1) } else { 0 };
        seen = now;
    }
}

/// Returns whether a thread is gone or has a fatal signal pending. The kernel turns each signal
/// that ends a process, such as SIGINT without a handler, into a pending SIGKILL of all its threads
/// (signals that dump core excepted).
/// Source: Linux kernel/signal.c, complete_signal; proc_pid_status(5).
fn is_dying(thread: u32) -> bool {
    let Some(pid) = i32::try_from(thread).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    match fs::read_to_string(format!("/proc/{thread}/status")) {
        Ok(status) => tells_death(&status),
        // With hidepid, other users' processes look gone; kill(2) knows.
        Err(_) => rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH),
    }
}

fn tells_death(status: &str) -> bool {
    status.lines().filter_map(|line| line.split_once(':')).any(|(field, value)| match field {
        "State" => value.trim_start().starts_with(['Z', 'X']),
        "SigPnd" | "ShdPnd" => u64::from_str_radix(value.trim(), 16)
            .is_ok_and(|pending| pending & (1 << (libc::SIGKILL - 1)) != 0),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    impl Refuse for Sender<i32> {
        fn refuse(self, errno: i32) {
            self.send(errno).unwrap();
        }
    }

    fn origin(unique: u64, thread: u32) -> Origin {
        Origin { unique, thread, inode: 7, what: "read" }
    }

    #[test]
    fn a_request_without_answer_ends_and_the_late_answer_is_dropped() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log: Log = {
            let lines = Arc::clone(&lines);
            Arc::new(move |line: &str| lines.lock().push(line.to_owned()))
        };
        let requests = Requests::start(Duration::from_millis(300), log).unwrap();
        let (reply, answers) = channel();
        let slot = requests.enter(origin(1, std::process::id()), reply);
        assert_eq!(answers.recv_timeout(Duration::from_secs(5)), Ok(libc::EIO));
        assert!(slot.take().is_none());
        while !requests.is_empty() {
            thread::sleep(TICK);
        }
        assert_eq!(
            *lines.lock(),
            ["no answer within 300ms to read of inode 7: input/output error"]
        );
    }

    #[test]
    fn a_request_of_a_dead_process_ends_at_once() {
        let requests = Requests::start(Duration::from_secs(100), Arc::new(|_: &str| ())).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (reply, answers) = channel();
        let _slot = requests.enter(origin(1, child.id()), reply);
        // Not waited for yet, so it is a zombie and its number is not used anew.
        assert_eq!(answers.recv_timeout(Duration::from_secs(5)), Ok(libc::EINTR));
        child.wait().unwrap();
    }

    #[test]
    fn death_is_read_from_a_status() {
        let status = |state, own, shared| {
            format!("Name:\tcat: SigPnd\nState:\t{state}\nSigPnd:\t{own}\nShdPnd:\t{shared}\n")
        };
        let none = "0000000000000000";
        let kill = "0000000000000100";
        assert!(!tells_death(&status("D (disk sleep)", none, none)));
        assert!(!tells_death(&status("D (disk sleep)", "0000000000000002", "0000000000004000")));
        assert!(tells_death(&status("D (disk sleep)", kill, none)));
        assert!(tells_death(&status("D (disk sleep)", none, kill)));
        assert!(tells_death(&status("Z (zombie)", none, none)));
    }
}
