//! Whose keys a message is made for, and by whom it is signed: chosen among the keys of a
//! certificate as gpg chooses.

use super::head::KeyPacket;
use super::packets::tag;
use super::parsed::POLICY;
use super::signature::parse_certs;
use crate::codec::Cause;
use crate::codec::gpg::Gpg;
use crate::codec::keys::Session;
use openpgp::Cert;
use openpgp::cert::amalgamation::ValidAmalgamation;
use openpgp::cert::amalgamation::key::PrimaryKey;
use openpgp::cert::{Preferences, ValidCert};
use openpgp::packet::prelude::*;
use openpgp::serialize::MarshalInto;
use openpgp::types::{PublicKeyAlgorithm, RevocationStatus, SymmetricAlgorithm};
use sequoia_openpgp as openpgp;

type PublicKey = Key<key::PublicParts, key::UnspecifiedRole>;

/// One who will be able to decrypt.
pub struct Recipient {
    key: PublicKey,
    hidden: bool,
    /// AES variants in the order that the certificate prefers; empty when it says nothing.
    ciphers: Vec<u8>,
}

impl Recipient {
    /// Finds the key to encrypt for in gpg's keyring: of the certificate that `name` is in, the
    /// newest subkey for encryption. `name` is anything that gpg takes; with `!` behind a key ID it
    /// is that very key.
    pub fn find(gpg: &Gpg, name: &str, hidden: bool) -> Result<Self, Cause> {
        let fail = |why: String| Cause::Recipient { key: name.to_owned(), why };
        let (cert, key) =
            find(gpg, name, Purpose::Encryption).map_err(|problem| problem.cause(fail))?;
        let preferred = cert
            .with_policy(&*POLICY, None)
            .ok()
            .and_then(|cert| Some(cert.preferred_symmetric_algorithms()?.to_vec()));
        let ciphers = preferred
            .unwrap_or_default()
            .into_iter()
            .map(u8::from)
            .filter(|c| (7..=9).contains(c))
            .collect();
        Ok(Self { key, hidden, ciphers })
    }

    /// Returns the first of the `preferred` kinds of AES that all of `recipients` know, or the
    /// strongest; AES-256 where they say nothing of it.
    pub fn common_cipher(recipients: &[Self], preferred: &[u8]) -> u8 {
        let known = |cipher: &u8| {
            recipients.iter().all(|r| r.ciphers.is_empty() || r.ciphers.contains(cipher))
        };
        preferred.iter().copied().chain([9, 8, 7]).find(known).unwrap_or(9)
    }

    /// Returns whether this is the same key.
    pub fn is_same(&self, other: &Self) -> bool {
        self.key.fingerprint() == other.key.fingerprint()
    }

    /// Returns whom the packet names, unless that is hidden.
    pub fn shown(&self) -> Option<openpgp::KeyID> {
        (!self.hidden).then(|| self.key.keyid())
    }

    /// Makes the packet that holds the session key for this one.
    pub fn packet(&self, session: &Session) -> Result<KeyPacket, Cause> {
        let make = || {
            let mut packet = PKESK3::for_recipient(
                SymmetricAlgorithm::from(session.algorithm),
                &session.key,
                &self.key,
            )?;
            if self.hidden {
                packet.set_recipient(None);
            }
            MarshalInto::to_vec(&packet)
        };
        let fail = |why: String| Cause::Recipient { key: self.key.keyid().to_hex(), why };
        Ok((tag::PUBLIC_KEY_ENCRYPTED_SESSION_KEY, make().map_err(|e| fail(format!("{e:#}")))?))
    }
}

/// The key that signs.
#[derive(Clone)]
pub struct SigningKey {
    pub fingerprint: String,
    id: openpgp::KeyID,
    algorithm: PublicKeyAlgorithm,
}

impl SigningKey {
    /// Finds it in gpg's keyring: the very subkey that `name` is the ID of, or else the newest that
    /// may sign.
    pub fn find(gpg: &Gpg, name: &str) -> Result<Self, Cause> {
        let fail = |why: String| Cause::Signing(format!("with '{name}': {why}"));
        let (_, key) = find(gpg, name, Purpose::Signing).map_err(|problem| problem.cause(fail))?;
        Ok(Self {
            fingerprint: key.fingerprint().to_hex(),
            id: key.keyid(),
            algorithm: key.pk_algo(),
        })
    }

