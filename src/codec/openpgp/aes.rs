//! [`Aes`]: the block cipher in the only direction that CFB needs, many blocks at once.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128Enc, Aes192Enc, Aes256Enc, Block};

/// Bytes of a block.
pub const BLOCK: usize = 16;

/// AES with a key; the crate wipes its round keys when they are dropped (feature `zeroize`).
pub enum Aes {
    K128(Aes128Enc),
    K192(Aes192Enc),
    K256(Aes256Enc),
}

impl Aes {
    /// Takes OpenPGP's number of the algorithm; `None` when it is not AES, or the key's length is wrong.
    pub fn new(algorithm: u8, key: &[u8]) -> Option<Self> {
        match algorithm {
            7 => Aes128Enc::new_from_slice(key).ok().map(Self::K128),
            8 => Aes192Enc::new_from_slice(key).ok().map(Self::K192),
            9 => Aes256Enc::new_from_slice(key).ok().map(Self::K256),
            _ => None,
        }
    }

    /// Decrypts in CFB mode. `cipher` is the block before, then the encrypted bytes; `plain` gets as many bytes, rounded up to
    /// whole blocks, of which those behind the last encrypted one mean nothing.
    pub fn decrypt(&self, cipher: &[u8], plain: &mut Vec<u8>) {
        let start = plain.len();
        let length = cipher.len().saturating_sub(BLOCK);
        plain.resize(start + length.next_multiple_of(BLOCK), 0);
        let (input, _) = Block::slice_as_chunks(cipher);
        let (output, _) = Block::slice_as_chunks_mut(&mut plain[start..]);
        let input = &input[..output.len()];
        // The slices are equally long, so none of these can fail.
        let _ = match self {
            Self::K128(aes) => aes.encrypt_blocks_b2b(input, output),
            Self::K192(aes) => aes.encrypt_blocks_b2b(input, output),
            Self::K256(aes) => aes.encrypt_blocks_b2b(input, output),
        };
        for (plain, cipher) in plain[start..].iter_mut().zip(&cipher[BLOCK..]) {
            *plain ^= cipher;
        }
    }
}
