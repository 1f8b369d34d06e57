//! [`Message`]: the file inside the packets inside the encryption.
//!
//! ```text
//! tag 18  random prefix │ tag 8 (zip or zlib) │ [tag 4 one-pass signature] tag 11 literal: the file  [tag 2 signature] │ MDC
//! ```
//! Without compression the inner packets stand directly in tag 18. Anything else in there is for
//! other readers.

use super::aes::Aes;
use super::cfb::{BATCH, Decrypt};
use super::packets::{Body, Extent, tag};
use super::seal::Seal;
use super::signature::Verifier;
use crate::codec::Cause;
use crate::codec::inflate::{BUFFER, Inflate};
use crate::codec::source::{Source, Stage, Stored};
use crate::codec::state::{self, Fields, Kind};
use crate::codec::zlib::Wrapping;
use crate::storage::ReadAt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Longest one-pass signature or signature packet that is read.
const SIGNATURE_LIMIT: usize = 64 << 10;
/// Most signature packets that are looked at.
const SIGNATURES: usize = 100;

/// The packets in the encryption, perhaps compressed.
enum Content {
    Direct(Decrypt),
    Inflated(Inflate<Body<Decrypt>>),
}

impl Source for Content {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        match self {
            Self::Direct(source) => source.fill(),
            Self::Inflated(source) => source.fill(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Direct(source) => source.consume(count),
            Self::Inflated(source) => source.consume(count),
        }
    }
}

/// The literal data of an encrypted message.
pub struct Message {
    body: Body<Content>,
    seal: Arc<Seal>,
    verifier: Option<Verifier>,
    /// Nothing follows any more, or there is no need to know.
    finished: bool,
}

impl Message {
    /// Reads up to the first byte of the literal data. `verifier` stands for a signature that is
    /// demanded.
    ///
    /// [`Cause::Unsupported`] means that another reader may be able to read it.
    pub fn open(
        decrypt: Decrypt,
        seal: Arc<Seal>,
        mut verifier: Option<Verifier>,
    ) -> Result<Self, Cause> {
        let mut body = Body::new(Content::Direct(decrypt), Extent::NONE);
        let mut signed = false;
        loop {
            match body.next()?.ok_or(Cause::Truncated)? {
                tag::MARKER | tag::PADDING => {}
                tag::LITERAL => break,
                tag::COMPRESSED if !signed => body = Body::new(decompress(body)?, Extent::NONE),
                tag::ONE_PASS_SIGNATURE => {
                    signed = true;
                    let packet = body.read_all(SIGNATURE_LIMIT)?;
                    verifier.as_mut().map_or(Ok(()), |v| v.announce(&packet))?;
                }
                tag::SIGNATURE if verifier.is_none() => signed = true,
                tag => {
                    return Err(Cause::Unsupported(format!(
                        "OpenPGP packet with tag {tag} inside the encryption"
                    )));
                }
            }
        }
        if verifier.is_some() && !signed {
            return Err(Cause::Signature("it has none".to_owned()));
        }
        if body.needed()? != b'b' {
            return Err(Cause::Unsupported("literal data that are not binary".to_owned()));
        }
        let name = body.needed()?;
        let mut forgotten = [0; 255 + 4];
        body.fill_exactly(&mut forgotten[..usize::from(name) + 4])?; // name and date
        Ok(Self { body, seal, verifier, finished: false })
    }

    /// Lets the end of the literal data be the end of everything, unchecked.
    pub fn unchecked(self) -> Self {
        Self { finished: true, ..self }
    }

    /// Goes on from a seek point, to some place before the stored byte `end`; the end of the
    /// literal data is then the end of everything, unchecked.
    pub fn enter(
        file: Arc<dyn ReadAt>,
        end: u64,
        aes: Aes,
        seal: Arc<Seal>,
        sealed: &[u8],
    ) -> Result<Self, Cause> {
        let state = seal.open(sealed)?;
        let mut fields = Fields(&state);
        // As much as that may be decrypted and inflated behind what is needed.
        let stored =
            |offset| Stored::window(file, offset, end.saturating_add((BATCH + BUFFER) as u64));
        let literal = Extent::read(&mut fields)?;
        let content = match fields.u8()? {
            DIRECT => Content::Direct(Decrypt::enter(aes, &mut fields, stored)?),
            algorithm => {
                let compressed = Extent::read(&mut fields)?;
                let body = Body::new(Decrypt::enter(aes, &mut fields, stored)?, compressed);
                Content::Inflated(Inflate::enter(body, wrapping(algorithm)?, &mut fields)?)
            }
        };
        fields.end()?;
        Ok(Self { body: Body::new(content, literal), seal, verifier: None, finished: true })
    }

