//! [`Line`]: one control connection, logged in, in the collection's folder.
//!
//! A line does one thing at a time. The end of a transfer's bytes proves nothing: only the reply that
//! follows says that they were all. So a file that ends without that reply has failed, and a line on
//! which something went wrong that is no reply is not used again.
//!
//! A transfer that is broken off is answered, too, by some servers twice; before a line is used
//! again after that, or after a while, it is asked whether it is still in step.

use super::listing::{self, Line as Row};
use crate::storage::{Error, ErrorKind, Listed, Pace, Staged};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use suppaftp::rustls::ClientConfig;
use suppaftp::types::{FileType, Response};
use suppaftp::{
    FtpError, FtpResult, ImplFtpStream, Mode, RustlsConnector, RustlsFtpStream, Status,
    TlsConnector, TransferStream,
};
use zeroize::Zeroizing;

/// What TLS makes of a connection.
type Stream = <RustlsConnector as TlsConnector>::Stream;
/// A transfer.
pub type Transfer = TransferStream<Stream>;

/// After this time without use a line may have been cut.
const IDLE: Duration = Duration::from_secs(15);
/// How long a server that hangs may take to say why.
const AT_ONCE: Duration = Duration::from_millis(100);
/// The most that is taken of a listing.
const LONGEST: usize = 256 << 20;
/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;
/// What a transfer begins with.
const BEGUN: &[Status] = &[Status::AboutToSend, Status::AlreadyOpen];

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Never.
    None,
    /// At once.
    Implicit,
    /// Before the login.
    Explicit,
}

/// Why something has failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// Words for the user.
    pub cause: String,
    /// Whether the server has answered, so that the line is in step.
    pub is_reply: bool,
}

impl Failure {
    /// Makes one that is no answer of the server.
    pub fn new(kind: ErrorKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), is_reply: false }
    }

    /// Makes one of an answer.
    fn of_reply(reply: &Response) -> Self {
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        let text: String = String::from_utf8_lossy(&reply.body).chars().map(plain).collect();
        let text = text.trim();
        let lower = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let kind = match reply.status {
            Status::NotAvailable => ErrorKind::Busy(None),
            Status::NotLoggedIn if has(&["too many", "maximum"]) => ErrorKind::Busy(None),
            Status::NotLoggedIn | Status::InvalidCredentials | Status::StoringNeedAccount => {
                ErrorKind::Denied
            }
            Status::CannotOpenDataConnection | Status::TransferAborted => ErrorKind::Unreachable,
            Status::RequestedActionNotTaken | Status::ExceededStorage => ErrorKind::NoSpace,
            Status::ActionAborted if has(&["space", "quota"]) => ErrorKind::NoSpace,
            Status::FileUnavailable if has(&["quota", "space left"]) => ErrorKind::NoSpace,
            Status::FileUnavailable
                if has(&["permission", "denied", "not allowed", "not permitted"]) =>
            {
                ErrorKind::Denied
            }
            Status::FileUnavailable => ErrorKind::NotFound,
            Status::BadFilename => ErrorKind::Denied,
            Status::BadCommand
            | Status::BadArguments
            | Status::NotImplemented
            | Status::NotImplementedParameter => ErrorKind::Unsupported,
            // 522 and 53x are about TLS.
            Status::Unknown if lower.starts_with('5') => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        };
        // The server hangs up after that one.
        let is_reply = reply.status != Status::NotAvailable;
        Self { kind, cause: format!("the server reports '{text}'"), is_reply }
    }

    fn of_io(error: &io::Error, timeout: Duration) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<suppaftp::rustls::Error>());
        if let Some(suppaftp::rustls::Error::InvalidCertificate(why)) = tls {
            let cause = format!(
                "the certificate of the server is not believed: {why:?}; --ssl-cacert-file names the authority's certificate"
            );
            return Self::new(ErrorKind::Denied, cause);
        }
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let seconds = timeout.as_secs();
                Self::new(
                    ErrorKind::TimedOut,
                    format!("nothing went or came for {seconds} seconds"),
                )
            }
            _ if tls.is_some() => Self::new(ErrorKind::Unsupported, format!("no TLS: {error}")),
            io::ErrorKind::InvalidInput => {
                Self::new(ErrorKind::Unsupported, format!("FTP cannot name it: {error}"))
            }
            _ => Self::new(ErrorKind::Unreachable, format!("there is no connection: {error}")),
        }
    }
}

/// What cannot be read of a staged file.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind, error.cause)
    }
}

