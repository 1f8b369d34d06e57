//! OpenPGP messages: which of three readers takes one.
//!
//! 1. Ours, for AES in a packet of tag 18, version 1, with zip, zlib or no compression: what gpg up
//!    to 2.2 writes, and any gpg for a passphrase. Two to three times as fast as the others, and
//!    the only one with real seek points.
//! 2. sequoia's, with a policy that lets old algorithms pass: other ciphers, bzip2, ASCII armor,
//!    odd signatures.
//! 3. The user's gpg: whatever else it reads, such as LibrePGP's packets of tag 20.
//!
//! A reader gives up with [`Cause::Unsupported`] before its first plain byte. None of them accepts
//! a message without integrity protection (tag 9, or not encrypted at all), and none reports the
//! end before the protection was checked.

mod aes;
mod cfb;
mod encrypt;
mod head;
mod message;
mod packets;
mod recipients;
pub(super) mod s2k;
mod seal;
mod sequoia;
#[cfg(target_arch = "x86_64")]
mod sha1_simd;
mod signature;
#[cfg(target_arch = "x86_64")]
mod unlock;
mod writer;

pub(super) use aes::{Aes, BLOCK};
pub(super) use cfb::BATCH;
pub use head::HEAD;
pub(super) use head::{Head, KeyPacket};
pub(super) use packets::{tag, write_chunks, write_last_chunk};
pub(super) use recipients::{Recipient, SigningKey};
pub(super) use signature::{Signer, parse_certs};
#[cfg(target_arch = "x86_64")]
pub(super) use unlock::unlock;
pub(super) use writer::{LEAD, Layout, MessageWriter};

use self::cfb::{Decrypt, PREFIX};
use self::message::Message;
use self::seal::Seal;
use self::signature::Verifier;
use super::Cause;
use super::keys::{Keys, Session};
use super::source::{LONG, SHORT, Stage};
use crate::storage::ReadAt;
use ::sequoia_openpgp as openpgp;
use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use openpgp::types::{HashAlgorithm, SymmetricAlgorithm};
use openpgp::{Packet, PacketPile};
use std::sync::{Arc, LazyLock};
use zeroize::Zeroizing;

/// sequoia's idea of what is secure, but for reading what has been written long ago.
static POLICY: LazyLock<StandardPolicy> = LazyLock::new(|| {
    let mut policy = StandardPolicy::new();
    for algorithm in SymmetricAlgorithm::variants() {
        policy.accept_symmetric_algo(algorithm);
    }
    for algorithm in openpgp::policy::AsymmetricAlgorithm::variants() {
        policy.accept_asymmetric_algo(algorithm);
    }
    policy.accept_hash(HashAlgorithm::SHA1);
    policy.accept_hash(HashAlgorithm::RipeMD);
    policy
});

/// Returns whether a message opens by a passphrase.
pub(super) fn has_passphrase(file: &Arc<dyn ReadAt>) -> Result<bool, Cause> {
    let packets = packet_list(&Head::read(file)?.keys);
    Ok(packets.iter().any(|packet| matches!(packet, Packet::SKESK(_))))
}

/// Parses a row of packets; what is no packet is left out.
pub(super) fn packet_list(bytes: &[u8]) -> Vec<Packet> {
    PacketPile::from_bytes(bytes).map(|pile| pile.into_children().collect()).unwrap_or_default()
}

/// Parses one packet with the given tag and body.
fn packet(tag: u8, body: &[u8]) -> Option<Packet> {
    let length = u32::try_from(body.len()).ok()?.to_be_bytes();
    packet_list(&[&[0xc0 | tag, 0xff], &length[..], body].concat()).into_iter().next()
}

/// Decodes a message from its start.
pub(super) fn open(keys: &Arc<Keys>, file: Arc<dyn ReadAt>) -> Result<Box<dyn Stage>, Cause> {
    let why = match Access::new(keys, &file)
        .and_then(|access| access.start(file.clone(), LONG, keys.signer()?))
    {
        Err(Cause::Unsupported(why)) => why,
        Err(cause) => return Err(cause),
        Ok(message) => return Ok(Box::new(message)),
    };
    match sequoia::open(keys, file.clone()) {
        Err(Cause::Unsupported(also)) => by_gpg(keys, file, &format!("{why} ({also})")),
        result => result,
    }
}

#[cfg(test)]
pub(super) use sequoia::open as by_sequoia;

fn by_gpg(keys: &Keys, file: Arc<dyn ReadAt>, why: &str) -> Result<Box<dyn Stage>, Cause> {
    let open = |passphrase: Option<&str>| {
        let accept = keys.signer()?.map(|signer| {
            let accept: super::gpg::Accept = Box::new(move |key, primary| signer.is(key, primary));
            accept
        });
        let mut gpg = keys.gpg.decrypt(file.clone(), passphrase, accept)?;
        // The first bytes, or gpg's refusal, which is worth more together with the reason why it
        // was called.
        match super::source::Source::fill(&mut gpg) {
            Ok(_) => Ok(Box::new(gpg) as Box<dyn Stage>),
            Err(Cause::Gpg(said)) => {
                Err(Cause::Unsupported(format!("{why}; gpg, tried in the end, says: {said}")))
            }
            Err(cause) => Err(cause),
        }
    };
    match keys.passphrase()? {
        Some(_) => keys.try_each(|passphrase| open(Some(passphrase))),
        None => open(None),
    }
}

/// All that random access to a message of our own kind needs.
pub(super) struct Access {
    head: Head,
    session: Arc<Session>,
    seal: Arc<Seal>,
}

