//! [`Encrypt`]: the body of an encrypted packet (tag 18, version 1) in the making; the counterpart
//! of [`Decrypt`](super::cfb::Decrypt).

use super::aes::{Aes, BLOCK};
use super::cfb::{MDC, MDC_HEADER, PREFIX};
use crate::codec::Cause;
use sequoia_openpgp::crypto::random;
use sha1::{Digest, Sha1};

/// Bytes hashed and then encrypted at once, while they are in the processor's nearest cache.
const BATCH: usize = 16 << 10;

/// Encrypts in CFB mode and computes the modification detection code.
pub struct Encrypt {
    aes: Aes,
    /// The last whole cipher block.
    before: [u8; BLOCK],
    /// The block that has been begun: `used` bytes of ciphertext, then key stream.
    block: [u8; BLOCK],
    used: usize,
    hash: Sha1,
}

impl Encrypt {
    /// Writes the encrypted prefix, with which the bytes behind the version number begin.
    pub fn begin(aes: Aes) -> Result<(Self, [u8; PREFIX]), Cause> {
        let mut prefix = [0; PREFIX];
        random(&mut prefix[..BLOCK])
            .map_err(|e| Cause::Local(format!("no random numbers: {e}")))?;
        prefix.copy_within(BLOCK - 2..BLOCK, BLOCK);
        let mut encrypt =
            Self { aes, before: [0; BLOCK], block: [0; BLOCK], used: 0, hash: Sha1::new() };
        encrypt.update(&mut prefix);
        Ok((encrypt, prefix))
    }

    /// Returns the last whole cipher block so far.
    pub fn before(&self) -> [u8; BLOCK] {
        self.before
    }

    /// Encrypts the next bytes in place.
    pub fn update(&mut self, data: &mut [u8]) {
        for batch in data.chunks_mut(BATCH) {
            self.hash.update(&*batch);
            self.cipher(batch);
        }
    }

    /// Appends the modification detection code, behind which nothing may follow.
    pub fn finish(&mut self, body: &mut Vec<u8>) {
        self.hash.update(MDC_HEADER);
        let mut code = [0; MDC];
        code[..MDC_HEADER.len()].copy_from_slice(&MDC_HEADER);
        code[MDC_HEADER.len()..].copy_from_slice(&self.hash.clone().finalize());
        self.cipher(&mut code);
        body.extend_from_slice(&code);
    }

    fn cipher(&mut self, data: &mut [u8]) {
        let (head, data) =
            data.split_at_mut(if self.used == 0 { 0 } else { data.len().min(BLOCK - self.used) });
        self.bytes(head);
        let (blocks, tail) = data.as_chunks_mut();
        self.aes.encrypt(&mut self.before, blocks);
        if !tail.is_empty() {
            self.block = self.before;
            self.aes.block(&mut self.block);
            self.bytes(tail);
        }
    }

    /// Encrypts bytes inside of the block that has been begun.
    fn bytes(&mut self, data: &mut [u8]) {
        for (key, byte) in self.block[self.used..].iter_mut().zip(&mut *data) {
            *key ^= *byte;
            *byte = *key;
        }
        self.used += data.len();
        if self.used == BLOCK {
            (self.before, self.used) = (self.block, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_of_any_size(data: Vec<u8>, pieces in prop::collection::vec(0..70usize, 0..50)) {
            let key = [7; 32];
            let (mut encrypt, prefix) = Encrypt::begin(Aes::new(9, &key).unwrap()).unwrap();
            let mut stored = prefix.to_vec();
            let mut rest = &data[..];
            for piece in pieces.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                let at = stored.len();
                stored.extend_from_slice(now);
                encrypt.update(&mut stored[at..]);
                rest = later;
                let whole = stored.len() / BLOCK * BLOCK;
                prop_assert_eq!(&encrypt.before()[..], &stored[whole - BLOCK..whole]);
            }
            encrypt.finish(&mut stored);
            let mut plain = Vec::new();
            Aes::new(9, &key).unwrap().decrypt(&[&[0; BLOCK], &stored[..]].concat(), &mut plain);
            plain.truncate(stored.len());
            let (hashed, code) = plain.split_at(plain.len() - 20);
            prop_assert_eq!(&hashed[PREFIX..hashed.len() - 2], &data[..]);
            prop_assert_eq!(&hashed[hashed.len() - 2..], &MDC_HEADER);
            prop_assert_eq!(code, &Sha1::digest(hashed)[..]);
        }
    }
}
