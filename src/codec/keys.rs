//! [`Keys`]: passphrase and session keys of one run.
//!
//! A session key is found once for each set of key packets, by one thread while others that need
//! the same one wait, and others that need another one do not;
//! [`Codec::unlock`](super::Codec::unlock) does so for many sets at once. It is kept in memory
//! only, which sequoia encrypts while it is not used and wipes in the end. The order: the
//! passphrase (fast, in this process), the file of secret keys, the user's gpg. Of several
//! passphrases the one that has opened something last is tried first, since files of one chain
//! mostly have the same.
//!
//! One wrong passphrase in 65536 seems to open a message: it passes the test of the first bytes,
//! and what follows looks like damage. So where there are several, *the word damage is used only
//! when no other of them does better*: a reader that meets nothing sensible behind a key calls
//! [`Keys::doubt`], and asks again. (A secret key cannot be wrong in this way: its padding and sum
//! take away as many tries once more, twice.)

use super::error::Cause;
use super::gpg::{Gpg, first_line};
use super::openpgp::{Aes, BLOCK, Signer, packet_list, parse_certs, s2k};
use super::passphrase::PassphraseSource;
use openpgp::crypto::{Password, SessionKey};
use openpgp::packet::{PKESK, SKESK, key, skesk::SKESK4};
use openpgp::types::SymmetricAlgorithm;
use openpgp::{Cert, Packet};
use parking_lot::Mutex;
use sequoia_openpgp as openpgp;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zeroize::Zeroizing;

/// A symmetric algorithm, by OpenPGP's number, and a key for it.
pub(super) struct Session {
    pub algorithm: u8,
    pub key: SessionKey,
}

impl Session {
    /// Whether the key is as long as the algorithm demands: if not, it has been opened with a wrong
    /// key.
    fn is_sound(&self) -> bool {
        SymmetricAlgorithm::from(self.algorithm).key_size().is_ok_and(|size| size == self.key.len())
    }
}

/// A value that is made at most once, and made anew only after a failure.
type Once<T> = Arc<Mutex<Option<T>>>;

/// Where a session key is kept: locked while somebody looks for it.
pub(super) type Cell = Once<Arc<Session>>;

/// A passphrase that several may hold.
pub(super) type Passphrase = Arc<Zeroizing<String>>;

impl PassphraseSource {
    /// Returns the passphrase, asking for it unless gpg-agent does that.
    pub(super) fn get(&self, use_agent: bool) -> Result<Option<Passphrase>, Cause> {
        match self {
            Self::None => Ok(None),
            Self::Ask(_) if use_agent => Ok(None),
            Self::Fixed(passphrase) => Ok(Some(Arc::new(passphrase.clone()))),
            Self::Several(passphrases) => Ok(passphrases.first().cloned().map(Arc::new)),
            Self::Ask(ask) => {
                ask().map(|p| p.map(Arc::new)).map_err(|e| Cause::Passphrase(e.to_string()))
            }
        }
    }
}

pub(super) struct Keys {
    pub gpg: Gpg,
    source: PassphraseSource,
    passphrase: Once<Option<Passphrase>>,
    /// Index of the passphrase that has opened something last.
    fitting: AtomicUsize,
    sessions: Mutex<HashMap<blake3::Hash, Cell>>,
    /// What [`doubtful`] gives for session keys that have been doubted.
    doubted: Mutex<HashSet<blake3::Hash>>,
    secret_keyring: Option<PathBuf>,
    secret_keys: Once<Arc<Vec<SecretKey>>>,
    sign_key: Option<String>,
    signer: Once<Signer>,
}

type SecretKey = openpgp::packet::Key<key::SecretParts, key::UnspecifiedRole>;

/// Whether a session key opens the message; true when that can't be told.
pub(super) type Try<'a> = &'a mut dyn FnMut(&Session) -> bool;

/// Returns a copy of what is there, or makes it.
fn once<T: Clone>(cell: &Once<T>, make: impl FnOnce() -> Result<T, Cause>) -> Result<T, Cause> {
    let mut value = cell.lock();
    match &*value {
        Some(value) => Ok(value.clone()),
        None => Ok(value.insert(make()?).clone()),
    }
}

