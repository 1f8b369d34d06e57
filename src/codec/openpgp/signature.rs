//! [`Verifier`]: whether the literal data are signed by the key that `--sign-key` demands.

use super::parsed::POLICY;
use crate::codec::Cause;
use openpgp::cert::amalgamation::{ValidAmalgamation, ValidateAmalgamation};
use openpgp::packet::Signature;
use openpgp::parse::Parse;
use openpgp::types::{RevocationStatus, SignatureType};
use openpgp::{Cert, Packet, crypto::hash};
use sequoia_openpgp as openpgp;
use std::sync::Arc;

/// Most signatures of one message that are computed.
const ANNOUNCED: usize = 16;

/// The key that has to have signed, with the certificates that it may be in.
#[derive(Clone)]
pub struct Signer {
    /// Last hexadecimal digits of the fingerprint of the signing key or of its primary key, in
    /// capitals.
    id: String,
    certs: Arc<Vec<Cert>>,
}

impl Signer {
    /// Takes a key ID or fingerprint (8, 16 or 40 hexadecimal digits, also with `0x`) and gets the
    /// certificates by `export`.
    pub fn new(
        id: &str,
        export: impl FnOnce(&str) -> Result<Vec<Cert>, Cause>,
    ) -> Result<Self, Cause> {
        let id = normal(id)?;
        let certs = export(&id)?;
        if certs.is_empty() {
            return Err(Cause::Signature(format!("gpg has no public key {id}")));
        }
        Ok(Self { id, certs: Arc::new(certs) })
    }

    /// Whether a key, or the primary key it belongs to, is the demanded one, by their fingerprints.
    /// duplicity looks at the signing subkey only.
    pub fn is(&self, key: &str, primary: &str) -> bool {
        [key, primary].iter().any(|f| f.ends_with(&self.id))
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn certs(&self) -> &[Cert] {
        &self.certs
    }

    /// Checks one signature against a hash of the data; tells why not.
    fn verify(&self, signature: &Signature, hash: &hash::Context) -> Result<(), String> {
        let made = signature.signature_creation_time().ok_or("it has no date")?;
        let mut why = format!("it is not by {}, but by {}", self.id, issuers(signature));
        for cert in self.certs.iter() {
            let wanted = cert.keys().filter(|key| {
                self.is(&key.key().fingerprint().to_hex(), &cert.fingerprint().to_hex())
            });
            for key in wanted {
                let key = match key.with_policy(&*POLICY, made) {
                    Ok(key) if key.for_signing() => key,
                    _ => continue,
                };
                if signature.verify_hash(key.key(), hash.clone()).is_err() {
                    continue;
                }
                let alive = key.valid_cert().alive().and(key.alive());
                let revoked =
                    |status: RevocationStatus| matches!(status, RevocationStatus::Revoked(_));
                if let Err(error) = alive {
                    why = format!("the key {} was not valid when it signed: {error}", self.id);
                } else if revoked(key.valid_cert().revocation_status())
                    || revoked(key.revocation_status())
                {
                    why = format!("the key {} is revoked", self.id);
                } else {
                    return Ok(());
                }
            }
        }
        if signature.get_issuers().iter().any(|i| i.to_hex().ends_with(&self.id))
            && why.starts_with("it is not by")
        {
            why = format!("it does not fit the data, or the key {} may not sign", self.id);
        }
        Err(why)
    }
}

/// Checks the form of a key ID, and makes it capital letters without `0x`.
pub fn normal(id: &str) -> Result<String, Cause> {
    let digits = id.strip_prefix("0x").or(id.strip_prefix("0X")).unwrap_or(id);
    let valid =
        matches!(digits.len(), 8 | 16 | 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if valid {
        Ok(digits.to_ascii_uppercase())
    } else {
        Err(Cause::Signature(format!("'{id}' is no key ID: 8, 16 or 40 hexadecimal digits are")))
    }
}

fn issuers(signature: &Signature) -> String {
    let ids: Vec<String> = signature.get_issuers().iter().map(|i| i.to_hex()).collect();
    if ids.is_empty() { "somebody unknown".to_owned() } else { ids.join(", ") }
}

/// Hashes the literal data while they are read, then checks the signatures behind them.
pub struct Verifier {
    signer: Signer,
    hashes: Vec<hash::Context>,
    announced: usize,
}

impl Verifier {
    pub fn new(signer: Signer) -> Self {
        Self { signer, hashes: Vec::new(), announced: 0 }
    }

    /// Takes a one-pass signature packet, which says what to compute.
    pub fn announce(&mut self, packet: &[u8]) -> Result<(), Cause> {
        let odd = || Cause::Unsupported("this kind of OpenPGP signature".to_owned());
        self.announced += 1;
        let parsed = super::parsed::packet(super::packets::tag::ONE_PASS_SIGNATURE, packet);
        let Some(Packet::OnePassSig(packet)) = parsed else { return Err(odd()) };
        if packet.version() != 3
            || packet.typ() != SignatureType::Binary
            || self.announced > ANNOUNCED
        {
            return Err(odd());
        }
        if !self.hashes.iter().any(|h| h.algo() == packet.hash_algo()) {
            self.hashes.push(packet.hash_algo().context().map_err(|_| odd())?.for_signature(4));
        }
        Ok(())
    }

    pub fn update(&mut self, data: &[u8]) {
        self.hashes.iter_mut().for_each(|h| h.update(data));
    }

    /// Passes when at least one of the signature packets is good and by the demanded key.
    pub fn finish(self, packets: &[Vec<u8>]) -> Result<(), Cause> {
        let mut why = "it has none".to_owned();
        for packet in packets {
            let parsed = super::parsed::packet(super::packets::tag::SIGNATURE, packet);
            let Some(Packet::Signature(signature)) = parsed else { continue };
            if signature.typ() != SignatureType::Binary || signature.version() != 4 {
                continue;
            }
            let Some(hash) = self.hashes.iter().find(|h| h.algo() == signature.hash_algo()) else {
                continue;
            };
            match self.signer.verify(&signature, hash) {
                Ok(()) => return Ok(()),
                Err(reason) => why = reason,
            }
        }
        Err(Cause::Signature(why))
    }
}

/// Reads certificates, armored or not; those that can't be read are left out.
pub fn parse_certs(bytes: &[u8]) -> Vec<Cert> {
    openpgp::cert::CertParser::from_bytes(bytes)
        .map(|certs| certs.flatten().collect())
        .unwrap_or_default()
}
