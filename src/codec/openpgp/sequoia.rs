//! sequoia's reader, for messages that ours does not take.

use super::parsed::POLICY;
use super::signature::Signer;
use crate::codec::Cause;
use crate::codec::keys::{Keys, Session};
use crate::codec::source::{LONG, Source, Stage, Stored};
use crate::codec::state::{self, Kind};
use crate::storage::ReadAt;
use openpgp::packet::{PKESK, SKESK};
use openpgp::parse::stream::{
    DecryptionHelper, Decryptor, DecryptorBuilder, MessageLayer, MessageStructure,
    VerificationHelper,
};
use openpgp::parse::{PacketParser, Parse};
use openpgp::serialize::SerializeInto;
use openpgp::types::{DataFormat, SymmetricAlgorithm};
use openpgp::{Cert, KeyHandle, Packet, crypto};
use parking_lot::Mutex;
use sequoia_openpgp as openpgp;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

/// What sequoia holds back until it has checked everything. Its default of 25 MiB costs 200 MB;
/// tiny values cost even more.
const HELD: usize = 1 << 20;

/// The first cause of a failure that we know better than sequoia.
type Blame = Arc<Mutex<Option<Cause>>>;

/// The session key with which a message has been opened, and the packets that it comes from.
type Used = Arc<Mutex<Option<(Vec<u8>, Arc<Session>)>>>;

fn blame(slot: &Blame, cause: Cause) -> openpgp::anyhow::Error {
    let error = openpgp::anyhow::anyhow!("{cause}");
    slot.lock().get_or_insert(cause);
    error
}

fn blamed(slot: &Blame) -> Option<Cause> {
    slot.lock().take()
}

/// Starts to decode a message; [`Cause::Unsupported`] if sequoia can't.
pub fn open(keys: &Arc<Keys>, file: Arc<dyn ReadAt>) -> Result<Box<dyn Stage>, Cause> {
    loop {
        let used = Used::default();
        let result = attempt(keys, file.clone(), &used);
        let doubted = result
            .as_ref()
            .err()
            .filter(|cause| cause.is_of_content())
            .and_then(|_| used.lock().take());
        if !doubted.is_some_and(|(packets, session)| keys.doubt(&packets, &session)) {
            return result;
        }
    }
}

fn attempt(keys: &Arc<Keys>, file: Arc<dyn ReadAt>, used: &Used) -> Result<Box<dyn Stage>, Cause> {
    let slot = Blame::default();
    let helper = Helper {
        keys: keys.clone(),
        signer: keys.signer()?,
        slot: slot.clone(),
        used: used.clone(),
    };
    let reader = StoredRead(Stored::new(file, 0, LONG), slot.clone());
    let decryptor = DecryptorBuilder::from_reader(reader)
        .and_then(|builder| builder.buffer_size(HELD).with_policy(&*POLICY, None, helper))
        .map_err(|error| blamed(&slot).unwrap_or_else(|| judge(&error)))?;
    Ok(Box::new(Foreign {
        decryptor,
        slot,
        buffer: vec![0; 64 << 10].into(),
        position: 0,
        length: 0,
    }))
}

/// Says what an error of sequoia's means to us. Of errors in errors nothing but the text survives
/// all wrapping.
fn judge(error: &openpgp::anyhow::Error) -> Cause {
    if error.chain().any(|e| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::UnexpectedEof)
    }) {
        return Cause::Truncated;
    }
    let what = format!("{error:#}");
    if what.contains(&openpgp::Error::ManipulatedMessage.to_string()) {
        return Cause::NotAuthentic("the modification detection code (MDC) is wrong".to_owned());
    }
    Cause::Unsupported(what)
}

struct StoredRead(Stored, Blame);

impl Read for StoredRead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.fill() {
            Ok(data) => {
                let count = data.len().min(buffer.len());
                buffer[..count].copy_from_slice(&data[..count]);
                self.0.consume(count);
                Ok(count)
            }
            Err(cause) => Err(std::io::Error::other(blame(&self.1, cause).to_string())),
        }
    }
}