impl Keys {
    pub fn new(
        gpg: Gpg,
        source: PassphraseSource,
        secret_keyring: Option<PathBuf>,
        sign_key: Option<String>,
    ) -> Self {
        let (passphrase, fitting, sessions, doubted, secret_keys, signer) = Default::default();
        Self {
            gpg,
            source,
            passphrase,
            fitting,
            sessions,
            doubted,
            secret_keyring,
            secret_keys,
            sign_key,
            signer,
        }
    }

    /// Returns the same with the passphrase alone that encrypts; `None` if there are no others.
    pub fn of_first(&self) -> Option<Self> {
        let PassphraseSource::Several(passphrases) = &self.source else { return None };
        let first = PassphraseSource::Fixed(passphrases.first()?.clone());
        Some(Self::new(self.gpg.clone(), first, self.secret_keyring.clone(), self.sign_key.clone()))
    }

    /// Returns the passphrase, asking for it when nobody has yet.
    pub fn passphrase(&self) -> Result<Option<Passphrase>, Cause> {
        once(&self.passphrase, || self.source.get(self.gpg.use_agent))
    }

    /// Returns the passphrase to encrypt with, and to read all else with from now on; gpg-agent
    /// asks for it if it is to ask.
    pub fn passphrase_to_encrypt(&self) -> Result<Passphrase, Cause> {
        match self.passphrase()? {
            Some(passphrase) => Ok(passphrase),
            None if self.gpg.use_agent => {
                let asked = Arc::new(self.gpg.ask_agent()?);
                *self.passphrase.lock() = Some(Some(asked.clone()));
                Ok(asked)
            }
            None => Err(Cause::NoPassphrase),
        }
    }

    /// Tries each passphrase until one is not wrong. What looks like damage may come of a wrong
    /// one, too.
    ///
    /// # Errors
    /// [`Cause::NoPassphrase`] if there is none, and whatever `attempt` fails of: of several
    /// failures, the first that is more than a wrong passphrase.
    pub fn try_each<T>(
        &self,
        mut attempt: impl FnMut(&str) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let first = self.passphrase()?.ok_or(Cause::NoPassphrase)?;
        let others = match &self.source {
            PassphraseSource::Several(passphrases) => passphrases.get(1..).unwrap_or_default(),
            _ => &[],
        };
        let all: Vec<&str> =
            std::iter::once(&*first).chain(others).map(|passphrase| passphrase.as_str()).collect();
        let fitting = self.fitting.load(Ordering::Relaxed);
        let order =
            std::iter::once(fitting).chain((0..all.len()).filter(|index| *index != fitting));
        let mut refusal = Cause::WrongPassphrase;
        for index in order {
            match attempt(all[index]) {
                Err(Cause::WrongPassphrase) => {}
                Err(cause) if cause.is_of_content() => {
                    if matches!(refusal, Cause::WrongPassphrase) {
                        refusal = cause;
                    }
                }
                result => {
                    if result.is_ok() {
                        self.fitting.store(index, Ordering::Relaxed);
                    }
                    return result;
                }
            }
        }
        Err(refusal)
    }

    /// Returns the passphrase that will most likely do, as gpg would take it.
    pub fn password(&self) -> Result<Password, Cause> {
        self.try_each(|passphrase| Ok(Password::from(first_line(passphrase))))
    }

    /// Returns whether files have to be signed.
    pub fn demands_signature(&self) -> bool {
        self.sign_key.is_some()
    }

    /// Returns the key that has to have signed, if any has to.
    pub fn signer(&self) -> Result<Option<Signer>, Cause> {
        let Some(id) = &self.sign_key else { return Ok(None) };
        once(&self.signer, || Signer::new(id, |id| Ok(parse_certs(&self.gpg.export(id)?))))
            .map(Some)
    }

