//! [`Wire`]: SFTP over the pipes of a child process, such as `ssh -s host sftp`.
//!
//! Any number of threads have requests under way at once: each waits for its own answer, and the
//! answers come in any order. Nothing waits for longer than the timeout: where no byte goes or comes
//! for so long, the child is killed, and every request ends with that error. A wire that has ended
//! stays so; whoever needs one starts another.
//!
//! What the child reports on stderr is kept for explanations. A [`Guide`] knows the child: it explains
//! its end, and finds in its reports that bytes move behind it though none move here.

use super::packets::{self, Fields, Reply, Request, kind, status};
use crate::storage::ErrorKind;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Packets that wait to be written.
const QUEUE: usize = 16;
/// The longest packet that is taken from a server; OpenSSH sends 256 KiB at most.
const LONGEST: usize = (1 << 20) + 1024;
/// Bytes to read or write in one request where the server names no limit: what all take.
const SAFE: u32 = 32 << 10;
/// The same where it does: more makes nothing faster.
const LARGE: u32 = 256 << 10;
/// How much of what the child says is kept.
const SAID: usize = 8 << 10;
/// How long a child that has closed its pipes may take to end, and to have said why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a request has failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// Words for the user.
    pub cause: String,
    /// The server's code, where it has answered.
    pub status: Option<u32>,
}

impl Failure {
    /// Makes one that is no answer of the server.
    pub fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), status: None }
    }

    fn of_status(code: u32, text: &str) -> Self {
        let (kind, default) = match code {
            status::NO_SUCH_FILE => (ErrorKind::NotFound, "no such file or folder"),
            status::PERMISSION_DENIED => (ErrorKind::Denied, "permission denied"),
            status::NO_CONNECTION | status::CONNECTION_LOST => {
                (ErrorKind::Unreachable, "the server has lost its connection")
            }
            status::UNSUPPORTED => (ErrorKind::Unsupported, "the server cannot do that"),
            _ => (ErrorKind::Other, "the server reports a failure, and does not say which"),
        };
        // OpenSSH's words repeat the code.
        let text = text.trim();
        let cause = match text {
            "" | "Failure" | "No such file" | "Permission denied" | "Operation unsupported" => {
                default.into()
            }
            _ => printable(text),
        };
        Self { kind, cause, status: Some(code) }
    }
}

/// What is known of a kind of child.
#[derive(Clone, Copy)]
pub struct Guide {
    /// Explains its end from what it has reported and how it has ended.
    pub explain: fn(&str, Option<ExitStatus>) -> Failure,
    /// Returns how many bytes have moved behind it, if a line of its reports is about nothing else.
    pub moved: fn(&str) -> Option<u64>,
    /// Whether it passes all on to another service: files in one pass, so that only one request at a
    /// time makes sense for each, and times that say nothing.
    pub is_relay: bool,
}

/// A connection.
pub struct Wire {
    requests: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    next: AtomicU32,
    timeout: Duration,
    extensions: Vec<Vec<u8>>,
    #[cfg_attr(not(feature = "rclone"), expect(dead_code, reason = "ssh explains its end alone"))]
    said: Arc<Mutex<Vec<u8>>>,
    /// The most bytes of one request.
    pub limits: Limits,
    /// What is known of the child.
    pub guide: Guide,
}

/// The most bytes to be read and to be written by one request.
pub struct Limits {
    pub read: u32,
    pub write: u32,
}

struct Shared {
    state: Mutex<State>,
    child: Mutex<Child>,
    /// When a byte last went or came.
    progress: Mutex<Instant>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u32, Sender<Reply>>,
    ended: Option<Failure>,
}

/// An answer that is yet to come.
pub struct Pending(Receiver<Reply>);

