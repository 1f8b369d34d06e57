//! OpenPGP messages: which of three readers takes one.
//!
//! 1. Ours, for AES in a packet of tag 18, version 1, with zip, zlib or no compression: what gpg up
//!    to 2.2 writes, and any gpg for a passphrase. Two to three times as fast as the others, and
//!    the only one with real seek points.
//! 2. sequoia's, with a policy that lets old algorithms pass: other ciphers, bzip2, ASCII armor,
//!    odd signatures.
//! 3. The user's gpg: whatever else it reads, such as LibrePGP's packets of tag 20.
//!
//! A reader gives up with [`Cause::Unsupported`](super::Cause::Unsupported) before its first plain byte. None of them accepts
//! a message without integrity protection (tag 9, or not encrypted at all), and none reports the
//! end before the protection was checked.

mod access;
mod aes;
mod cfb;
mod encrypt;
mod head;
mod message;
mod packets;
mod parsed;
mod recipients;
pub(super) mod s2k;
mod seal;
mod sequoia;
mod session;
#[cfg(target_arch = "x86_64")]
mod sha1_simd;
mod signature;
#[cfg(target_arch = "x86_64")]
mod unlock;
mod writer;

pub(super) use access::{Access, has_passphrase, open};
pub(super) use aes::{Aes, BLOCK};
pub(super) use cfb::BATCH;
pub use head::HEAD;
pub(super) use head::{Head, KeyPacket};
pub(super) use packets::{tag, write_chunks, write_last_chunk};
pub(super) use parsed::packet_list;
pub(super) use recipients::{Recipient, SigningKey};
pub(super) use signature::{Signer, parse_certs};
#[cfg(target_arch = "x86_64")]
pub(super) use unlock::unlock;
pub(super) use writer::{LEAD, Layout, MessageWriter};

#[cfg(test)]
pub(super) use sequoia::open as by_sequoia;