/// Where and how lines are opened.
pub struct Door {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub tls: Option<Arc<ClientConfig>>,
    pub user: String,
    pub password: Zeroizing<String>,
    /// Whether the server opens the connections for data.
    pub is_active: bool,
    pub timeout: Duration,
}

impl Door {
    fn failed(&self, error: &FtpError) -> Failure {
        match error {
            FtpError::UnexpectedResponse(reply) => Failure::of_reply(reply),
            FtpError::ConnectionError(error) => Failure::of_io(error, self.timeout),
            FtpError::SecureError(error) => {
                Failure::new(ErrorKind::Unsupported, format!("no TLS: {error}"))
            }
            error => Failure::new(
                ErrorKind::Other,
                format!("the server's answer makes no sense: {error}"),
            ),
        }
    }

    /// Connects to the first address that answers.
    fn connect(&self) -> Result<TcpStream, Failure> {
        let unknown = |error| {
            Failure::new(
                ErrorKind::Unreachable,
                format!("the host's address is not found: {error}"),
            )
        };
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(unknown)?;
        let mut last = Failure::new(ErrorKind::Unreachable, "the host has no address");
        for address in addresses {
            match connect(address, self.timeout) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Failure::of_io(&error, self.timeout),
            }
        }
        Err(last)
    }

    /// Connects, with TLS where it is wanted.
    fn greet(&self) -> Result<RustlsFtpStream, Failure> {
        let failed = |error: FtpError| self.failed(&error);
        let stream = self.connect()?;
        let Some(config) = &self.tls else {
            return ImplFtpStream::connect_with_stream(stream).map_err(failed);
        };
        let connector =
            Bounded { connector: RustlsConnector::from(config.clone()), timeout: self.timeout };
        if self.security == Security::Explicit {
            let plain = ImplFtpStream::connect_with_stream(stream).map_err(failed)?;
            return plain.into_secure(connector, &self.host).map_err(|error| match failed(error) {
                Failure { kind: ErrorKind::Unsupported | ErrorKind::Denied, cause, .. }
                    if cause.contains("the server reports") =>
                {
                    Failure::new(
                        ErrorKind::Unsupported,
                        format!("{cause}: it offers no TLS; ftp:// goes without"),
                    )
                }
                failure => failure,
            });
        }
        // The library connects by itself, and waits without end. By now the host is known to answer.
        let address = stream.peer_addr().map_err(|error| Failure::of_io(&error, self.timeout))?;
        drop(stream);
        let mut ftp = ImplFtpStream::connect_secure_implicit(address, connector, &self.host)
            .map_err(failed)?;
        for command in ["PBSZ 0", "PROT P"] {
            ftp.custom_command(command, &[Status::CommandOk]).map_err(failed)?;
        }
        Ok(ftp)
    }

    /// Opens a line, logged in, where the login leads.
    pub fn open(&self) -> Result<Line, Failure> {
        let failed = |error: FtpError| self.failed(&error);
        let mut ftp = self.greet()?;
        let is_new = ftp.get_ref().peer_addr().is_ok_and(|peer| peer.is_ipv6());
        ftp.login(self.user.as_str(), &self.password).map_err(|error| match failed(error) {
            Failure { kind: ErrorKind::Denied, cause, .. } => {
                let cause = format!("{cause}; a password is taken from the URL, from FTP_PASSWORD or BACKEND_PASSWORD, or ~/.netrc, and a server that wants TLS is reached by ftpes://");
                Failure::new(ErrorKind::Denied, cause)
            }
            failure => failure,
        })?;
        // Of an answer that is expected, the library would take the first line alone.
        let offers = match ftp.custom_command("FEAT", &[]) {
            Err(FtpError::UnexpectedResponse(reply)) if reply.status == Status::System => {
                features(&String::from_utf8_lossy(&reply.body))
            }
            Ok(_) | Err(FtpError::UnexpectedResponse(_)) => HashSet::new(),
            Err(error) => return Err(failed(error)),
        };
        if offers.contains("UTF8") {
            // Whoever speaks it anyhow may refuse to be told.
            match ftp
                .custom_command("OPTS UTF8 ON", &[Status::CommandOk, Status::CommandNotImplemented])
            {
                Ok(_) | Err(FtpError::UnexpectedResponse(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        ftp.transfer_type(FileType::Binary).map_err(failed)?;
        ftp.set_mode(match self.is_active {
            true => Mode::Active,
            false if is_new || offers.contains("EPSV") => Mode::ExtendedPassive,
            false => Mode::Passive,
        });
        // Behind a translation of addresses a server may name one that nobody reaches.
        ftp.set_passive_nat_workaround(true);
        let timeout = self.timeout;
        let mut ftp = ftp.passive_stream_builder(move |address| {
            connect(address, timeout).map_err(FtpError::ConnectionError)
        });
        if self.is_active {
            ftp = ftp.active_mode(timeout);
        }
        let (is_inside, is_cut, used) = (false, false, Instant::now());
        Ok(Line { ftp, offers, is_inside, is_cut, used, timeout })
    }
}

/// Returns what a server offers beyond the first of all standards.
fn features(answer: &str) -> HashSet<String> {
    let offered = answer.lines().filter_map(|line| line.strip_prefix(' '));
    offered.filter_map(|line| line.split_whitespace().next()).map(str::to_uppercase).collect()
}

fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    bound(&stream, timeout)?;
    Ok(stream)
}

/// Bounds each wait for bytes.
fn bound(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))
}

