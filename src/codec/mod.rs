//! Stored bytes to plain bytes and back: gzip, OpenPGP, or nothing to do; from the start, or from
//! the middle.
//!
//! A volume, a signature file or a manifest is stored as it is, deflated, or encrypted (and then
//! deflated inside the encryption). All of these are made to be read from their start.
//! [`Codec::decode`] does that, checks all that there is to check, and leaves [`SeekPoint`]s on its
//! way. With these, [`Codec::reopen`] later reads any range without what stands before it.
//!
//! ```text
//! ReadAt ─► Stored ─┬──────────────────────────────────────────────────────────────────► Decoder: Read
//!                   ├─► Inflate ───────────────────────────────────────────── Gzip ────►
//!                   ├─► Body (chunks) ─► Decrypt (AES, MDC) ─► Body ─► Inflate ─► Body ─ Message ►
//!                   └─► sequoia or gpg: rare kinds ────────────────────────────────────►
//! ```
//! Each step lends its bytes to the next one without copying, and can tell its state; the states of
//! all steps at one moment are a seek point. Plain files and messages without compression can be
//! entered at any byte, deflated ones at the borders of deflate blocks. What sequoia or gpg read
//! can't be entered at all: the first use of such a point decodes the whole message into an
//! unlinked temporary file.
//!
//! | kind | points | what a point holds |
//! |---|---|---|
//! | plain | any byte | nothing |
//! | gzip | block border, member | offset, bits of a byte, 32 KiB window (deflated) |
//! | OpenPGP | any byte, or block border | the same, the cipher block before, what the packets have left; sealed |
//! | other OpenPGP | any byte | "spooled" |
//!
//! The other way, [`Codec::encoder`] makes files of independent frames, which leave their seek
//! points as they are written, and may carry a table that [`Codec::table`] finds from the file's
//! end (see [`Encoder`]).
//!
//! ```text
//! plain, 1 MiB ─► Encoder::frame (any thread) ─► Frame ─► EncodedFile: join, sign, encrypt ─► Write
//! ```
//!
//! Invariants:
//! - A [`Decoder`] gives its last byte only after CRC, MDC and a demanded signature were found
//!   right.
//! - Reading from a point checks none of these: the caller checks the stored bytes against hashes
//!   of the first pass.
//! - What is encrypted is always protected by an MDC. A file left unfinished is truncated to any
//!   reader, but for plain ones.
//! - No key or passphrase is in an argument list, in the environment of a child, or on a disk;
//!   window bytes of an encrypted file leave this module sealed only.
//! - Memory is bounded whatever the bytes say: some 1 MiB a decoder (sequoia: 11 MiB), 256 KiB of
//!   session key packets, 64 KiB a signature packet, 1 MiB for each core that unlocks, no
//!   compression inside compression but by sequoia (at most 16 deep).
//!
//! ```
//! use dupfs::codec::{Codec, Encoding, Options};
//! use dupfs::storage::{LocalStorage, ReadAt, Storage, StoredFile};
//! # use std::io::Write;
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
//! # writer.write_all(b"some tar")?;
//! # std::fs::write(directory.path().join("volume.gz"), writer.finish()?)?;
//! let storage = Arc::new(LocalStorage::new(directory.path()));
//! let listed = storage.list()?.remove(0);
//! let file: Arc<dyn ReadAt> = Arc::new(StoredFile::new(storage, listed));
//!
//! let codec = Codec::new(Options::default());
//! let mut decoder = codec.decode(file.clone(), Encoding::Gzip)?;
//! decoder.collect_seek_points(1 << 20);
//! let plain = decoder.read_at_most(1 << 20)?;
//! assert_eq!(plain, b"some tar");
//! decoder.drain()?; // only the end proves it
//!
//! let points = decoder.take_seek_points();
//! let mut beginning = [0; 4];
//! codec.reopen(file, Encoding::Gzip)?.read(&points[0], 0, &mut beginning)?;
//! assert_eq!(&beginning, b"some");
//! # Ok(())
//! # }
//! ```
//!
//! Absent on purpose: telling the encoding by a file's name (`collection` does), caching plain
//! bytes and what stands in a table (`volume` does), other ciphers than AES and ASCII armor in what
//! is written.

mod decoder;
mod encode;
mod error;
mod gpg;
mod gzip;
mod inflate;
mod keys;
mod openpgp;
mod passphrase;
mod reopened;
mod source;
mod state;
mod zlib;

pub use crate::format::Encoding;
pub use decoder::{Decoder, SeekPoint};
pub use encode::{
    EncodeOptions, EncodedFile, EncodedWriter, Encoder, Frame, GpgOptions, Table, gpg_home,
    parse_gpg_options, read_gpg_options,
};
pub use error::{Cause, Error};
pub use openpgp::HEAD;
pub use passphrase::PassphraseSource;
pub use reopened::Reopened;

