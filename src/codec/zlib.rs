//! [`Inflater`]: the few functions of libz-rs-sys that seek points need, behind a safe door.
//!
//! flate2 and the safe zlib-rs interface have neither `Z_BLOCK` nor `inflatePrime`, so this file,
//! and it alone in this module, is `unsafe`.

use super::Cause;
use libz_rs_sys as z;
use std::ffi::c_int;

/// Size of deflate's window: how far back a copy may reach.
pub(super) const WINDOW: usize = 32 << 10;

/// What wraps the deflated bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wrapping {
    Raw,
    Zlib,
    /// Header, checksum and length are checked; one member.
    Gzip,
}

impl Wrapping {
    /// In zlib's way of telling.
    fn window_bits(self) -> c_int {
        match self {
            Self::Raw => -15,
            Self::Zlib => 15,
            Self::Gzip => 15 + 16,
        }
    }
}

/// What a step came upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Met {
    /// The end of input or output.
    Edge,
    /// The border between two deflate blocks: of the last input byte taken, so many high bits (0 to
    /// 7) belong to what follows.
    Block(u8),
    /// The end of the deflated data, with a right checksum if the wrapping has one.
    End,
}

/// One step's doing.
pub(super) struct Step {
    pub taken: usize,
    pub made: usize,
    pub met: Met,
    /// At a border between blocks or behind the last one: how many bits of the input that was taken
    /// belong to what follows.
    pub bits: Option<u8>,
}

pub(super) struct Inflater {
    /// Boxed: zlib's state points back at it. Initialised as long as `self` lives.
    stream: Box<z::z_stream>,
}

// SAFETY: the stream owns all that its pointers point at, except for the input and output of a
// call, which `step` clears; it is changed only through `&mut self`.
unsafe impl Send for Inflater {}
// SAFETY: as above; what takes `&self` only reads.
unsafe impl Sync for Inflater {}

impl Inflater {
    pub fn new(wrapping: Wrapping) -> Result<Self, Cause> {
        let mut stream = Box::<z::z_stream>::default();
        let size = size_of::<z::z_stream>() as c_int;
        // SAFETY: `stream` is a valid z_stream, and the version is the library's own.
        let code = unsafe {
            z::inflateInit2_(&mut *stream, wrapping.window_bits(), z::zlibVersion(), size)
        };
        if code != z::Z_OK {
            return Err(Cause::Local(format!(
                "cannot inflate: out of memory (zlib's code {code})"
            )));
        }
        Ok(Self { stream })
    }

    /// Starts over, keeping the memory.
    pub fn reset(&mut self, wrapping: Wrapping) {
        // SAFETY: the stream is initialised.
        unsafe { z::inflateReset2(&mut *self.stream, wrapping.window_bits()) };
    }

    /// Puts a fresh raw stream at a border between blocks: `bits` (0 to 7) from `value`, and the
    /// output before it.
    pub fn enter(&mut self, bits: u8, value: u8, window: &[u8]) -> Result<(), Cause> {
        let window = &window[window.len().saturating_sub(WINDOW)..];
        // SAFETY: the stream is initialised, and the pointer and length are those of a slice.
        let codes = unsafe {
            [
                z::inflatePrime(&mut *self.stream, i32::from(bits), i32::from(value)),
                z::inflateSetDictionary(&mut *self.stream, window.as_ptr(), window.len() as u32),
            ]
        };
        if codes == [z::Z_OK; 2] {
            Ok(())
        } else {
            Err(Cause::SeekPoint("its deflate state is invalid"))
        }
    }

    /// Inflates from `input` to `output` until one of them is used up or, if `blocks`, up to the
    /// next border between blocks.
    pub fn step(&mut self, input: &[u8], output: &mut [u8], blocks: bool) -> Result<Step, Cause> {
        let (avail_in, avail_out) = (clip(input.len()), clip(output.len()));
        let stream = &mut *self.stream;
        (stream.next_in, stream.avail_in) = (input.as_ptr(), avail_in);
        (stream.next_out, stream.avail_out) = (output.as_mut_ptr(), avail_out);
        // SAFETY: the stream is initialised, pointers and lengths are those of the slices.
        let code = unsafe { z::inflate(stream, if blocks { z::Z_BLOCK } else { z::Z_NO_FLUSH }) };
        let (taken, made) =
            ((avail_in - stream.avail_in) as usize, (avail_out - stream.avail_out) as usize);
        (stream.next_in, stream.avail_in) = (std::ptr::null(), 0);
        (stream.next_out, stream.avail_out) = (std::ptr::null_mut(), 0);
        let met = match code {
            z::Z_STREAM_END => Met::End,
            // Bit 7: at a border or behind the header; bit 6: the last block.
            z::Z_OK | z::Z_BUF_ERROR
                if blocks && stream.data_type & (128 + 64) == 128 && stream.data_type & 63 < 8 =>
            {
                Met::Block((stream.data_type & 7) as u8)
            }
            z::Z_OK | z::Z_BUF_ERROR => Met::Edge,
            z::Z_NEED_DICT => {
                return Err(Cause::damaged("the compressed data ask for a dictionary"));
            }
            z::Z_MEM_ERROR => return Err(Cause::Local("cannot inflate: out of memory".to_owned())),
            _ => return Err(Cause::damaged("the compressed data are invalid")),
        };
        let bits = (blocks && stream.data_type & 128 != 0).then_some((stream.data_type & 63) as u8);
        Ok(Step { taken, made, met, bits })
    }

    /// Returns the last 32 KiB of output, or as much as there has been.
    pub fn window(&self) -> Vec<u8> {
        let mut window = vec![0; WINDOW];
        let mut length = 0;
        // SAFETY: the stream is initialised, and 32 KiB are always enough.
        unsafe { z::inflateGetDictionary(&*self.stream, window.as_mut_ptr(), &mut length) };
        window.truncate(length as usize);
        window
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: the stream is initialised, and not used after this.
        unsafe { z::inflateEnd(&mut *self.stream) };
    }
}

fn clip(length: usize) -> u32 {
    length.try_into().unwrap_or(u32::MAX)
}