/// Begins TLS on connections whose waits are bounded.
#[derive(Debug)]
struct Bounded {
    connector: RustlsConnector,
    timeout: Duration,
}

impl TlsConnector for Bounded {
    type Stream = Stream;

    fn connect(&self, domain: &str, stream: TcpStream) -> FtpResult<Stream> {
        bound(&stream, self.timeout).map_err(FtpError::ConnectionError)?;
        self.connector.connect(domain, stream)
    }
}

/// A control connection.
pub struct Line {
    ftp: RustlsFtpStream,
    offers: HashSet<String>,
    /// Whether it is in the collection's folder.
    is_inside: bool,
    /// Whether its last transfer was broken off.
    is_cut: bool,
    used: Instant,
    timeout: Duration,
}

impl Line {
    fn failed(&self, error: &FtpError) -> Failure {
        match error {
            FtpError::UnexpectedResponse(reply) => Failure::of_reply(reply),
            FtpError::ConnectionError(error) => Failure::of_io(error, self.timeout),
            error => Failure::new(
                ErrorKind::Other,
                format!("the server's answer makes no sense: {error}"),
            ),
        }
    }

    /// Returns whether it is there still, and answers what it is asked.
    pub fn is_in_step(&mut self) -> bool {
        let is_sure = !self.is_cut && self.used.elapsed() < IDLE;
        let is_in_step = is_sure || self.ftp.noop().is_ok();
        self.is_cut &= !is_in_step;
        is_in_step
    }

    /// Notes that it was used, and whether a transfer was broken off.
    pub fn rest(&mut self, is_cut: bool) {
        self.is_cut |= is_cut;
        self.used = Instant::now();
    }

    /// Enters the collection's folder, if it is not there.
    pub fn enter(&mut self, folder: &str) -> Result<(), Failure> {
        if !self.is_inside {
            self.ftp.cwd(folder).map_err(|error| self.failed(&error))?;
            self.is_inside = true;
        }
        Ok(())
    }

    /// Enters the collection's folder, and makes what is missing of it.
    pub fn make(&mut self, folder: &str) -> Result<(), Failure> {
        match self.enter(folder) {
            Err(failure) if failure.is_reply => {}
            result => return result,
        }
        // Where this fails, nobody knows in which folder the line is: it is not used again.
        self.make_parts(folder).map_err(|failure| Failure { is_reply: false, ..failure })?;
        self.is_inside = true;
        Ok(())
    }

