//! Plain bytes to stored bytes: the way back of [`Decoder`](super::Decoder), and seek points and a
//! table for the reader to come.
//!
//! ```text
//! plain, some 1 MiB ─► Encoder::frame: deflate (any thread, any order) ─► Frame
//! Frame, in order ──► EncodedFile::push: join, encrypt, sign ─► sink
//!                     end_frames: the seek point of each frame ─► finish_with_table, or finish
//! ```
//! Frames need nothing of each other, so all cores deflate, and a reader inflates just the frame
//! that it wants. A frame is a gzip member of its own, or ends as after a full flush inside of
//! OpenPGP's one deflate stream. An [`EncodedFile`] is serial: it only joins and encrypts, at 400
//! MB/s and more, which is several times what a core deflates. Only signed files are deflated there
//! too.
//!
//! What may stand behind the frames is a *table*, of which this module knows nothing but how to
//! find it from the file's end.
//!
//! What gpg would have done is done here in its stead, for it can do none of the above; gpg signs,
//! since it has the secret keys. Unlike gpg: recipients are taken whatever trust is put in them, as
//! by duplicity 3; their preferences count for the choice among the three kinds of AES only; and
//! compression is zip even where zlib or bzip2 is asked. gpg.conf counts as [`GpgOptions`] tells.

mod deflate;
mod file;
mod options;
mod table;

pub use file::{EncodedFile, EncodedWriter};
pub use options::{GpgOptions, gpg_home, parse_gpg_options, read_gpg_options};
pub use table::Table;

use super::gpg::{Gpg, Signature, first_line};
use super::keys::{Keys, Passphrase, Session};
use super::openpgp::{
    Access, Head, KeyPacket, Layout, MessageWriter, Recipient, SigningKey, packet_list, s2k, tag,
};
use super::{Cause, Codec, Encoding, Error, PassphraseSource};
use crate::storage::ReadAt;
use openpgp::crypto::{Password, S2K, SessionKey, random};
use openpgp::types::HashAlgorithm;
use openpgp::{KeyID, Packet};
use sequoia_openpgp as openpgp;
use std::sync::Arc;

/// How to encode the files of a session.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// Of all of them. OpenPGP is symmetric, with the passphrase of the [`Codec`], when there are
    /// no recipients.
    pub encoding: Encoding,
    /// Compression level, 0 (stored) to 9; `None` for no compression at all, which gzip takes for 0
    /// (`--no-compression`).
    pub level: Option<u8>,
    /// Whom to encrypt for (`--encrypt-key`), as gpg names keys.
    pub recipients: Vec<String>,
    /// The same, but their key IDs are left out of the files (`--hidden-encrypt-key`).
    pub hidden_recipients: Vec<String>,
    /// Who signs OpenPGP files (`--sign-key`).
    pub sign_key: Option<String>,
    /// Passphrase of the signing key (environment `SIGN_PASSPHRASE`).
    pub sign_passphrase: PassphraseSource,
    /// What gpg.conf and `--gpg-options` ask for; the words for gpg itself are taken from the
    /// [`Codec`].
    pub gpg_options: GpgOptions,
    /// Seconds since 1970 UTC, to be written into the files.
    pub time: u32,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            encoding: Encoding::OpenPgp,
            level: Some(6),
            recipients: Vec::new(),
            hidden_recipients: Vec::new(),
            sign_key: None,
            sign_passphrase: PassphraseSource::None,
            gpg_options: GpgOptions::default(),
            time: 0,
        }
    }
}

/// What the key packets of each file are made from.
enum Lock {
    /// The passphrase, stretched once with one salt: the session key of all files, and their key
    /// packet.
    Passphrase { session: Arc<Session>, packet: Vec<u8> },
    /// Keys of recipients: each file has a session key of its own.
    Recipients { cipher: u8, recipients: Vec<Recipient> },
}

/// Who signs and how.
struct Signer {
    gpg: Gpg,
    key: SigningKey,
    digest: u8,
    passphrase: Option<Passphrase>,
}

impl Signer {
    fn start(&self) -> Result<Signature, Cause> {
        let digest = HashAlgorithm::from(self.digest).to_string();
        self.gpg.sign(&self.key.fingerprint, &digest, self.passphrase.as_ref().map(|p| p.as_str()))
    }
}

