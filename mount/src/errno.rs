//! [`Errno`]: by which a tree's error names the number the kernel gets.

/// An error that knows its errno.
pub trait Errno {
    /// Returns the number, such as `libc::EIO`. What cannot be read now is `EIO`, never `ENOENT`:
    /// programs take that for "was never there".
    fn errno(&self) -> i32;
}