    fn make_parts(&mut self, folder: &str) -> Result<(), Failure> {
        if folder.starts_with('/') {
            self.ftp.cwd("/").map_err(|error| self.failed(&error))?;
        }
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            if self.ftp.cwd(part).is_ok() {
                continue;
            }
            // What cannot be made may have been made by another line.
            let made = self.ftp.mkdir(part).map_err(|error| self.failed(&error));
            self.ftp.cwd(part).map_err(|error| {
                // A folder that cannot be made is not allowed, whatever the code.
                refusal(made.err().unwrap_or_else(|| self.failed(&error)))
            })?;
        }
        Ok(())
    }

    /// Begins to read a file; `None` where the offset lies behind its end.
    pub fn begin(&mut self, name: &str, offset: u64) -> Result<Option<Transfer>, Failure> {
        let begun = usize::try_from(offset)
            .map_err(|_| FtpError::BadResponse)
            .and_then(|offset| self.ftp.resume_transfer(offset))
            .and_then(|()| self.ftp.retr_as_stream(name));
        let failure = match begun {
            Ok(transfer) => return self.bounded(transfer).map(Some),
            Err(error) => self.failed(&error),
        };
        if !failure.is_reply || failure.kind.is_connection() {
            return Err(failure);
        }
        // Whether the file is missing, is not to be read, or ends before the offset, has one code.
        match self.look(name)? {
            None => Err(Failure { kind: ErrorKind::NotFound, ..failure }),
            Some(found) if offset > 0 && offset >= found.size => Ok(None),
            Some(_) => Err(refusal(failure)),
        }
    }

    fn bounded(&self, transfer: Transfer) -> Result<Transfer, Failure> {
        bound(transfer.get_ref().get_ref(), self.timeout)
            .map_err(|error| Failure::of_io(&error, self.timeout))?;
        Ok(transfer)
    }

    /// Fills as much of `buffer` as there is; the transfer is over when that is less than all.
    pub fn fill(transfer: &mut Transfer, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match transfer.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // TLS was not ended as it should be, as by many servers: the reply decides.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Ends a transfer whose bytes have ended, or failed: only the reply says that they were all.
    pub fn finish(&mut self, transfer: Transfer, moved: io::Result<()>) -> Result<(), Failure> {
        if let Err(error) = &moved
            && matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        {
            // Who hangs is not waited for once more.
            let _ = self.ftp.get_ref().set_read_timeout(Some(AT_ONCE));
        }
        let replied = transfer.finish();
        match (moved, replied) {
            (Ok(()), Ok(())) => Ok(()),
            // Of two reasons the server's own is the better one.
            (_, Err(error @ FtpError::UnexpectedResponse(_))) => Err(self.failed(&error)),
            (Err(error), _) => Err(Failure::of_io(&error, self.timeout)),
            (Ok(()), Err(error)) => Err(self.failed(&error)),
        }
    }

    /// Breaks a transfer off; returns whether the line can be used again.
    pub fn cut(&mut self, transfer: Transfer) -> bool {
        let answered = match transfer.finish() {
            Ok(()) => true,
            Err(FtpError::UnexpectedResponse(reply)) => reply.status != Status::NotAvailable,
            Err(_) => false,
        };
        self.rest(true);
        answered
    }

    /// Writes a file, in the place of any other of its name.
    pub fn store(&mut self, name: &str, staged: &Staged, pace: &Pace) -> Result<(), Failure> {
        let begun = self.ftp.put_with_stream(name).map_err(|error| self.failed(&error))?;
        let mut transfer = self.bounded(begun)?;
        let mut moved = Ok(());
        let read = staged.read(|bytes| {
            moved = bytes.chunks(pace.piece(PIECE)).try_for_each(|piece| {
                pace.take(piece.len());
                transfer.write_all(piece)
            });
            if moved.is_ok() { Ok(()) } else { Err(Failure::new(ErrorKind::Other, "")) }
        });
        if moved.is_ok() && read.is_ok() {
            moved = transfer.flush();
        }
        let was_moved = moved.is_ok();
        let finished = self.finish(transfer, moved);
        if was_moved { read.and(finished) } else { finished }
    }

    /// Looks at a file; `None` if there is none.
    pub fn look(&mut self, name: &str) -> Result<Option<Listed>, Failure> {
        if self.offers.contains("MLST") {
            return match self.ftp.mlst(Some(name)) {
                Ok(line) => match listing::facts(&line) {
                    Some(Row::File(found)) => Ok(Some(Listed { name: name.into(), ..found })),
                    Some(_) => Ok(None),
                    None => Err(strange(&line)),
                },
                Err(error) => missing(self.failed(&error)),
            };
        }
        match self.ftp.size(name) {
            Ok(size) => Ok(Some(Listed { name: name.into(), size: size as u64, stamp: 0 })),
            Err(error) => match self.failed(&error) {
                failure if failure.is_reply && failure.kind == ErrorKind::Unsupported => {
                    Ok(self.list()?.into_iter().find(|found| found.name == name))
                }
                failure => missing(failure),
            },
        }
    }

    /// Gives a file another name, over any other of that name.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let Err(error) = self.ftp.rename(from, to) else { return Ok(()) };
        let failure = self.failed(&error);
        // Not every server takes away what stands there, which is a file that is to be replaced.
        if failure.is_reply && self.ftp.rm(to).is_ok() {
            return self.ftp.rename(from, to).map_err(|error| self.failed(&error));
        }
        Err(failure)
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        let Err(error) = self.ftp.rm(name) else { return Ok(()) };
        let failure = self.failed(&error);
        let is_there = !failure.is_reply || self.look(name)?.is_some();
        if is_there { Err(refusal(failure)) } else { Ok(()) }
    }

    /// Lists the folder.
    pub fn list(&mut self) -> Result<Vec<Listed>, Failure> {
        let has_facts = self.offers.contains("MLST") || self.offers.contains("MLSD");
        let rows = if has_facts { self.rows("MLSD", listing::facts)? } else { self.long_rows()? };
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Row::File(file) if is_flat(&file.name) => found.push(file),
                // A volume may have been moved to another disk and linked.
                Row::Link(name) if is_flat(&name) => found.extend(self.look(&name)?),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Lists the folder with the names that begin with a dot, where the server can.
    fn long_rows(&mut self) -> Result<Vec<Row>, Failure> {
        match self.rows("LIST -a", listing::long) {
            // It may have taken the option for a name.
            Ok(rows) if rows.is_empty() => self.rows("LIST", listing::long),
            Err(failure) if failure.is_reply && !failure.kind.is_connection() => {
                self.rows("LIST", listing::long)
            }
            result => result,
        }
    }

    fn rows(
        &mut self,
        command: &str,
        understand: impl Fn(&str) -> Option<Row>,
    ) -> Result<Vec<Row>, Failure> {
        let begun = self.ftp.custom_data_command(command, BEGUN);
        let (_, transfer) = begun.map_err(|error| self.failed(&error))?;
        let mut transfer = self.bounded(transfer)?;
        let (mut text, mut part) = (Vec::new(), vec![0; 64 << 10]);
        let moved = loop {
            match Self::fill(&mut transfer, &mut part) {
                Ok(count) => {
                    text.extend_from_slice(&part[..count]);
                    if count < part.len() {
                        break Ok(());
                    }
                }
                Err(error) => break Err(error),
            }
            if text.len() > LONGEST {
                return Err(Failure::new(ErrorKind::Other, "the server's listing has no end"));
            }
        };
        self.finish(transfer, moved)?;
        let text = String::from_utf8_lossy(&text);
        let row = |line| understand(line).ok_or_else(|| strange(line));
        text.lines().map(row).collect()
    }
}

