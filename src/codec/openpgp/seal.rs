//! [`Seal`]: keeps seek points of an encrypted file as secret and as safe from changes as the file
//! itself.
//!
//! ChaCha20-Poly1305 under a key derived from the message's session key and its first bytes, so
//! that a state opens with the very message that it was made for only. The nonce is a keyed hash of
//! the plain state: the same state gives the same bytes, different states different nonces, and no
//! random numbers are needed.

use super::head::Head;
use crate::codec::Cause;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use zeroize::Zeroizing;

const NONCE: usize = 12;

pub struct Seal {
    cipher: ChaCha20Poly1305,
    nonces: Zeroizing<[u8; 32]>,
}

impl Seal {
    pub fn new(session_key: &[u8], head: &Head) -> Self {
        let derive = |context: &str| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(session_key).update(&head.prefix).update(&head.keys);
            Zeroizing::new(*hasher.finalize().as_bytes())
        };
        let key = derive("dupfs 2026-11 seek point of an OpenPGP message: key");
        let nonces = derive("dupfs 2026-11 seek point of an OpenPGP message: nonces");
        Self { cipher: ChaCha20Poly1305::new((&*key).into()), nonces }
    }

    /// Appends the sealed form of `plain`: nonce, ciphertext, tag.
    pub fn close(&self, plain: &[u8], state: &mut Vec<u8>) -> Result<(), Cause> {
        let hash = blake3::keyed_hash(&self.nonces, plain);
        let nonce = &hash.as_bytes()[..NONCE];
        let sealed = self.cipher.encrypt(Nonce::from_slice(nonce), plain);
        state.extend_from_slice(nonce);
        state.extend(sealed.map_err(|_| Cause::SeekPoint("it cannot be sealed"))?);
        Ok(())
    }

    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Cause> {
        let (nonce, sealed) =
            sealed.split_at_checked(NONCE).ok_or(Cause::SeekPoint("it is too short"))?;
        let plain = self.cipher.decrypt(Nonce::from_slice(nonce), sealed);
        plain
            .map(Zeroizing::new)
            .map_err(|_| Cause::SeekPoint("its seal is broken, or belongs to another file"))
    }
}
