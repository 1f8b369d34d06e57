//! The packets of the SFTP protocol, version 3: requests to bytes, bytes to [`Reply`].
//!
//! Source: draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for the extensions. What the server
//! sends is checked before it is believed: each field has to lie in its packet. Names are bytes, as
//! the server's file system has them: one that is not UTF-8 is no reason not to see the others.

/// Kinds of requests.
pub mod kind {
    pub const INIT: u8 = 1;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const EXTENDED: u8 = 200;
}

/// How a file is opened.
pub mod open {
    pub const READ: u32 = 1;
    /// For writing; it must not be there yet.
    pub const CREATE_NEW: u32 = 0x02 | 0x08 | 0x20;
}

/// Codes of a status.
pub mod status {
    pub const OK: u32 = 0;
    pub const EOF: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const FAILURE: u32 = 4;
    /// What the system calls an invalid argument, too.
    pub const BAD_MESSAGE: u32 = 5;
    pub const NO_CONNECTION: u32 = 6;
    pub const CONNECTION_LOST: u32 = 7;
    pub const UNSUPPORTED: u32 = 8;
}

const VERSION: u8 = 2;
const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_EXTENDED: u32 = 0x8000_0000;

/// A request in the making.
pub struct Request(Vec<u8>);

impl Request {
    /// Begins the first packet of a connection.
    pub fn init() -> Self {
        Self(vec![0, 0, 0, 0, kind::INIT]).number(3)
    }

    /// Begins a request.
    pub fn new(kind: u8, id: u32) -> Self {
        Self(vec![0, 0, 0, 0, kind]).number(id)
    }

    /// Adds a number of four bytes.
    pub fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds a number of eight bytes.
    pub fn long(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds bytes, and before them how many.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.number(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds attributes that change nothing.
    pub fn no_attributes(self) -> Self {
        self.number(0)
    }

    /// Adds the time of the last change, in seconds since 1970, as the only attribute.
    pub fn modified(self, seconds: u32) -> Self {
        self.number(HAS_TIMES).number(seconds).number(seconds)
    }

    /// Returns the whole packet.
    pub fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// What the server says about a file, as far as it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub size: Option<u64>,
    pub mode: Option<u32>,
    pub modified: Option<u32>,
}

/// What is of this type: a regular file, a folder, a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    File,
    Folder,
    Other,
    /// The server does not say, or it is a link, which may lead to anything.
    Unknown,
}

impl Attributes {
    /// Returns what it is.
    pub fn kind(&self) -> Type {
        match self.mode.map(|mode| mode & libc::S_IFMT) {
            Some(libc::S_IFREG) => Type::File,
            Some(libc::S_IFDIR) => Type::Folder,
            Some(libc::S_IFLNK | 0) | None => Type::Unknown,
            Some(_) => Type::Other,
        }
    }
}

/// What the server answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, or why not, in the server's words.
    Status(u32, String),
    /// An open file or folder.
    Handle(Vec<u8>),
    /// Bytes of a file.
    Data(Vec<u8>),
    /// Names in a folder.
    Names(Vec<(Vec<u8>, Attributes)>),
    /// About one file.
    Attributes(Attributes),
    /// What an extension defines.
    Extended(Vec<u8>),
}

/// Returns the number of a request and the answer to it; `None` for what is no such packet.
pub fn reply(packet: &[u8]) -> Option<(u32, Reply)> {
    let mut fields = Fields(packet);
    let (kind, id) = (fields.byte()?, fields.number()?);
    let reply = match kind {
        101 => {
            let code = fields.number()?;
            // Some servers leave the text out.
            let text = fields.bytes().unwrap_or_default();
            Reply::Status(code, String::from_utf8_lossy(text).into_owned())
        }
        102 => Reply::Handle(fields.bytes().filter(|handle| handle.len() <= 256)?.to_vec()),
        103 => Reply::Data(fields.bytes()?.to_vec()),
        104 => {
            let count = fields.number()?;
            let mut names = Vec::new();
            for _ in 0..count {
                let name = fields.bytes()?.to_vec();
                fields.bytes()?; // the line of `ls -l`
                names.push((name, fields.attributes()?));
            }
            Reply::Names(names)
        }
        105 => Reply::Attributes(fields.attributes()?),
        201 => Reply::Extended(fields.0.to_vec()),
        _ => return None,
    };
    Some((id, reply))
}

/// Returns the names of the extensions that the server offers in its first packet; `None` if that
/// is another packet, or of another version of the protocol.
pub fn extensions(packet: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut fields = Fields(packet);
    if (fields.byte()?, fields.number()?) != (VERSION, 3) {
        return None;
    }
    let mut names = Vec::new();
    while !fields.0.is_empty() {
        names.push(fields.bytes()?.to_vec());
        fields.bytes()?; // its version
    }
    Some(names)
}

/// What is left of a packet.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Takes a number of four bytes.
    pub fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Takes a number of eight bytes.
    pub fn long(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.take(count as usize)
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.number()?;
        let mut found = Attributes::default();
        if flags & HAS_SIZE != 0 {
            found.size = Some(self.long()?);
        }
        if flags & HAS_OWNER != 0 {
            self.long()?;
        }
        if flags & HAS_MODE != 0 {
            found.mode = Some(self.number()?);
        }
        if flags & HAS_TIMES != 0 {
            self.number()?;
            found.modified = Some(self.number()?);
        }
        if flags & HAS_EXTENDED != 0 {
            for _ in 0..self.number()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a packet without its length.
    fn body(request: Request) -> Vec<u8> {
        request.finish().split_off(4)
    }

    #[test]
    fn names_are_bytes_and_attributes_may_be_missing() {
        let packet = Request::new(104, 7).number(2);
        let packet = packet.bytes(b"bad\xff").bytes(b"long").number(HAS_SIZE | HAS_MODE);
        let packet = packet.long(5).number(0o100_644);
        let packet = body(packet.bytes(b"b").bytes(b"").number(0));
        let file = Attributes { size: Some(5), mode: Some(0o100_644), modified: None };
        let names = vec![(b"bad\xff".to_vec(), file), (b"b".to_vec(), Attributes::default())];
        assert_eq!(reply(&packet), Some((7, Reply::Names(names))));
        assert_eq!((file.kind(), Attributes::default().kind()), (Type::File, Type::Unknown));
    }

    /// Each packet, cut anywhere, or with a length that is a lie, is no packet, and takes no memory.
    #[test]
    fn what_is_cut_or_lies_is_refused() {
        let times = body(Request::new(105, 1).modified(9));
        let many = body(Request::new(104, 1).number(u32::MAX));
        let long = body(Request::new(103, 1).number(u32::MAX));
        let unknown = body(Request::new(99, 1));
        assert!(reply(&times).is_some());
        for packet in [&many, &long, &unknown] {
            assert_eq!(reply(packet), None);
        }
        (0..times.len()).for_each(|end| assert_eq!(reply(&times[..end]), None));
        let status = body(Request::new(101, 1).number(status::EOF));
        assert_eq!(reply(&status), Some((1, Reply::Status(status::EOF, String::new()))));
        let hello = body(Request::new(VERSION, 3).bytes(b"limits@openssh.com").bytes(b"1"));
        assert_eq!(extensions(&hello), Some(vec![b"limits@openssh.com".to_vec()]));
        assert_eq!(extensions(&hello[..hello.len() - 1]), None);
        assert_eq!(extensions(&body(Request::new(VERSION, 4))), None);
    }
}
