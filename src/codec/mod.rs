//! stub
pub use crate::format::Encoding;
use crate::storage::ReadAt;
use std::sync::Arc;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
pub struct Codec;
pub struct Decoder;
pub struct Reopened;
#[derive(Clone)]
pub struct SeekPoint { pub plain: u64, pub state: Vec<u8> }
impl std::io::Read for Decoder { fn read(&mut self, _b: &mut [u8]) -> std::io::Result<usize> { Ok(0) } }
impl Decoder { pub fn collect_seek_points(&mut self, _s: u64) {} pub fn take_seek_points(&mut self) -> Vec<SeekPoint> { vec![] } }
impl Codec {
    pub fn decode(&self, _f: Arc<dyn ReadAt>, _e: Encoding) -> Result<Decoder, Error> { Err(Error) }
    pub fn reopen(&self, _f: Arc<dyn ReadAt>, _e: Encoding) -> Result<Reopened, Error> { Err(Error) }
}
impl Reopened { pub fn read(&self, _p: &SeekPoint, _b: &mut [u8]) -> Result<(), Error> { Ok(()) } }