/// Encodes the files of one session. May be used from many threads at once.
pub struct Encoder {
    keys: Arc<Keys>,
    encoding: Encoding,
    /// `None`: no compression.
    level: Option<u8>,
    time: u32,
    lock: Option<Lock>,
    signer: Option<Signer>,
}

/// Plain bytes made ready for [`EncodedFile::push`].
#[derive(Debug)]
pub struct Frame {
    plain: u64,
    bytes: Vec<u8>,
}

impl Frame {
    /// Returns the number of plain bytes.
    pub fn plain_len(&self) -> u64 {
        self.plain
    }

    /// Returns the number of bytes that it adds to the stored file, but for encryption's framing
    /// (below 1 %); the plain ones, if it has to be signed.
    pub fn stored_len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Codec {
    /// Prepares to encode the files of a session. Stretches the passphrase, or gets the recipients'
    /// keys from gpg, once for all.
    ///
    /// # Errors
    /// [`Error`] without a file name: [`Cause::NoPassphrase`] and [`Cause::EmptyPassphrase`] when
    /// one is needed, [`Cause::Recipient`] and [`Cause::Signing`] when a key can't be used,
    /// [`Cause::GpgOption`], [`Cause::Gpg`] when gpg cannot be run, [`Cause::Passphrase`] when
    /// asking fails.
    pub fn encoder(&self, options: EncodeOptions) -> Result<Arc<Encoder>, Error> {
        Encoder::new(&self.keys, options).map(Arc::new).map_err(|cause| cause.of(""))
    }
}

impl Encoder {
    fn new(keys: &Arc<Keys>, options: EncodeOptions) -> Result<Self, Cause> {
        let asked = &options.gpg_options;
        let encrypts = options.encoding == Encoding::OpenPgp;
        let level = match options.encoding {
            Encoding::Plain => None,
            Encoding::Gzip => Some(options.level.unwrap_or(0)),
            // gpg's level 0 is no compression; its 6, which is zlib's, makes 2 % more of the
            // benchmark's data than 5 of libdeflate.
            Encoding::OpenPgp => match options
                .level
                .filter(|_| asked.compresses())
                .map(|level| asked.level.unwrap_or(level))
            {
                None | Some(0) => None,
                Some(6) => Some(5),
                Some(level) => Some(level),
            },
        };
        if let Some(level) = level.filter(|level| *level > 9) {
            return Err(Cause::Other(format!("there is no compression level {level}")));
        }
        let lock = if encrypts { Some(Lock::new(keys, &options)?) } else { None };
        let signer = match &options.sign_key {
            Some(name) if encrypts => {
                let gpg = Gpg {
                    options: parse_gpg_options(&keys.gpg.options)?.program,
                    ..keys.gpg.clone()
                };
                let key = SigningKey::find(&gpg, name)?;
                let passphrase = options.sign_passphrase.get(gpg.use_agent)?;
                Some(Signer {
                    gpg,
                    key,
                    digest: asked.signing_digest().unwrap_or(SHA512),
                    passphrase,
                })
            }
            _ => None,
        };
        Ok(Self {
            keys: keys.clone(),
            encoding: options.encoding,
            level,
            time: options.time,
            lock,
            signer,
        })
    }

    /// Makes a frame of about 1 MiB of plain bytes: deflates them, if that is wanted. What does not
    /// shrink is stored, which takes a fraction of the time. To be called from as many threads as
    /// there are cores.
    ///
    /// # Errors
    /// [`Error`] without a file name, when the deflater fails.
    pub fn frame(&self, plain: Vec<u8>) -> Result<Frame, Error> {
        let length = plain.len() as u64;
        let bytes = match (self.encoding, self.level) {
            (Encoding::Gzip, level) => deflate::members(&plain, level.unwrap_or(0), self.time),
            (Encoding::OpenPgp, Some(level)) if self.signer.is_none() => {
                deflate::flushed(&plain, level)
            }
            _ => Ok(plain),
        };
        Ok(Frame { plain: length, bytes: bytes.map_err(|cause| cause.of(""))? })
    }