/// Takes the answer that there is no such file for that.
fn missing(failure: Failure) -> Result<Option<Listed>, Failure> {
    let is_missing = failure.is_reply && failure.kind == ErrorKind::NotFound;
    if is_missing { Ok(None) } else { Err(failure) }
}

/// Takes the answer that there is no such file, about one that is there or is to be made, for a
/// refusal: both have the same code.
pub fn refusal(failure: Failure) -> Failure {
    let kind = if failure.kind == ErrorKind::NotFound { ErrorKind::Denied } else { failure.kind };
    Failure { kind, ..failure }
}

fn strange(line: &str) -> Failure {
    let line: String = line
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(200)
        .collect();
    let cause = format!("a line of the server's listing cannot be understood: '{line}'");
    Failure::new(ErrorKind::Unsupported, cause)
}

/// Returns whether a name stays in its folder, and is text.
fn is_flat(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0', char::REPLACEMENT_CHARACTER])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart() {
        for (status, text, kind) in [
            (Status::NotAvailable, "421 There are too many connections", ErrorKind::Busy(None)),
            (Status::NotLoggedIn, "530 Login incorrect.", ErrorKind::Denied),
            (
                Status::NotLoggedIn,
                "530 Sorry, the maximum number of clients",
                ErrorKind::Busy(None),
            ),
            (Status::FileUnavailable, "550 Failed to open file.", ErrorKind::NotFound),
            (Status::FileUnavailable, "550 a: Permission denied", ErrorKind::Denied),
            (Status::ExceededStorage, "552 Quota", ErrorKind::NoSpace),
            (Status::RequestedActionNotTaken, "452 Insufficient", ErrorKind::NoSpace),
            (Status::ActionAborted, "451 No space left on device", ErrorKind::NoSpace),
            (Status::ActionAborted, "451 Failure writing", ErrorKind::Other),
            (Status::TransferAborted, "426 Broken", ErrorKind::Unreachable),
            (Status::BadFilename, "553 Could not create file.", ErrorKind::Denied),
            (
                Status::Unknown,
                "522 SSL connection failed: session reuse required",
                ErrorKind::Unsupported,
            ),
        ] {
            let failure =
                Failure::of_reply(&Response::new(status, format!("{text}\x1b\r\n").into()));
            assert_eq!(failure.kind, kind, "{text}");
            assert_eq!(failure.cause, format!("the server reports '{text}'"), "{text}");
            assert_eq!(failure.is_reply, status != Status::NotAvailable);
        }
    }
}
