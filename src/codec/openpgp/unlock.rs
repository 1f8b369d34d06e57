//! Session keys of many messages ahead of their use.
//!
//! Messages for a passphrase have salts of their own, so each costs as much as the first; but
//! [`sha1_simd`] makes many keys in the time of some three. Batches are as full as can be, for one
//! takes as long when it is full; where that leaves cores idle, more batches would end no sooner.
//! Each core takes the next batch, those first that the caller names first.
//!
//! The cells of all messages are claimed before the first hash, so whoever decodes one of them
//! meanwhile waits for its batch. Nobody waits for a cell here, which others may hold: those are
//! left to them.

use super::session::opens;
use super::{Aes, Head, packet_list, sha1_simd};
use crate::codec::keys::{Cell, Keys, Session, session_in};
use crate::storage::ReadAt;
use crossbeam_channel::Sender;
use openpgp::crypto::{S2K, SessionKey};
use openpgp::packet::{Packet, SKESK, skesk::SKESK4};
use openpgp::types::HashAlgorithm;
use sequoia_openpgp as openpgp;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewest bytes to hash: what takes less than a millisecond can wait.
const WORTH_IT: usize = 1 << 20;

/// Most bytes of an encrypted session key: algorithm and key.
const ESK_LIMIT: usize = 1 + 32;

/// A message whose key is to be derived.
struct Locked {
    /// Without its key packets, which may be large.
    head: Head,
    packet: SKESK4,
    cell: Cell,
    salt: [u8; 8],
    /// Bytes to hash, and bytes of the key.
    cost: (usize, usize),
}

impl Locked {
    /// Returns `None` for what is not meant here.
    fn read(keys: &Keys, file: &Arc<dyn ReadAt>) -> Option<Self> {
        let mut head = Head::read(file).ok()?;
        let mut symmetric = packet_list(&head.keys).into_iter().filter_map(|packet| match packet {
            Packet::SKESK(packet) => Some(packet),
            _ => None,
        });
        let (Some(SKESK::V4(packet)), None) = (symmetric.next(), symmetric.next()) else {
            return None;
        };
        let S2K::Iterated { hash: HashAlgorithm::SHA1, salt, hash_bytes } = *packet.s2k() else {
            return None;
        };
        let cost = (hash_bytes as usize, packet.symmetric_algo().key_size().ok()?);
        let is_aes = matches!(u8::from(packet.symmetric_algo()), 7..=9);
        if !is_aes
            || cost.0 < WORTH_IT
            || packet.esk().ok()?.is_some_and(|esk| esk.len() > ESK_LIMIT)
        {
            return None;
        }
        let cell = keys.cell(&std::mem::take(&mut head.keys));
        Some(Self { head, packet, cell, salt, cost })
    }

    fn open(&self, key: SessionKey) -> Option<Arc<Session>> {
        let session = session_in(&self.packet, key).ok()??;
        let aes = Aes::new(session.algorithm, &session.key)?;
        opens(&aes, &self.head).then(|| Arc::new(session))
    }
}

/// Derives the keys that are missing; see [`crate::codec::Codec::unlock`].
pub fn unlock(keys: &Keys, files: &[Arc<dyn ReadAt>]) {
    let width = sha1_simd::width();
    if width == 1 {
        return;
    }
    let mut messages: Vec<_> = files.iter().filter_map(|file| Locked::read(keys, file)).collect();
    messages.retain(|message| message.cell.try_lock().is_some_and(|session| session.is_none()));
    if messages.is_empty() {
        return;
    }
    let Ok(passphrase) = keys.password() else { return };
    messages.sort_by_key(|message| message.cost); // keeps the order of equal ones
    let mut claims: Vec<_> =
        messages.iter().map(|m| m.cell.try_lock().filter(|session| session.is_none())).collect();
    let claimed: Vec<_> = (0..messages.len()).filter(|i| claims[*i].is_some()).collect();
    let batches = batches(&messages, &claimed, width);
    let next = AtomicUsize::new(0);
    let work = |done: &Sender<_>| {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let salts: Vec<_> = batch.iter().map(|i| messages[*i].salt).collect();
            let (count, size) = messages[batch[0]].cost;
            let keys = sha1_simd::derive_all(&salts, &passphrase, count, size);
            batch
                .iter()
                .zip(keys)
                .for_each(|(i, key)| done.send((*i, messages[*i].open(key))).unwrap_or_default());
        }
    };
    std::thread::scope(|scope| {
        let (done, sessions) = crossbeam_channel::unbounded();
        let threads = crate::work::cores().min(batches.len());
        let spawn = |_: &usize| {
            let done = done.clone();
            std::thread::Builder::new().spawn_scoped(scope, move || work(&done)).is_ok()
        };
        if (0..threads).filter(spawn).count() == 0 {
            work(&done);
        }
        drop(done);
        for (i, session) in sessions {
            if let Some(mut claim) = claims[i].take() {
                *claim = session;
            }
        }
    });
}