    /// Returns the encoding of what this makes.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns whether a stored file is one that this could have made, as far as its encoding and
    /// its keys show: encrypted by the same passphrase, which is tried, or for the same recipients,
    /// of whom none is hidden. Whether it is signed does not show.
    ///
    /// # Errors
    /// [`Error`] when the head of the file cannot be read, or the passphrase does not open it.
    pub fn could_have_made(
        &self,
        file: &Arc<dyn ReadAt>,
        encoding: Encoding,
    ) -> Result<bool, Error> {
        let matches = match &self.lock {
            _ if encoding != self.encoding => Ok(false),
            None => Ok(true),
            Some(lock) => lock.has_locked(&self.keys, file),
        };
        matches.map_err(|cause| cause.of(file.name()))
    }

    /// Starts a message: its session key, key packets, and what stands before the frames.
    fn message(&self) -> Result<Option<MessageWriter>, Cause> {
        let Some(lock) = &self.lock else { return Ok(None) };
        let (session, keys) = lock.open()?;
        let layout = Layout {
            keys,
            lead: self.lead(),
            compressed: self.level.is_some(),
            chunked: self.signer.is_some(),
        };
        let writer = MessageWriter::new(&session, layout)?;
        self.keys.remember(&writer.head().keys, &session);
        Ok(Some(writer))
    }

    /// Returns the inner bytes before the first frame.
    fn lead(&self) -> Vec<u8> {
        let packets = match &self.signer {
            // The literal packet's length comes with the frame.
            Some(signer) => {
                [signer.key.one_pass(signer.digest), vec![0xc0 | tag::LITERAL]].concat()
            }
            None => [&[0x80 | tag::LITERAL << 2 | 3], &self.literal_head()[..]].concat(),
        };
        if self.level.is_none() {
            return packets;
        }
        let mut lead = vec![0x80 | tag::COMPRESSED << 2 | 3, 1];
        deflate::store(&packets, false, &mut lead);
        lead
    }

    /// Returns what literal data begin with: binary, no name, the time.
    fn literal_head(&self) -> [u8; 6] {
        let [a, b, c, d] = self.time.to_be_bytes();
        [b'b', 0, a, b, c, d]
    }
}

const AES256: u8 = 9;
const SHA1: u8 = 2;
const SHA512: u8 = 10;
/// The strongest that can be written, and gpg's own choice on any machine of this century: 62 MiB
/// to hash.
const S2K_COUNT: u8 = 255;

impl Lock {
    fn new(keys: &Keys, options: &EncodeOptions) -> Result<Self, Cause> {
        let asked = &options.gpg_options;
        if options.recipients.is_empty() && options.hidden_recipients.is_empty() {
            return Self::passphrase(keys, asked);
        }
        // gpg's order: of a key that is named twice the first counts, hidden or not.
        let named = options.recipients.iter().map(|name| (name, false));
        let hidden = options.hidden_recipients.iter().map(|name| (name, true));
        let always = asked.encrypt_to.iter().map(|(name, hidden)| (name, *hidden));
        let further = asked.recipients.iter().map(|(name, hidden)| (name, *hidden));
        let all = always.chain(named).chain(hidden).chain(further);
        let mut recipients: Vec<Recipient> = Vec::new();
        for (name, hidden) in all {
            for key in asked.expand(name) {
                let recipient = Recipient::find(&keys.gpg, key, hidden || asked.hide)?;
                if !recipients.iter().any(|known| known.is_same(&recipient)) {
                    recipients.push(recipient);
                }
            }
        }
        let cipher = asked
            .cipher
            .unwrap_or_else(|| Recipient::common_cipher(&recipients, &asked.cipher_preferences));
        Ok(Self::Recipients { cipher, recipients })
    }