impl Wire {
    /// Starts the child, and waits until it speaks SFTP.
    pub fn start(mut command: Command, timeout: Duration, guide: Guide) -> Result<Self, Failure> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|error| {
            let cause = format!(
                "cannot run '{program}', which makes the connection: {error}; install it, or look whether PATH leads to it"
            );
            Failure::new(ErrorKind::Unsupported, cause)
        })?;
        let (Some(input), Some(output), Some(messages)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::new(ErrorKind::Other, format!("'{program}' has no pipes")));
        };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            child: Mutex::new(child),
            progress: Mutex::new(Instant::now()),
        });
        let (requests, queue) = crossbeam_channel::bounded(QUEUE);
        let (hello, extensions) = crossbeam_channel::bounded(1);
        let all_said = Said::hear(messages, &shared, guide.moved)?;
        let said = all_said.text.clone();
        let writer = shared.clone();
        thread("sftp-write", move || writer.send_all(input, &queue))?;
        let reader = shared.clone();
        thread("sftp-read", move || {
            let mut output = Heard { output, shared: &reader };
            let failure = receive_all(&mut output, &reader, &hello).unwrap_or_else(|| {
                let status = reader.reap();
                (guide.explain)(&all_said.text(), status)
            });
            reader.end(failure);
            // Not before: whoever waits for the first packet asks why there is none.
            drop(hello);
        })?;
        let limits = Limits { read: SAFE, write: SAFE };
        let next = AtomicU32::new(0);
        let mut wire =
            Self { requests, shared, next, timeout, extensions: Vec::new(), said, limits, guide };
        wire.send(Request::init().finish())?;
        wire.extensions = wire.receive(&extensions)?;
        wire.ask_for_limits()?;
        Ok(wire)
    }

    fn ask_for_limits(&mut self) -> Result<(), Failure> {
        const LIMITS: &[u8] = b"limits@openssh.com";
        if !self.offers(LIMITS) {
            return Ok(());
        }
        let Reply::Extended(numbers) = self.ask(kind::EXTENDED, |request| request.bytes(LIMITS))?
        else {
            return Ok(());
        };
        let mut fields = Fields(&numbers);
        fields.long(); // of a whole packet
        let mut limit = || match fields.long() {
            Some(0) | None => SAFE,
            Some(limit) => limit.min(u64::from(LARGE)) as u32,
        };
        self.limits = Limits { read: limit(), write: limit() };
        Ok(())
    }

    /// Returns whether the server has an extension.
    pub fn offers(&self, extension: &[u8]) -> bool {
        self.extensions.iter().any(|offered| offered == extension)
    }

    /// Returns the end of what the child has reported so far.
    #[cfg(feature = "rclone")]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock()).into_owned()
    }

    /// Returns whether it is of no use any more.
    pub fn has_ended(&self) -> bool {
        self.shared.state.lock().ended.is_some()
    }

    /// Sends a request, and waits for its answer.
    pub fn ask(&self, kind: u8, fill: impl FnOnce(Request) -> Request) -> Result<Reply, Failure> {
        self.wait(self.begin(kind, fill)?)
    }

    /// As [`Wire::ask`], of a request whose answer is that it is done.
    pub fn order(&self, kind: u8, fill: impl FnOnce(Request) -> Request) -> Result<(), Failure> {
        done(self.ask(kind, fill)?)
    }

    /// Sends a request; the answer is waited for later.
    pub fn begin(
        &self,
        kind: u8,
        fill: impl FnOnce(Request) -> Request,
    ) -> Result<Pending, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let packet = fill(Request::new(kind, id)).finish();
        let (answer, pending) = crossbeam_channel::bounded(1);
        self.shared.expect(id, answer)?;
        self.send(packet)?;
        Ok(Pending(pending))
    }

    /// Sends a request whose answer nobody needs, unless it would have to wait.
    pub fn mention(&self, kind: u8, fill: impl FnOnce(Request) -> Request) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let packet = fill(Request::new(kind, id)).finish();
        let (answer, _) = crossbeam_channel::bounded(1);
        if self.shared.expect(id, answer).is_ok() && self.requests.try_send(packet).is_err() {
            self.shared.state.lock().waiting.remove(&id);
        }
    }

    fn send(&self, mut packet: Vec<u8>) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut left = self.timeout;
        loop {
            match self.requests.send_timeout(packet, left) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(self.shared.failure()),
                Err(SendTimeoutError::Timeout(unsent)) => packet = unsent,
            }
            left = self.left(begun)?;
        }
    }

    /// Waits for an answer.
    pub fn wait(&self, pending: Pending) -> Result<Reply, Failure> {
        match self.receive(&pending.0)? {
            Reply::Status(code, text) if code != status::OK => Err(Failure::of_status(code, &text)),
            reply => Ok(reply),
        }
    }

    fn receive<T>(&self, answer: &Receiver<T>) -> Result<T, Failure> {
        let begun = Instant::now();
        let mut left = self.timeout;
        loop {
            match answer.recv_timeout(left) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(self.shared.failure()),
                Err(RecvTimeoutError::Timeout) => left = self.left(begun)?,
            }
        }
    }

    /// Returns how long may be waited still, since then or since there was progress; ends the wire
    /// when that is no time.
    fn left(&self, begun: Instant) -> Result<Duration, Failure> {
        let last = begun.max(*self.shared.progress.lock());
        let left = self.timeout.saturating_sub(last.elapsed());
        if left.is_zero() {
            let seconds = self.timeout.as_secs();
            let cause = format!("nothing went or came for {seconds} seconds");
            self.shared.end(Failure::new(ErrorKind::TimedOut, cause));
            return Err(self.shared.failure());
        }
        Ok(left)
    }
}

/// All that counts has been answered by then.
impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.end(Failure::new(ErrorKind::Unreachable, "the connection was closed"));
    }
}

