//! From a passphrase to a key (RFC 4880 3.7).
//!
//! Each symmetric message of gpg has its own salt and hashes 62 MiB, twice for AES-256 with SHA-1,
//! gpg's choice up to 2.2. sequoia does all kinds, but hashes by an SHA-1 that looks for collision
//! attacks, at a quarter of the speed; so that one kind is done here.

use openpgp::crypto::{Password, S2K, SessionKey};
use openpgp::types::HashAlgorithm;
use sequoia_openpgp as openpgp;
use sha1::{Digest, Sha1};

/// Bytes hashed by a call: many repetitions of salt and passphrase.
const STRIDE: usize = 64 << 10;

/// Derives a key of `size` bytes.
pub fn derive(s2k: &S2K, passphrase: &Password, size: usize) -> openpgp::Result<SessionKey> {
    match s2k {
        S2K::Iterated { hash: HashAlgorithm::SHA1, salt, hash_bytes } => Ok(passphrase
            .map(|passphrase| iterated_sha1(salt, passphrase, *hash_bytes as usize, size))),
        _ => s2k.derive_key(passphrase, size),
    }
}

/// Hashes `count` bytes of salt, passphrase, salt, ..., the whole at least once; one more hash,
/// begun with one more zero byte, for each 20 bytes of the key.
pub fn iterated_sha1(salt: &[u8; 8], passphrase: &[u8], count: usize, size: usize) -> SessionKey {
    #[cfg(test)]
    tests::derived(salt);
    let unit = [salt, passphrase].concat();
    let repeated: SessionKey = unit.repeat(STRIDE.div_ceil(unit.len())).into();
    let count = count.max(unit.len());
    let hash = |zeros: usize| {
        let mut hasher = Sha1::new();
        hasher.update(&[0; 8][..zeros]);
        for _ in 0..count / repeated.len() {
            hasher.update(&repeated);
        }
        hasher.update(&repeated[..count % repeated.len()]);
        hasher.finalize()
    };
    let hash = &hash;
    let mut key: SessionKey = vec![0; size].into();
    std::thread::scope(|scope| {
        let spawn =
            |zeros| std::thread::Builder::new().spawn_scoped(scope, move || hash(zeros)).ok();
        let others: Vec<_> = (1..size.div_ceil(20)).map(spawn).collect();
        let first = [hash(0)].into_iter();
        let others = others.into_iter().enumerate();
        let hashes =
            first.chain(others.map(|(i, thread)| {
                thread.and_then(|t| t.join().ok()).unwrap_or_else(|| hash(i + 1))
            }));
        for (part, hash) in key.chunks_mut(20).zip(hashes) {
            part.copy_from_slice(&hash[..part.len()]);
        }
    });
    key
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::collections::HashMap;
    use std::sync::LazyLock;

    /// How often a key was derived from each salt.
    static DERIVED: LazyLock<Mutex<HashMap<[u8; 8], usize>>> = LazyLock::new(Mutex::default);

    pub fn derived(salt: &[u8; 8]) {
        *DERIVED.lock().entry(*salt).or_default() += 1;
    }

    pub fn derivations(salt: &[u8; 8]) -> usize {
        DERIVED.lock().get(salt).copied().unwrap_or_default()
    }

    #[test]
    fn equals_sequoia() {
        for count in [0, 20, 1024, 65_536, 100_000, 65_011_712] {
            for phrase in ["", "x", "geheim", &"long ".repeat(30_000)] {
                if count > 1 << 20 && phrase != "geheim" {
                    continue;
                }
                let s2k = S2K::Iterated {
                    hash: HashAlgorithm::SHA1,
                    salt: *b"saltsalt",
                    hash_bytes: count,
                };
                for size in [16, 24, 32] {
                    assert_eq!(
                        derive(&s2k, &phrase.into(), size).unwrap(),
                        s2k.derive_key(&phrase.into(), size).unwrap()
                    );
                }
            }
        }
    }
}
