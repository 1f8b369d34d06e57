//! [`Proxy`]: a line between a program and a server of the tests, which counts, slows, cuts and
//! hangs.

use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What is wrong with the line, from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nobody is there: connections are refused, and those that are open end.
    Down,
    /// Nothing goes or comes, and nothing ends.
    Hang,
    /// The next connection that brings more than so many bytes ends there; once.
    CutDown(u64),
    /// The next connection that takes more than so many bytes ends there; once.
    CutUp(u64),
    /// So many requests of HTTP are answered with this status, and nothing is done.
    Status(u16, u64),
}

/// A line to a server on loopback.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    delay: Duration,
    requests: Mutex<Vec<String>>,
    up: AtomicU64,
    down: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// Opens a line to a port.
    pub fn to(port: u16) -> Self {
        Self::slow(port, Duration::ZERO)
    }

    /// Opens a line on which each answer of HTTP takes so much longer.
    pub fn slow(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            delay,
            requests: Mutex::default(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for line in listener.incoming().flatten() {
                if accepting.ended.load(Relaxed) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(line, port));
            }
        });
        Self { port: own, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets something be wrong from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock() = fault;
    }

    /// Returns whether a fault that happens once, or so many times, has happened.
    pub fn is_over(&self) -> bool {
        *self.shared.fault.lock() == Fault::None
    }

    /// Returns the first lines of the requests of HTTP since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.requests.lock())
    }

    /// Returns the bytes that went up and came down since the last call.
    pub fn take_bytes(&self) -> (u64, u64) {
        (self.shared.up.swap(0, Relaxed), self.shared.down.swap(0, Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        self.set(Fault::Down);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock()
    }

    fn serve(&self, client: TcpStream, port: u16) {
        if self.fault() == Fault::Down {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
        for line in [&client, &server] {
            line.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            line.set_nodelay(true).unwrap();
        }
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                self.carry_down(&server, &client, &ended);
                end(&ended, [&client, &server]);
            });
            self.carry_up(&client, &server, &ended);
            end(&ended, [&client, &server]);
        });
    }

    /// Reads what there is; `None` where the line has ended, or is to.
    fn receive<'a>(
        &self,
        mut line: &TcpStream,
        buffer: &'a mut [u8],
        ended: &AtomicBool,
    ) -> Option<&'a [u8]> {
        loop {
            if ended.load(Relaxed) || self.fault() == Fault::Down {
                return None;
            }
            if self.fault() == Fault::Hang {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            match line.read(buffer) {
                Ok(0) => return None,
                Ok(count) => return Some(&buffer[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => return None,
            }
        }
    }

    /// Returns how many of the next bytes pass before the line is cut; all where it is not.
    fn until_cut(&self, carried: u64, count: usize, is_down: bool) -> Option<usize> {
        let mut fault = self.fault.lock();
        let at = match *fault {
            Fault::CutDown(at) if is_down => at,
            Fault::CutUp(at) if !is_down => at,
            _ => return None,
        };
        let passing = usize::try_from(at.saturating_sub(carried)).unwrap_or(usize::MAX);
        (passing < count).then(|| {
            *fault = Fault::None;
            passing
        })
    }

    fn carry_down(&self, server: &TcpStream, mut client: &TcpStream, ended: &AtomicBool) {
        let (mut buffer, mut carried) = (vec![0; 64 << 10], 0);
        while let Some(bytes) = self.receive(server, &mut buffer, ended) {
            let cut = self.until_cut(carried, bytes.len(), true);
            let passing = &bytes[..cut.unwrap_or(bytes.len())];
            if client.write_all(passing).is_err() || cut.is_some() {
                return;
            }
            carried += passing.len() as u64;
            self.down.fetch_add(passing.len() as u64, Relaxed);
        }
    }

    fn carry_up(&self, client: &TcpStream, mut server: &TcpStream, ended: &AtomicBool) {
        let (mut buffer, mut carried, mut parser) = (vec![0; 64 << 10], 0, Requests::default());
        while let Some(bytes) = self.receive(client, &mut buffer, ended) {
            let begun = parser.take(bytes);
            if !begun.is_empty() {
                std::thread::sleep(self.delay);
            }
            self.requests.lock().extend(begun.iter().cloned());
            if !begun.is_empty() && self.refuse(client, &mut parser, ended) {
                return;
            }
            let cut = self.until_cut(carried, bytes.len(), false);
            let passing = &bytes[..cut.unwrap_or(bytes.len())];
            if server.write_all(passing).is_err() || cut.is_some() {
                return;
            }
            carried += passing.len() as u64;
            self.up.fetch_add(passing.len() as u64, Relaxed);
        }
    }

    /// Answers with a status in the server's place, if that is the fault.
    fn refuse(&self, mut client: &TcpStream, parser: &mut Requests, ended: &AtomicBool) -> bool {
        let status = {
            let mut fault = self.fault.lock();
            let Fault::Status(status, left) = *fault else { return false };
            *fault = if left > 1 { Fault::Status(status, left - 1) } else { Fault::None };
            status
        };
        let mut buffer = vec![0; 64 << 10];
        let begun = Instant::now();
        while parser.is_inside() && begun.elapsed() < Duration::from_secs(10) {
            let Some(bytes) = self.receive(client, &mut buffer, ended) else { break };
            parser.take(bytes);
        }
        let answer = format!(
            "HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\nRetry-After: 0\r\nConnection: close\r\n\r\n"
        );
        let _ = client.write_all(answer.as_bytes());
        true
    }
}

fn end(ended: &AtomicBool, lines: [&TcpStream; 2]) {
    ended.store(true, Relaxed);
    lines.into_iter().for_each(|line| drop(line.shutdown(Shutdown::Both)));
}

/// Finds the requests of HTTP in what goes up; of other protocols it finds none.
#[derive(Default)]
struct Requests {
    head: Vec<u8>,
    /// Bytes of the body that are still to come.
    body: usize,
    is_other: bool,
}

impl Requests {
    /// Takes the next bytes; returns the first lines of the requests whose heads end in them.
    fn take(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut begun = Vec::new();
        while !bytes.is_empty() && !self.is_other {
            let passing = self.body.min(bytes.len());
            self.body -= passing;
            bytes = &bytes[passing..];
            let Some((first, rest)) = bytes.split_first() else { break };
            self.head.push(*first);
            bytes = rest;
            let is_too_long = self.head.len() > 64 << 10 || self.head.starts_with(b"SSH-");
            self.is_other = is_too_long || (self.head.len() == 1 && !first.is_ascii_uppercase());
            if self.head.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&std::mem::take(&mut self.head)).into_owned();
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse().ok())?
                });
                self.body = length.unwrap_or(0);
                let line = head.lines().next().unwrap_or_default();
                begun.push(line.trim_end_matches(" HTTP/1.1").to_string());
            }
        }
        begun
    }

    fn is_inside(&self) -> bool {
        self.body > 0
    }
}