/// Splits messages (by index) of equal cost into batches that fill the lanes.
fn batches<'a>(messages: &[Locked], claimed: &'a [usize], width: usize) -> Vec<&'a [usize]> {
    let equal = claimed.chunk_by(|a, b| messages[*a].cost == messages[*b].cost);
    equal.flat_map(|equal| equal.chunks(width / messages[equal[0]].cost.1.div_ceil(20))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::s2k;
    use super::*;
    use crate::codec::testing::{GpgHome, codec, decode, file, fixed, text};
    use crate::codec::{Cause, Codec, Encoding, Options, PassphraseSource};
    use crate::storage::{LocalStorage, Storage, StoredFile};

    /// Encrypts with a derivation that is worth being done ahead, and gpg's usual hash up to 2.2.
    fn symmetric(home: &GpgHome, arguments: &[&str], plain: &[u8]) -> Vec<u8> {
        home.symmetric(
            &[&["--s2k-digest-algo", "SHA1", "--s2k-count", "2097152"], arguments].concat(),
            plain,
        )
    }

    fn files(messages: &[Vec<u8>]) -> Vec<Arc<dyn ReadAt>> {
        messages.iter().map(|message| file(&message[..])).collect()
    }

    fn locked(message: &[u8]) -> Option<Locked> {
        Locked::read(&codec("").keys, &file(message))
    }

    fn derivations(message: &[u8]) -> usize {
        s2k::tests::derivations(&locked(message).unwrap().salt)
    }

    fn asking(
        answer: impl Fn() -> Option<&'static str> + Send + Sync + 'static,
    ) -> (Arc<AtomicUsize>, Codec) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let ask = PassphraseSource::Ask(Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(answer().map(|passphrase| passphrase.to_owned().into()))
        }));
        (
            asked,
            Codec::new(Options {
                passphrase: ask,
                gpg_binary: "/nonexistent/gpg".into(),
                ..Options::default()
            }),
        )
    }

    #[test]
    fn each_key_is_derived_once() {
        let home = GpgHome::new();
        home.key("both", "", "rsa2048", &[("rsa2048", "encr")]);
        let plain = text(1000);
        let both = ["--s2k-cipher-algo", "AES256", "--recipient", "both", "--encrypt"];
        let kinds: [&[&str]; 4] = [
            &["--cipher-algo", "AES256"],
            &["--cipher-algo", "AES"],
            &["--s2k-count", "3000000"],
            &both,
        ];
        let mut messages: Vec<_> =
            (0..24).map(|i| symmetric(&home, kinds[i % 4], &plain)).collect();
        messages.extend_from_within(..3);
        let (asked, codec) = asking(|| Some("geheim"));
        for _ in 0..2 {
            codec.unlock(&files(&messages));
            assert!(
                super::super::sha1_simd::width() == 1
                    || messages.iter().all(|message| derivations(message) == 1)
            );
        }
        assert!(
            messages
                .iter()
                .all(|message| decode(&codec, message, Encoding::OpenPgp).unwrap() == plain)
        );
        assert!(messages.iter().all(|message| derivations(message) == 1));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_is_left_out() {
        let home = GpgHome::new();
        home.key("key", "", "rsa2048", &[("rsa2048", "encr")]);
        let plain = text(1000);
        let mut others: Vec<_> = [
            &["--s2k-digest-algo", "SHA256"][..],
            &["--s2k-mode", "1"],
            &["--s2k-count", "65536"],
            &["--cipher-algo", "CAST5"],
            &["--armor"],
        ]
        .map(|arguments| symmetric(&home, arguments, &plain))
        .into();
        others.push(home.run(&["--recipient", "key", "--encrypt"], &plain));
        others.extend([Vec::new(), plain.clone(), others[0][..20].to_vec()]);
        let (asked, codec) = asking(|| Some("geheim"));
        codec.unlock(&[]);
        codec.unlock(&files(&others));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        assert!(others.iter().all(|message| locked(message).is_none()));
        assert!(
            others[..5]
                .iter()
                .all(|message| decode(&codec, message, Encoding::OpenPgp).unwrap() == plain)
        );
        let public = Codec::new(home.options(PassphraseSource::None));
        public.unlock(&files(&others));
        assert!(decode(&public, &others[5], Encoding::OpenPgp).unwrap() == plain);
    }

    #[test]
    fn what_cannot_be_opened() {
        let home = GpgHome::new();
        let messages: Vec<_> = (0..6).map(|_| symmetric(&home, &[], b"plain")).collect();
        for (codec, wrong) in [
            (codec("falsch"), true),
            (Codec::new(Options::default()), false),
            (asking(|| None).1, false),
        ] {
            codec.unlock(&files(&messages));
            for message in &messages {
                let cause = decode(&codec, message, Encoding::OpenPgp).unwrap_err().cause;
                assert!(
                    if wrong {
                        matches!(cause, Cause::WrongPassphrase)
                    } else {
                        matches!(cause, Cause::NoPassphrase)
                    },
                    "{cause}"
                );
            }
        }
        // A file that is gone hinders none of the others.
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("volume"), &messages[0]).unwrap();
        let storage = Arc::new(LocalStorage::new(directory.path()));
        let gone = StoredFile::new(storage.clone(), storage.list().unwrap().remove(0));
        std::fs::remove_file(directory.path().join("volume")).unwrap();
        let codec = Codec::new(home.options(fixed("geheim")));
        codec.unlock(&[vec![Arc::new(gone) as Arc<dyn ReadAt>], files(&messages)].concat());
        let counts: Vec<_> = messages.iter().map(|message| derivations(message)).collect();
        assert!(messages.iter().all(|message| decode(&codec, message, Encoding::OpenPgp).is_ok()));
        let unlocked = usize::from(super::super::sha1_simd::width() == 1);
        assert!(
            messages
                .iter()
                .zip(counts)
                .all(|(message, count)| derivations(message) == count + unlocked)
        );
    }

    /// A key that somebody else looks for is left to him, and the others are found meanwhile.
    #[test]
    fn waits_for_nobody() {
        let home = GpgHome::new();
        let messages: Vec<_> = (0..6).map(|_| symmetric(&home, &[], b"plain")).collect();
        let codec = codec("geheim");
        let cells: Vec<_> = messages
            .iter()
            .map(|message| Locked::read(&codec.keys, &file(&message[..])).unwrap().cell)
            .collect();
        let held = cells[2].lock();
        codec.unlock(&files(&messages));
        assert!(
            messages
                .iter()
                .enumerate()
                .all(|(i, message)| i == 2 || decode(&codec, message, Encoding::OpenPgp).is_ok())
        );
        drop(held);
        assert_eq!(derivations(&messages[2]), 0);
        assert!(decode(&codec, &messages[2], Encoding::OpenPgp).is_ok());
    }

    #[test]
    fn many_at_once() {
        let home = GpgHome::new();
        let messages: Vec<_> = (0..18).map(|_| symmetric(&home, &[], b"plain")).collect();
        let (asked, codec) = asking(|| Some("geheim"));
        let mut backwards = files(&messages);
        backwards.reverse();
        std::thread::scope(|scope| {
            scope.spawn(|| codec.unlock(&files(&messages)));
            scope.spawn(|| codec.unlock(&backwards));
            for message in &messages {
                let codec = &codec;
                scope.spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(30));
                    assert!(decode(codec, message, Encoding::OpenPgp).is_ok());
                });
            }
        });
        assert!(messages.iter().all(|message| derivations(message) == 1));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
