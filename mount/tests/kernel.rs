//! A small tree in memory under real mount points, asked through the kernel.
//!
//! These tests need FUSE (/dev/fuse), fusermount3, and root, because they mount for several users.
//! Where something is missing they fail and say so.

#[path = "kernel/caching.rs"]
mod caching; // what the kernel does not ask twice
#[path = "kernel/ending.rs"]
mod ending; // unmounting, signals, kill -9
mod memory; // the tree
#[path = "kernel/reading.rs"]
mod reading; // what one sees and reads
#[path = "kernel/readonly.rs"]
mod readonly; // what one cannot change
#[path = "kernel/starting.rs"]
mod starting; // what is refused, and how it says so
#[path = "kernel/stuck.rs"]
mod stuck; // slow and blocked answers, killed readers
#[path = "kernel/support.rs"]
mod support; // mounts and processes that clean up after themselves
#[path = "kernel/users.rs"]
mod users; // who gets in; mounts of ordinary users