    /// Makes the packet that announces the signature: version 3, of binary data, the only one.
    pub fn one_pass(&self, digest: u8) -> Vec<u8> {
        let mut body = vec![3, 0, digest, self.algorithm.into()];
        body.extend_from_slice(self.id.as_bytes());
        body.push(1);
        let mut packet = Vec::new();
        super::writer::write_old_packet(tag::ONE_PASS_SIGNATURE, &body, &mut packet);
        packet
    }

    /// Checks that a packet is the signature that has been announced.
    pub fn check(&self, packet: &[u8], digest: u8) -> Result<(), Cause> {
        let unexpected = |what: &str| Err(Cause::Signing(format!("gpg has made {what}")));
        match &super::packet_list(packet)[..] {
            [openpgp::Packet::Signature(made)] => {
                let ours = made
                    .get_issuers()
                    .iter()
                    .any(|issuer| issuer.aliases(openpgp::KeyHandle::from(self.id.clone())));
                let kind = (made.version(), made.typ(), u8::from(made.hash_algo()), made.pk_algo());
                if !ours {
                    unexpected("a signature with another key than it was told to")
                } else if kind != (4, openpgp::types::SignatureType::Binary, digest, self.algorithm)
                {
                    unexpected("another kind of signature than it was told to")
                } else {
                    Ok(())
                }
            }
            _ => unexpected("something other than one signature"),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Encryption,
    Signing,
}

enum Problem {
    Known(Cause),
    Key(String),
}

impl Problem {
    fn cause(self, make: impl FnOnce(String) -> Cause) -> Cause {
        match self {
            Self::Known(cause) => cause,
            Self::Key(why) => make(why),
        }
    }
}

fn find(gpg: &Gpg, name: &str, purpose: Purpose) -> Result<(Cert, PublicKey), Problem> {
    let (bare, exact) = name.strip_suffix('!').map_or((name, false), |bare| (bare, true));
    let certs = parse_certs(&gpg.export(bare).map_err(Problem::Known)?);
    let mut refusal = None;
    for cert in certs {
        match choose(&cert, bare, exact, purpose) {
            Ok(key) => return Ok((cert, key)),
            Err(why) => refusal = refusal.or(Some(why)),
        }
    }
    Err(Problem::Key(refusal.unwrap_or_else(|| "gpg has no such public key".to_owned())))
}

/// Chooses a key for a purpose: a subkey rather than the primary key, the newest.
fn choose(cert: &Cert, name: &str, exact: bool, purpose: Purpose) -> Result<PublicKey, String> {
    let of = cert.fingerprint();
    let valid: ValidCert = cert
        .with_policy(&*POLICY, None)
        .map_err(|e| format!("the certificate {of} is not valid: {e:#}"))?;
    valid.alive().map_err(|e| format!("the certificate {of} is not valid: {e:#}"))?;
    if let RevocationStatus::Revoked(_) = valid.revocation_status() {
        return Err(format!("the certificate {of} is revoked"));
    }
    let id = name.trim_start_matches("0x").to_ascii_uppercase();
    let named = |key: &PublicKey| id.len() >= 8 && key.fingerprint().to_hex().ends_with(&id);
    let able: Vec<_> = valid
        .keys()
        .filter(|key| match purpose {
            Purpose::Encryption => key.for_transport_encryption() || key.for_storage_encryption(),
            Purpose::Signing => key.for_signing(),
        })
        .filter(|key| !exact || named(key.key().role_as_unspecified()))
        .collect();
    if able.is_empty() {
        let what = if purpose == Purpose::Encryption { "encrypt for" } else { "sign with" };
        return Err(format!("the certificate {of} has no such key to {what}"));
    }
    let able: Vec<_> = able
        .into_iter()
        .filter(|key| {
            key.alive().is_ok() && !matches!(key.revocation_status(), RevocationStatus::Revoked(_))
        })
        .collect();
    let known = |key: PublicKeyAlgorithm| purpose == Purpose::Signing || key.is_supported();
    let best = able.iter().filter(|key| known(key.key().pk_algo())).max_by_key(|key| {
        let subkey = !key.primary();
        (
            purpose == Purpose::Signing && subkey && named(key.key().role_as_unspecified()),
            subkey,
            key.key().creation_time(),
        )
    });
    match (best, able.first()) {
        (Some(key), _) => Ok(key.key().clone().role_into_unspecified()),
        (None, Some(key)) => Err(format!("{} keys are not supported", key.key().pk_algo())),
        (None, None) => Err(format!("the keys of the certificate {of} are expired or revoked")),
    }
}