    /// Returns the session key in `packets` (tags 1 and 3). `opens` tells whether a candidate is
    /// the right one.
    pub fn session(&self, packets: &[u8], opens: Try) -> Result<Arc<Session>, Cause> {
        once(&self.cell(packets), || self.find(packets, opens).map(Arc::new))
    }

    /// Returns whether what a session key opens has to make sense before it is believed: there may
    /// be a better one.
    pub fn has_several(&self) -> bool {
        matches!(&self.source, PassphraseSource::Several(passphrases) if passphrases.len() > 1)
    }

    /// Takes back a session key behind which nothing sensible was found, so that it is found anew:
    /// by another passphrase if one fits, else by the same again. Returns whether it makes sense to
    /// ask again: somebody else may have doubted it at the same time.
    pub fn doubt(&self, packets: &[u8], session: &Arc<Session>) -> bool {
        if !self.has_several() {
            return false;
        }
        let cell = self.cell(packets);
        let mut kept = cell.lock();
        let is_this = |kept: &mut Arc<Session>| Arc::ptr_eq(kept, session);
        if self.doubted.lock().insert(doubtful(packets, session)) {
            kept.take_if(is_this);
        }
        !kept.as_mut().is_some_and(is_this)
    }

    /// Returns where the session key in `packets` is kept, or will be.
    pub fn cell(&self, packets: &[u8]) -> Cell {
        self.sessions.lock().entry(blake3::hash(packets)).or_default().clone()
    }

    /// Keeps the session key of a message that has just been made, so that reading it asks for
    /// nothing.
    pub fn remember(&self, packets: &[u8], session: &Arc<Session>) {
        *self.cell(packets).lock() = Some(session.clone());
    }

    fn find(&self, packets: &[u8], opens: Try) -> Result<Session, Cause> {
        let (mut public, mut symmetric) = (Vec::new(), Vec::new());
        for packet in packet_list(packets) {
            match packet {
                Packet::PKESK(packet) => public.push(packet),
                Packet::SKESK(packet) => symmetric.push(packet),
                _ => {} // of an unknown version
            }
        }
        let mut refusal =
            Cause::Unsupported("its session key is missing or of an unknown version".to_owned());
        if !symmetric.is_empty() {
            match self.by_passphrase(packets, &symmetric, opens) {
                Err(cause) => refusal = cause,
                found => return found,
            }
        }
        // gpg-agent may know the passphrase of a symmetric message, or ask for it.
        if public.is_empty() && !(self.gpg.use_agent && matches!(refusal, Cause::NoPassphrase)) {
            return Err(refusal);
        }
        if let Some(session) = self.by_keyring(&public, opens)? {
            return Ok(session);
        }
        let (algorithm, key) = match self.passphrase()? {
            Some(_) => {
                self.try_each(|passphrase| self.gpg.session_key(packets, Some(passphrase)))?
            }
            None => self.gpg.session_key(packets, None)?,
        };
        Ok(Session { algorithm, key: key.to_vec().into() })
    }

    /// `all` are the packets of which `symmetric` have been parsed.
    fn by_passphrase(&self, all: &[u8], symmetric: &[SKESK], opens: Try) -> Result<Session, Cause> {
        let mut doubted = None;
        let found = self.try_each(|passphrase| {
            let passphrase = Password::from(first_line(passphrase));
            let mut refusal = Cause::WrongPassphrase;
            for packet in symmetric {
                match symmetric_session(packet, &passphrase) {
                    Ok(session) if !session.is_sound() => {}
                    Ok(session) if self.doubted.lock().contains(&doubtful(all, &session)) => {
                        doubted = Some(session)
                    }
                    Ok(session) if opens(&session) => return Ok(session),
                    Ok(_) => {}
                    Err(error) => refusal = Cause::Unsupported(error.to_string()),
                }
            }
            Err(refusal)
        });
        found.or_else(|cause| {
            doubted.filter(|session| cause.is_of_content() && opens(session)).ok_or(cause)
        })
    }