use self::gpg::Gpg;
use self::gzip::Gzip;
use self::keys::Keys;
use self::source::{FromStart, LONG, Stage, Stored};
use crate::storage::{ReadAt, StoredFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to decode.
#[derive(Debug, Clone)]
pub struct Options {
    /// Passphrase for symmetric messages and secret keys (environment `PASSPHRASE`).
    pub passphrase: PassphraseSource,
    /// Who has to have signed each message (`--sign-key`): the last 8, 16 or 40 hexadecimal digits
    /// of the fingerprint of the signing key, or of its primary key. Messages without a good
    /// signature of that key are errors. `None` accepts all, and looks at no signature.
    pub sign_key: Option<String>,
    /// The gpg program (`--gpg-binary`), looked up in `PATH` when it has no slash; GnuPG 2.1 or
    /// newer.
    pub gpg_binary: PathBuf,
    /// Further arguments for gpg (the words of `--gpg-options`).
    pub gpg_options: Vec<String>,
    /// A file with secret keys, armored or not (`--encrypt-secret-keyring`), tried before gpg.
    pub secret_keyring: Option<PathBuf>,
    /// Lets gpg-agent and pinentry ask for passphrases (`--use-agent`); gpg is given none.
    pub use_agent: bool,
    /// Where temporary files lie (`--tempdir`), whole plain messages among them: unlinked, readable
    /// by nobody else.
    pub tempdir: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            passphrase: PassphraseSource::None,
            sign_key: None,
            gpg_binary: "gpg".into(),
            gpg_options: Vec::new(),
            secret_keyring: None,
            use_agent: false,
            tempdir: std::env::temp_dir(),
        }
    }
}

/// Decodes stored files, and encodes. Cheap to clone: clones share passphrase and session keys. May
/// be used from many threads at once.
#[derive(Clone)]
pub struct Codec {
    keys: Arc<Keys>,
    tempdir: Arc<PathBuf>,
}

impl Codec {
    /// Takes the options; asks for nothing and runs nothing yet.
    pub fn new(options: Options) -> Self {
        let gpg = Gpg {
            binary: options.gpg_binary,
            options: options.gpg_options,
            use_agent: options.use_agent,
        };
        let keys = Keys::new(gpg, options.passphrase, options.secret_keyring, options.sign_key);
        Self { keys: Arc::new(keys), tempdir: Arc::new(options.tempdir) }
    }

    /// Returns where temporary files lie.
    pub fn tempdir(&self) -> &Path {
        &self.tempdir
    }

    /// Starts to decode a file from its start. Derives the session key, if there is one, which may
    /// take 50 to 500 ms, or as long as a user takes to type.
    ///
    /// # Errors
    /// [`Error`] with any [`Cause`]. Most damage shows itself only while reading.
    pub fn decode(&self, file: Arc<dyn ReadAt>, encoding: Encoding) -> Result<Decoder, Error> {
        let name = file.name().to_owned();
        let file = Arc::new(FromStart::new(file));
        let stage = self.stage(file, encoding).map_err(|cause| cause.of(&name))?;
        Ok(Decoder::new(&name, stage))
    }

    /// As [`Codec::decode`], of a file that may be there more than once: takes the first copy that
    /// can be decoded to its end, and else the last.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn decode_stored(&self, file: StoredFile, encoding: Encoding) -> Result<Decoder, Error> {
        if file.storage().abilities().copies {
            let decode = || self.decode(Arc::new(file.clone()), encoding)?.drain();
            file.with_copies(Error::is_of_content, decode)?;
        }
        self.decode(Arc::new(file), encoding)
    }

    /// Returns whether a stored file opens by secret keys alone: gpg-agent may ask the user for
    /// them.
    ///
    /// # Errors
    /// [`Cause::Storage`] when its first bytes cannot be read.
    pub fn needs_secret_key(
        &self,
        file: &Arc<dyn ReadAt>,
        encoding: Encoding,
    ) -> Result<bool, Error> {
        if encoding != Encoding::OpenPgp {
            return Ok(false);
        }
        match openpgp::has_passphrase(file) {
            Err(cause @ Cause::Storage(_)) => Err(cause.of(file.name())),
            // Another reader may find more in it, and have to ask.
            found => Ok(!found.unwrap_or(false)),
        }
    }

    /// Returns whether each file has to be signed by a certain key, which only decoding it from
    /// start to end can prove.
    pub fn demands_signature(&self) -> bool {
        self.keys.demands_signature()
    }

    fn stage(&self, file: Arc<dyn ReadAt>, encoding: Encoding) -> Result<Box<dyn Stage>, Cause> {
        if encoding != Encoding::OpenPgp && self.keys.demands_signature() {
            return Err(Cause::Signature("a file that is not OpenPGP has none".into()));
        }
        Ok(match encoding {
            Encoding::Plain => Box::new(Stored::new(file, 0, LONG)),
            Encoding::Gzip => Box::new(Gzip::open(file, LONG)?),
            Encoding::OpenPgp => openpgp::open(&self.keys, file)?,
        })
    }

    /// Derives the session keys of OpenPGP files ahead, in the order given, on all cores;
    /// [`Codec::decode`] and [`Codec::reopen`] find them at once, or wait for them. Three files or
    /// more for one passphrase take a fifth of the time (AVX-512) or half of it (AVX2) that one by
    /// one takes; CPUs without either derive nothing here.
    ///
    /// Never fails: what can't be opened is told when it is needed. Asks for the passphrase, if
    /// nobody has yet, when one of the files needs it for gpg's usual derivation (iterated and
    /// salted SHA-1). Leaves out all others, known keys, and keys that are being derived elsewhere.
    pub fn unlock(&self, files: &[Arc<dyn ReadAt>]) {
        #[cfg(target_arch = "x86_64")]
        openpgp::unlock(&self.keys, files);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = files;
    }
}

// Decoders go to worker threads, what is reopened is shared between them.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Codec>();
    shared::<Decoder>();
    shared::<Error>();
};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