    /// Returns the offset of the stored byte at which a seek point begins to read.
    pub fn stored_start(seal: &Seal, sealed: &[u8]) -> Result<u64, Cause> {
        let state = seal.open(sealed)?;
        let mut fields = Fields(&state);
        Extent::read(&mut fields)?;
        if fields.u8()? != DIRECT {
            Extent::read(&mut fields)?;
        }
        Decrypt::stored_start(&mut fields)
    }

    /// Reads what follows the literal data, and checks all that can be checked.
    fn finish(&mut self) -> Result<(), Cause> {
        let mut signatures = Vec::new();
        while let Some(tag) = self.body.next()? {
            match tag {
                tag::MARKER | tag::PADDING => {}
                tag::SIGNATURE if self.verifier.is_some() && signatures.len() < SIGNATURES => {
                    signatures.push(self.body.read_all(SIGNATURE_LIMIT)?);
                }
                tag::SIGNATURE => {}
                _ => {
                    return Err(Cause::damaged(format!(
                        "an OpenPGP packet with tag {tag} follows the literal data"
                    )));
                }
            }
        }
        if let Content::Inflated(inflate) = self.body.source_mut() {
            inflate.source_mut().drain()?;
            if inflate.source_mut().next()?.is_some() {
                return Err(Cause::damaged("an OpenPGP packet follows the compressed data"));
            }
        }
        self.verifier.take().map_or(Ok(()), |v| v.finish(&signatures))
    }
}

pub const DIRECT: u8 = 0;
pub const ZIP: u8 = 1;
const ZLIB: u8 = 2;

/// Takes OpenPGP's number of a compression algorithm (RFC 4880 9.3).
fn wrapping(algorithm: u8) -> Result<Wrapping, Cause> {
    match algorithm {
        ZIP => Ok(Wrapping::Raw),
        ZLIB => Ok(Wrapping::Zlib),
        _ => Err(Cause::Unsupported(format!("OpenPGP compression algorithm {algorithm}"))),
    }
}

/// Goes into a compressed packet; one inside another is not for this reader.
fn decompress(mut body: Body<Content>) -> Result<Content, Cause> {
    let wrapping = wrapping(body.needed()?)?;
    let extent = body.extent();
    match body.into_source() {
        Content::Direct(decrypt) => {
            Ok(Content::Inflated(Inflate::new(Body::new(decrypt, extent), wrapping)?))
        }
        Content::Inflated(_) => {
            Err(Cause::Unsupported("OpenPGP compression in compression".to_owned()))
        }
    }
}

impl Source for Message {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        if !self.finished && self.body.fill()?.is_empty() {
            self.finish()?;
            self.finished = true;
        }
        self.body.fill()
    }

    fn consume(&mut self, count: usize) {
        if let Some(verifier) = &mut self.verifier
            && let Ok(data) = self.body.fill()
        {
            verifier.update(&data[..count.min(data.len())]);
        }
        self.body.consume(count);
    }
}

impl Stage for Message {
    fn aim(&mut self, distance: u64) {
        if let Content::Inflated(inflate) = self.body.source_mut() {
            inflate.aim(distance);
        }
    }

    fn mark(&self) -> Result<Option<Vec<u8>>, Cause> {
        let (mut plain, mut inner) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
        self.body.extent().write(&mut plain);
        match self.body.source() {
            Content::Direct(decrypt) => {
                plain.push(DIRECT);
                decrypt.mark(&mut plain);
            }
            Content::Inflated(inflate) => {
                let Some(body) = inflate.mark(&mut inner)? else { return Ok(None) };
                plain.push(if inflate.wrapping() == Wrapping::Raw { ZIP } else { ZLIB });
                body.extent().write(&mut plain);
                body.source().mark(&mut plain);
                plain.extend_from_slice(&inner);
            }
        }
        let mut state = state::begin(Kind::Message);
        self.seal.close(&plain, &mut state)?;
        Ok(Some(state))
    }
}
