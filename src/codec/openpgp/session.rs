//! What a session key opens, and what is derived from it.

use super::aes::{Aes, BLOCK};
use super::cfb::PREFIX;
use super::head::Head;
use crate::codec::keys::Session;
use zeroize::Zeroizing;

/// Derives the key of a table's tag (RFC 5869). Files of a session may share a session key, but
/// none shares its prefix.
pub fn table_key(session: &Session, head: &Head) -> Zeroizing<[u8; 32]> {
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
pub fn opens(aes: &Aes, head: &Head) -> bool {
    let mut plain = Vec::with_capacity(2 * BLOCK);
    aes.decrypt(&[&[0; BLOCK], &head.prefix[..]].concat(), &mut plain);
    plain[BLOCK - 2..BLOCK] == plain[BLOCK..PREFIX]
}
