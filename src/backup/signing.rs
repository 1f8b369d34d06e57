//! [`Signing`]: the signature of a file as it streams by; of a large one on a thread of its own,
//! since the delta takes as long.

use super::spool::Spool;
use crate::rsync::SignatureWriter;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::thread::JoinHandle;

/// Files from this size on, in bytes, are worth a thread.
const LARGE: u64 = 8 << 20;
/// Bytes that are handed over at once: whole blocks, as many as are summed up together, unless that
/// would be too much; and how often they may wait.
const BATCH: usize = 256 << 10;
const MOST_BATCH: usize = 8 << 20;
const WAITING: usize = 4;

/// The signature of a file in the making.
pub enum Signing {
    /// On this thread.
    Here(SignatureWriter<Spool>),
    /// On another one.
    There {
        /// Takes what is to be signed.
        sender: Sender<Vec<u8>>,
        /// What has not been handed over.
        batch: Vec<u8>,
        /// How much is handed over at once.
        size: usize,
        /// Gives the signature and its length.
        worker: JoinHandle<io::Result<(Spool, u64)>>,
    },
}

impl Signing {
    /// Begins the signature of a file of about `size` bytes.
    ///
    /// # Errors
    /// Those of the spool.
    pub fn new(spool: Spool, block_length: u32, size: u64) -> io::Result<Self> {
        let writer = SignatureWriter::new(spool, block_length)?;
        if size < LARGE {
            return Ok(Self::Here(writer));
        }
        let (sender, receiver) = bounded(WAITING);
        let worker = std::thread::Builder::new()
            .name("signature".into())
            .spawn(move || sign(writer, &receiver))?;
        let size = BATCH.next_multiple_of(8 * block_length as usize).min(MOST_BATCH);
        Ok(Self::There { sender, batch: Vec::with_capacity(size), size, worker })
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// Those of the spool; they may also come at the end only.
    pub fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Here(writer) => writer.update(bytes),
            Self::There { sender, batch, size, .. } => {
                while !bytes.is_empty() {
                    let (now, rest) = bytes.split_at(bytes.len().min(*size - batch.len()));
                    batch.extend_from_slice(now);
                    bytes = rest;
                    if batch.len() == *size {
                        // Nobody takes it when the spool has failed, which the end tells.
                        let _ = sender.send(std::mem::replace(batch, Vec::with_capacity(*size)));
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends the file; returns its signature and the signature's length in bytes.
    ///
    /// # Errors
    /// Those of the spool.
    pub fn finish(self) -> io::Result<(Spool, u64)> {
        match self {
            Self::Here(writer) => writer.finish(),
            Self::There { sender, batch, worker, .. } => {
                let _ = sender.send(batch);
                drop(sender);
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

fn sign(
    mut writer: SignatureWriter<Spool>,
    receiver: &Receiver<Vec<u8>>,
) -> io::Result<(Spool, u64)> {
    for bytes in receiver {
        writer.update(&bytes)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_thread_makes_no_difference() {
        let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let directory = tempfile::tempdir().unwrap();
        let sign = |size| {
            let mut signing = Signing::new(Spool::new(directory.path()), 3072, size).unwrap();
            content.chunks(100_001).for_each(|bytes| signing.update(bytes).unwrap());
            let (mut spool, length) = signing.finish().unwrap();
            let mut signature = Vec::new();
            spool.rewind().unwrap();
            spool.read_to_end(&mut signature).unwrap();
            assert_eq!(signature.len() as u64, length);
            signature
        };
        assert_eq!(sign(0), sign(LARGE));
    }
}
