//! [`Aes`]: the block cipher in the only direction that CFB needs, many blocks at once.

use aes::cipher::common::BlockSizeUser;
use aes::cipher::typenum::U16;
use aes::cipher::{BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, KeyInit};
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
    /// Takes OpenPGP's number of the algorithm; `None` when it is not AES, or the key's length is
    /// wrong.
    pub fn new(algorithm: u8, key: &[u8]) -> Option<Self> {
        match algorithm {
            7 => Aes128Enc::new_from_slice(key).ok().map(Self::K128),
            8 => Aes192Enc::new_from_slice(key).ok().map(Self::K192),
            9 => Aes256Enc::new_from_slice(key).ok().map(Self::K256),
            _ => None,
        }
    }

    /// Decrypts in CFB mode. `cipher` is the block before, then the encrypted bytes; `plain` gets
    /// as many bytes, rounded up to whole blocks, of which those behind the last encrypted one mean
    /// nothing.
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
    /// Encrypts one block in place.
    pub fn block(&self, block: &mut [u8; BLOCK]) {
        self.chain(Chain { before: block, blocks: None });
    }

    /// Encrypts whole blocks in CFB mode, in place. `before` is the cipher block before, and
    /// becomes the last one of `blocks`.
    pub fn encrypt(&self, before: &mut [u8; BLOCK], blocks: &mut [[u8; BLOCK]]) {
        self.chain(Chain { before, blocks: Some(blocks) });
    }

    fn chain(&self, chain: Chain) {
        match self {
            Self::K128(aes) => aes.encrypt_with_backend(chain),
            Self::K192(aes) => aes.encrypt_with_backend(chain),
            Self::K256(aes) => aes.encrypt_with_backend(chain),
        }
    }
}

/// Each block needs the one before, so nothing here is parallel; but inside the crate's own
/// function, compiled for the CPU at hand, the rounds are inlined and the keys stay in registers,
/// which is three times as fast as a call for each block.
struct Chain<'a> {
    before: &'a mut [u8; BLOCK],
    /// `None`: `before` itself is to be encrypted.
    blocks: Option<&'a mut [[u8; BLOCK]]>,
}

impl BlockSizeUser for Chain<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chain<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut stream = Block::from(*self.before);
        match self.blocks {
            None => backend.encrypt_block_inplace(&mut stream),
            Some(blocks) => {
                for block in blocks {
                    backend.encrypt_block_inplace(&mut stream);
                    let cipher = u128::from_ne_bytes(stream.0) ^ u128::from_ne_bytes(*block);
                    *block = cipher.to_ne_bytes();
                    stream = Block::from(*block);
                }
            }
        }
        *self.before = stream.0;
    }
}
