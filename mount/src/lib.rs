//! Mounts a read-only tree through FUSE.