    /// Tries the keys in the file of secret keys, the named ones and for hidden recipients all.
    fn by_keyring(&self, packets: &[PKESK], opens: Try) -> Result<Option<Session>, Cause> {
        let Some(path) = &self.secret_keyring else { return Ok(None) };
        let keys = once(&self.secret_keys, || {
            let bytes = crate::storage::read_file(path)
                .map_err(|e| Cause::Local(format!("cannot read '{}': {e}", path.display())))?;
            let bytes = Zeroizing::new(bytes);
            let keys: Vec<_> = parse_certs(&bytes).iter().flat_map(secret_keys).collect();
            if keys.is_empty() {
                return Err(Cause::Local(format!("'{}' holds no secret key", path.display())));
            }
            Ok(Arc::new(keys))
        })?;
        let mut refusal = None;
        for packet in packets {
            let meant =
                |key: &&SecretKey| packet.recipient().is_none_or(|r| r.aliases(key.key_handle()));
            for key in keys.iter().filter(meant) {
                match self.public_session(packet, key) {
                    Ok(Some(session)) if opens(&session) => return Ok(Some(session)),
                    Ok(_) => {}
                    Err(cause) => refusal = Some(cause),
                }
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    fn public_session(&self, packet: &PKESK, key: &SecretKey) -> Result<Option<Session>, Cause> {
        if !key.pk_algo().is_supported() {
            let what =
                format!("{} keys are of use only when they are imported into gpg", key.pk_algo());
            return Err(Cause::NoSecretKey(what));
        }
        let mut key = key.clone();
        if !key.has_unencrypted_secret() {
            let open = |passphrase: &str| {
                key.clone().decrypt_secret(&Password::from(first_line(passphrase)))
            };
            key =
                self.try_each(|passphrase| open(passphrase).map_err(|_| Cause::WrongPassphrase))?;
        }
        let Ok(mut pair) = key.into_keypair() else { return Ok(None) };
        let found = packet.decrypt(&mut pair, None);
        Ok(found.and_then(|(algorithm, key)| Some(Session { algorithm: algorithm?.into(), key })))
    }
}

/// Stands for a session key of certain packets, without holding it.
fn doubtful(packets: &[u8], session: &Session) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(packets).as_bytes()).update(&session.key).finalize()
}

fn secret_keys(cert: &Cert) -> Vec<SecretKey> {
    let keys = cert.keys().secret().filter(|k| k.key().pk_algo().for_encryption());
    keys.map(|k| k.key().clone().role_into_unspecified()).collect()
}

/// Makes the key from a passphrase, and opens with it the session key, if there is one.
fn symmetric_session(packet: &SKESK, passphrase: &Password) -> openpgp::Result<Session> {
    let SKESK::V4(packet) = packet else {
        return Err(openpgp::Error::InvalidOperation(
            "session key packet of another version than 4".to_owned(),
        )
        .into());
    };
    let key = s2k::derive(packet.s2k(), passphrase, packet.symmetric_algo().key_size()?)?;
    if let Some(session) = session_in(packet, key)? {
        return Ok(session);
    }
    let (algorithm, key) = packet.decrypt(passphrase)?;
    Ok(Session { algorithm: algorithm.into(), key })
}

/// Opens the session key with the key that the passphrase gives, which is the session key itself if
/// there is none in the packet. `None` when that takes another cipher than AES.
pub(super) fn session_in(packet: &SKESK4, key: SessionKey) -> openpgp::Result<Option<Session>> {
    let algorithm = u8::from(packet.symmetric_algo());
    match (packet.esk()?, Aes::new(algorithm, &key)) {
        (None, _) => Ok(Some(Session { algorithm, key })),
        (Some([]), _) => {
            Err(openpgp::Error::MalformedPacket("empty session key".to_owned()).into())
        }
        (Some(encrypted), Some(aes)) => {
            let mut plain = Zeroizing::new(Vec::with_capacity(encrypted.len() + BLOCK));
            aes.decrypt(&[&[0; BLOCK], encrypted].concat(), &mut plain);
            Ok(Some(Session { algorithm: plain[0], key: plain[1..encrypted.len()].into() }))
        }
        (Some(_), None) => Ok(None),
    }
}