/// Takes an answer that says no more than that it is done.
pub fn done(reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Status(..) => Ok(()),
        _ => Err(senseless()),
    }
}

/// Returns the failure of an answer that does not fit its request.
pub fn senseless() -> Failure {
    Failure::new(ErrorKind::Other, "the server's answer makes no sense")
}

/// Returns text of others without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = std::thread::Builder::new().name(name.into()).spawn(work);
    let failed = |error: io::Error| {
        Failure::new(ErrorKind::Other, format!("cannot start a thread: {error}"))
    };
    started.map(|_| ()).map_err(failed)
}

impl Shared {
    /// Has the answer to a request that is about to be sent go there.
    fn expect(&self, id: u32, answer: Sender<Reply>) -> Result<(), Failure> {
        let mut state = self.state.lock();
        if let Some(failure) = &state.ended {
            return Err(failure.clone());
        }
        state.waiting.insert(id, answer);
        Ok(())
    }

    fn failure(&self) -> Failure {
        let ended = self.state.lock().ended.clone();
        ended.unwrap_or_else(|| Failure::new(ErrorKind::Unreachable, "the connection has ended"))
    }

    /// Ends the wire, if it has not ended for another reason.
    fn end(&self, failure: Failure) {
        let mut state = self.state.lock();
        state.ended.get_or_insert(failure);
        state.waiting.clear();
        drop(state);
        let mut child = self.child.lock();
        // It may have ended by itself, or stand still: this signal is for both.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Waits a while until the child has ended by itself.
    fn reap(&self) -> Option<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < LAST_WORDS {
            match self.child.lock().try_wait() {
                Ok(None) => {}
                status => return status.ok().flatten(),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn send_all(&self, mut input: ChildStdin, queue: &Receiver<Vec<u8>>) {
        for packet in queue {
            let mut rest = &packet[..];
            while !rest.is_empty() {
                match input.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // The reader finds out why.
                    Err(_) => return,
                }
                *self.progress.lock() = Instant::now();
            }
        }
    }
}

/// Takes in packets until they end; returns why if that is the server's fault, `None` if the child
/// has closed its pipe.
fn receive_all(
    output: &mut impl Read,
    shared: &Shared,
    hello: &Sender<Vec<Vec<u8>>>,
) -> Option<Failure> {
    let strange = |text: &str| Some(Failure::new(ErrorKind::Unsupported, text));
    let first = match packet(output) {
        Ok(packet) => packet,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return strange(
                "the host does not speak SFTP: perhaps its shell prints something at every login",
            );
        }
        Err(_) => return None,
    };
    let Some(extensions) = packets::extensions(&first) else {
        return strange("the host does not speak version 3 of SFTP");
    };
    let _ = hello.send(extensions);
    loop {
        let packet = match packet(output) {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Some(senseless()),
            Err(_) => return None,
        };
        let Some((id, reply)) = packets::reply(&packet) else { return Some(senseless()) };
        let Some(answer) = shared.state.lock().waiting.remove(&id) else {
            return Some(senseless());
        };
        // Whoever asked may have gone.
        let _ = answer.send(reply);
    }
}

fn packet(output: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    output.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length];
    output.read_exact(&mut packet)?;
    Ok(packet)
}

/// What comes from the child, with each bit of it taken for progress.
struct Heard<'a, R> {
    output: R,
    shared: &'a Shared,
}

impl<R: Read> Read for Heard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        *self.shared.progress.lock() = Instant::now();
        Ok(count)
    }
}

/// What the child says on stderr.
struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl Said {
    fn hear(
        messages: impl Read + Send + 'static,
        shared: &Arc<Shared>,
        moved: fn(&str) -> Option<u64>,
    ) -> Result<Self, Failure> {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = crossbeam_channel::bounded(0);
        let (kept, shared) = (text.clone(), shared.clone());
        thread("sftp-stderr", move || {
            let mut messages = BufReader::new(messages);
            let (mut line, mut last) = (Vec::new(), 0);
            loop {
                line.clear();
                let read = (&mut messages).take(SAID as u64).read_until(b'\n', &mut line);
                if !matches!(read, Ok(1..)) {
                    break;
                }
                if let Some(bytes) = moved(&String::from_utf8_lossy(&line)) {
                    if bytes != last {
                        last = bytes;
                        *shared.progress.lock() = Instant::now();
                    }
                    continue;
                }
                let mut kept = kept.lock();
                kept.extend_from_slice(&line);
                let excess = kept.len().saturating_sub(SAID);
                kept.drain(..excess);
            }
            drop(ended);
        })?;
        Ok(Self { text, end })
    }

    /// Returns all of it; what the child has started may still hold the pipe.
    fn text(&self) -> String {
        let _ = self.end.recv_timeout(LAST_WORDS);
        String::from_utf8_lossy(&self.text.lock()).into_owned()
    }
}