    /// Stretches the passphrase: gpg's way, unless told otherwise.
    #[allow(deprecated)] // weaker ways are for those who ask for them
    fn passphrase(keys: &Keys, asked: &GpgOptions) -> Result<Self, Cause> {
        let passphrase = keys.passphrase_to_encrypt()?;
        let passphrase = first_line(&passphrase);
        if passphrase.is_empty() {
            return Err(Cause::EmptyPassphrase);
        }
        let cipher = asked
            .cipher
            .or(asked.cipher_preferences.first().copied())
            .or(asked.s2k_cipher)
            .unwrap_or(AES256);
        let digest = asked.s2k_digest.unwrap_or(SHA1);
        let mut salt = [0; 8];
        random(&mut salt).map_err(no_random)?;
        let (hash, mode) = (HashAlgorithm::from(digest), asked.s2k_mode.unwrap_or(3));
        let count = asked.s2k_count.map_or(S2K_COUNT, count_byte);
        let hash_bytes = (16 + u32::from(count & 15)) << (count / 16 + 6);
        let (s2k, fields) = match mode {
            0 => (S2K::Simple { hash }, Vec::new()),
            1 => (S2K::Salted { hash, salt }, salt.to_vec()),
            _ => (S2K::Iterated { hash, salt, hash_bytes }, [&salt[..], &[count]].concat()),
        };
        let key = s2k::derive(&s2k, &Password::from(passphrase), key_size(cipher));
        let key = key.map_err(|e| Cause::GpgOption(format!("{e:#}")))?;
        let packet = [&[4, cipher, mode, digest][..], &fields].concat();
        Ok(Self::Passphrase { session: Arc::new(Session { algorithm: cipher, key }), packet })
    }

    /// Returns whether a stored message was made for the same keys.
    fn has_locked(&self, keys: &Keys, file: &Arc<dyn ReadAt>) -> Result<bool, Cause> {
        let head = match Head::read(file) {
            Err(Cause::Unsupported(_)) => return Ok(false),
            head => head?,
        };
        let packets = packet_list(&head.keys);
        match self {
            Self::Passphrase { .. }
                if packets.iter().all(|packet| matches!(packet, Packet::SKESK(_))) =>
            {
                let first = keys.of_first();
                match Access::new(first.as_ref().unwrap_or(keys), file) {
                    Err(Cause::Unsupported(_)) => Ok(false),
                    // Another of the passphrases may open it.
                    Err(Cause::WrongPassphrase) if first.is_some() => Ok(false),
                    access => access.map(|_| true),
                }
            }
            Self::Passphrase { .. } => Ok(false),
            Self::Recipients { recipients, .. } => {
                let mut known: Vec<_> = recipients.iter().map(Recipient::shown).collect();
                let mut found: Vec<_> = packets.iter().map(recipient_of).collect();
                known.sort();
                found.sort();
                Ok(known == found && !found.contains(&None))
            }
        }
    }

    /// Returns the session key of a new file, and its key packets.
    fn open(&self) -> Result<(Arc<Session>, Vec<KeyPacket>), Cause> {
        match self {
            Self::Passphrase { session, packet } => Ok((
                session.clone(),
                vec![(tag::SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY, packet.clone())],
            )),
            Self::Recipients { cipher, recipients } => {
                let key = SessionKey::new(key_size(*cipher)).map_err(no_random)?;
                let session = Session { algorithm: *cipher, key };
                let packets = recipients
                    .iter()
                    .map(|recipient| recipient.packet(&session))
                    .collect::<Result<_, _>>()?;
                Ok((Arc::new(session), packets))
            }
        }
    }
}

/// Returns for whom a packet holds the session key, unless that is hidden.
fn recipient_of(packet: &Packet) -> Option<KeyID> {
    match packet {
        Packet::PKESK(packet) => packet.recipient().map(KeyID::from).filter(|id| !id.is_wildcard()),
        _ => None,
    }
}

fn no_random(error: openpgp::anyhow::Error) -> Cause {
    Cause::Local(format!("no random numbers: {error:#}"))
}

fn key_size(cipher: u8) -> usize {
    match cipher {
        7 => 16,
        8 => 24,
        _ => 32,
    }
}

/// Returns the first coded count (RFC 4880 3.7.1.3) that stands for at least so many bytes.
fn count_byte(bytes: u32) -> u8 {
    (0..=255).find(|c: &u8| (16 + u32::from(c & 15)) << (c / 16 + 6) >= bytes).unwrap_or(255)
}

// Frames come from a pool of threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Encoder>();
    shared::<Frame>();
};

#[cfg(test)]
mod tests;