impl Access {
    /// Finds the session key.
    ///
    /// [`Cause::Unsupported`] if the message is for other readers.
    pub fn new(keys: &Keys, file: &Arc<dyn ReadAt>) -> Result<Self, Cause> {
        let head = Head::read(file)?;
        let access = Self::find(keys, head.clone())?;
        let refusal = match keys.has_several() {
            true => access.begin(file.clone(), SHORT).err(),
            false => None,
        };
        match refusal {
            Some(cause) if cause.is_of_content() && keys.doubt(&head.keys, &access.session) => {
                Self::new(keys, file)
            }
            _ => Ok(access),
        }
    }

    fn find(keys: &Keys, head: Head) -> Result<Self, Cause> {
        let mut other_cipher = false;
        let found = keys.session(&head.keys, &mut |session| match Aes::new(
            session.algorithm,
            &session.key,
        ) {
            Some(aes) => opens(&aes, &head),
            None => {
                other_cipher = true;
                false
            }
        });
        let foreign = || Cause::Unsupported("another cipher than AES".to_owned());
        let session = found.map_err(|cause| if other_cipher { foreign() } else { cause })?;
        if Aes::new(session.algorithm, &session.key).is_none() {
            return Err(foreign());
        }
        let seal = Arc::new(Seal::new(&session.key, &head));
        Ok(Self { head, session, seal })
    }

    #[cfg(test)]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    fn aes(&self) -> Result<Aes, Cause> {
        Aes::new(self.session.algorithm, &self.session.key)
            .ok_or(Cause::damaged("its session key is invalid"))
    }

    /// Reads from the start, `stride` stored bytes at once; the signature is checked if a signer is
    /// demanded.
    pub fn start(
        &self,
        file: Arc<dyn ReadAt>,
        stride: usize,
        signer: Option<Signer>,
    ) -> Result<Message, Cause> {
        let decrypt = Decrypt::open(self.head.body(file, stride), self.aes()?, true)?;
        Message::open(decrypt, self.seal.clone(), signer.map(Verifier::new))
    }

    /// Reads from the start and checks nothing: `file` may end before the message does.
    pub fn begin(&self, file: Arc<dyn ReadAt>, stride: usize) -> Result<Message, Cause> {
        let decrypt = Decrypt::open(self.head.body(file, stride), self.aes()?, false)?;
        Ok(Message::open(decrypt, self.seal.clone(), None)?.unchecked())
    }

    /// Returns the key of the tag of this message's table, and of no other one's.
    pub fn table_key(&self) -> Zeroizing<[u8; 32]> {
        table_key(&self.session, &self.head)
    }

    /// Returns how many of the last ciphertext's bytes may lie behind a border of cipher blocks,
    /// counted modulo a block: where the borders are is not known, but where the modification
    /// detection code begins is, with `d3 14`.
    pub fn borders(&self, cipher: &[u8]) -> Result<Vec<usize>, Cause> {
        let aes = self.aes()?;
        let Some(code) = cipher.len().checked_sub(cfb::MDC).filter(|code| *code >= 2 * BLOCK)
        else {
            return Ok(Vec::new());
        };
        let fits = |behind: &usize| {
            let first = (cipher.len() - behind) % BLOCK;
            let block = first + (code - first) / BLOCK * BLOCK; // that the code begins in
            let mut plain = Vec::with_capacity(2 * BLOCK);
            aes.decrypt(&cipher[block - BLOCK..cipher.len().min(block + 2 * BLOCK)], &mut plain);
            plain[code - block..].starts_with(&cfb::MDC_HEADER)
        };
        Ok((0..BLOCK).filter(fits).collect())
    }

    /// Decrypts the last ciphertext of the message, with one of its [`borders`](Self::borders). The
    /// first two cipher blocks give nothing of use.
    pub fn decrypt_end(&self, cipher: &[u8], border: usize) -> Result<Zeroizing<Vec<u8>>, Cause> {
        let first = (cipher.len() - border) % BLOCK;
        let mut plain = Zeroizing::new(Vec::with_capacity(cipher.len() + BLOCK));
        plain.resize(first + BLOCK, 0);
        self.aes()?.decrypt(&cipher[first..], &mut plain);
        plain.truncate(cipher.len());
        Ok(plain)
    }

    /// Reads from a seek point on, to some place before the stored byte `end`.
    pub fn enter(&self, file: Arc<dyn ReadAt>, end: u64, sealed: &[u8]) -> Result<Message, Cause> {
        Message::enter(file, end, self.aes()?, self.seal.clone(), sealed)
    }

    /// Returns the offset of the stored byte at which a seek point begins to read.
    pub fn stored_start(&self, sealed: &[u8]) -> Result<u64, Cause> {
        Message::stored_start(&self.seal, sealed)
    }
}

/// Derives the key of a table's tag (RFC 5869). Files of a session may share a session key, but
/// none shares its prefix.
pub(super) fn table_key(session: &Session, head: &Head) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let derive = hkdf::Hkdf::<sha2::Sha256>::new(Some(&head.prefix), &session.key);
    // Fails for more than 255 hashes only.
    let _ = derive.expand_multi_info(
        &[b"dupfs 2026-11 table of an OpenPGP message: tag", &head.keys],
        &mut *key,
    );
    key
}

/// Whether a key opens the first bytes: one wrong key in 65536 seems to.
fn opens(aes: &Aes, head: &Head) -> bool {
    let mut plain = Vec::with_capacity(2 * BLOCK);
    aes.decrypt(&[&[0; BLOCK], &head.prefix[..]].concat(), &mut plain);
    plain[BLOCK - 2..BLOCK] == plain[BLOCK..PREFIX]
}