struct Helper {
    keys: Arc<Keys>,
    signer: Option<Signer>,
    slot: Blame,
    used: Used,
}

impl DecryptionHelper for Helper {
    fn decrypt(
        &mut self,
        pkesks: &[PKESK],
        skesks: &[SKESK],
        _: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &crypto::SessionKey) -> bool,
    ) -> openpgp::Result<Option<Cert>> {
        let mut packets = Vec::new();
        for packet in
            pkesks.iter().cloned().map(Packet::from).chain(skesks.iter().cloned().map(Packet::from))
        {
            packets.extend(packet.to_vec()?);
        }
        let mut unsupported = None;
        let mut open = |session: &Session| {
            let algorithm = SymmetricAlgorithm::from(session.algorithm);
            if !algorithm.is_supported() {
                unsupported = Some(Cause::Unsupported(algorithm.to_string()));
                return false;
            }
            decrypt(Some(algorithm), &session.key)
        };
        let mut opened = false;
        let found = self.keys.session(&packets, &mut |session| {
            opened = open(session);
            opened
        });
        let cause = match found {
            Ok(session) if opened || open(&session) => {
                *self.used.lock() = Some((packets, session));
                return Ok(None);
            }
            Ok(_) if !skesks.is_empty() => Cause::WrongPassphrase,
            Ok(_) => Cause::damaged("its session key does not open it"),
            Err(cause) => cause,
        };
        Err(blame(&self.slot, unsupported.unwrap_or(cause)))
    }
}

impl VerificationHelper for Helper {
    fn get_certs(&mut self, _: &[KeyHandle]) -> openpgp::Result<Vec<Cert>> {
        Ok(self.signer.iter().flat_map(|signer| signer.certs().to_vec()).collect())
    }

    fn check(&mut self, structure: MessageStructure) -> openpgp::Result<()> {
        let mut layers = structure.into_iter();
        if !matches!(layers.next(), Some(MessageLayer::Encryption { .. })) {
            let cause =
                Cause::NotAuthentic("it is an OpenPGP message, but not encrypted".to_owned());
            return Err(blame(&self.slot, cause));
        }
        let Some(signer) = &self.signer else { return Ok(()) };
        let mut why = "it has none".to_owned();
        for layer in layers {
            let MessageLayer::SignatureGroup { results } = layer else { continue };
            for result in results {
                match result {
                    Ok(good)
                        if signer.is(
                            &good.ka.key().fingerprint().to_hex(),
                            &good.ka.cert().fingerprint().to_hex(),
                        ) =>
                    {
                        return Ok(());
                    }
                    Ok(good) => {
                        why = format!(
                            "it is by {}, not by {}",
                            good.ka.key().fingerprint(),
                            signer.id()
                        )
                    }
                    Err(error) => why = error.to_string(),
                }
            }
        }
        Err(blame(&self.slot, Cause::Signature(why)))
    }

    fn inspect(&mut self, parser: &PacketParser) -> openpgp::Result<()> {
        match &parser.packet {
            Packet::Literal(literal) if literal.format() != DataFormat::Binary => Err(blame(
                &self.slot,
                Cause::Unsupported("literal data that are not binary".to_owned()),
            )),
            _ => Ok(()),
        }
    }
}

/// A message as sequoia reads it.
struct Foreign {
    decryptor: Decryptor<'static, Helper>,
    slot: Blame,
    buffer: Box<[u8]>,
    position: usize,
    length: usize,
}

impl Source for Foreign {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        if self.position == self.length {
            self.position = 0;
            self.length = 0;
            self.length = self.decryptor.read(&mut self.buffer).map_err(|error| {
                blamed(&self.slot).unwrap_or_else(|| match judge(&error.into()) {
                    Cause::Unsupported(what) => Cause::damaged(what),
                    cause => cause,
                })
            })?;
        }
        Ok(&self.buffer[self.position..self.length])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.length);
    }
}

impl Stage for Foreign {
    fn mark(&self) -> Result<Option<Vec<u8>>, Cause> {
        Ok(Some(state::begin(Kind::Spooled)))
    }
}
