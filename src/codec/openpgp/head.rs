//! [`Head`]: what stands before the encrypted bytes of a message.

use super::cfb::PREFIX;
use super::packets::{Body, Extent, Header, tag};
use crate::codec::Cause;
use crate::codec::source::{Source, Stored};
use crate::storage::ReadAt;
use std::sync::Arc;

/// Bytes that are read at once to find the session key: enough for some recipients. Whoever keeps
/// so many of a file need not ask for them again.
pub const HEAD: usize = 2048;

/// Most bytes that the packets with the session key may have in all: some 400 recipients with
/// RSA-4096 keys.
const KEYS_LIMIT: usize = 256 << 10;

/// A packet that holds the session key: tag and body.
pub type KeyPacket = (u8, Vec<u8>);

/// The packets that hold the session key, and where the encrypted bytes begin.
#[derive(Clone)]
pub struct Head {
    /// The packets with the session key (tags 1 and 3), headers in the new format.
    pub keys: Vec<u8>,
    /// First encrypted bytes: 16 random ones and a repetition of the last two.
    pub prefix: [u8; PREFIX],
    /// Offset of `prefix` in the file, and what the packet has left from there on.
    start: (u64, Extent),
}

impl Head {
    /// Reads the head of a message with a packet of tag 18, version 1.
    ///
    /// [`Cause::Unsupported`] means that another reader may be able to read it.
    pub fn read(file: &Arc<dyn ReadAt>) -> Result<Self, Cause> {
        let mut stored = Stored::new(file.clone(), 0, HEAD);
        match stored.fill()? {
            [] => return Err(Cause::Truncated),
            [b'-' | b'\n' | b'\r' | b' ', ..] => {
                return Err(Cause::Unsupported("ASCII armor".to_owned()));
            }
            _ => {}
        }
        let mut keys = Vec::new();
        while let Some(Header { tag, extent }) = Header::read(&mut stored)? {
            let mut body = Body::new(stored, extent);
            match tag {
                tag::PUBLIC_KEY_ENCRYPTED_SESSION_KEY
                | tag::SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY => {
                    let packet = body.read_all(KEYS_LIMIT)?;
                    write_key_packet(tag, &packet, &mut keys);
                    if keys.len() > KEYS_LIMIT {
                        return Err(Cause::damaged(format!(
                            "its session keys take more than {KEYS_LIMIT} bytes"
                        )));
                    }
                }
                tag::MARKER | tag::PADDING => {}
                tag::ENCRYPTED_AND_PROTECTED => return Self::encrypted(keys, body),
                tag::ENCRYPTED => return Err(Cause::NotAuthentic(UNPROTECTED.to_owned())),
                tag::COMPRESSED | tag::LITERAL | tag::ONE_PASS_SIGNATURE | tag::SIGNATURE => {
                    return Err(Cause::NotAuthentic(
                        "it is an OpenPGP message, but not encrypted".to_owned(),
                    ));
                }
                _ => return Err(Cause::Unsupported(format!("OpenPGP packet with tag {tag}"))),
            }
            body.drain()?;
            stored = body.into_source();
        }
        Err(Cause::Truncated)
    }

    /// Takes what a writer has made: packets with the session key, and the prefix.
    pub fn of_new(packets: &[KeyPacket], prefix: [u8; PREFIX]) -> Self {
        let mut keys = Vec::new();
        packets.iter().for_each(|(tag, body)| write_key_packet(*tag, body, &mut keys));
        Self { keys, prefix, start: (0, Extent::NONE) }
    }

    fn encrypted(keys: Vec<u8>, mut body: Body<Stored>) -> Result<Self, Cause> {
        match body.needed()? {
            1 => {}
            version => {
                return Err(Cause::Unsupported(format!(
                    "OpenPGP packet with tag 18, version {version}"
                )));
            }
        }
        body.fill()?; // gets over the length of a chunk
        let start = (body.source().offset(), body.extent());
        let mut prefix = [0; PREFIX];
        body.fill_exactly(&mut prefix)?;
        Ok(Self { keys, prefix, start })
    }

    /// Opens the encrypted bytes.
    pub fn body(&self, file: Arc<dyn ReadAt>, stride: usize) -> Body<Stored> {
        Body::new(Stored::new(file, self.start.0, stride), self.start.1)
    }
}

fn write_key_packet(tag: u8, body: &[u8], keys: &mut Vec<u8>) {
    keys.push(0xc0 | tag);
    super::packets::write_last_chunk(body, keys);
}

const UNPROTECTED: &str = "it is encrypted without integrity protection (packet tag 9, as by gpg 1.x or --rfc2440), so anybody could \
    have changed it; to trust it all the same, decrypt it with 'gpg --ignore-mdc-error --decrypt'";
