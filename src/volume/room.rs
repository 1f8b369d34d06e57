//! [`Room`]: a bound on the bytes that all reads of a process hold together while they fetch.

use parking_lot::{Condvar, Mutex};

/// Bytes that may be held, and how many are.
pub struct Room {
    limit: u64,
    held: Mutex<u64>,
    freed: Condvar,
}

/// A part of the room, given back when it is dropped.
pub struct Share<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Room {
    /// Makes room for so many bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, held: Mutex::new(0), freed: Condvar::new() }
    }

    /// Waits until there is room for `bytes`; more than all that there is are let in alone. Whoever
    /// holds a share waits for no other, and for nobody who waits here.
    pub fn wait_for(&self, bytes: u64) -> Share<'_> {
        let mut held = self.held.lock();
        self.freed.wait_while(&mut held, |held| *held > 0 && self.is_over(*held, bytes));
        *held = held.saturating_add(bytes);
        Share { room: self, bytes }
    }

    fn is_over(&self, held: u64, bytes: u64) -> bool {
        held.saturating_add(bytes) > self.limit
    }
}

impl Share<'_> {
    /// Takes so many bytes more, if there is room for them at once.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let mut held = self.room.held.lock();
        let fits = !self.room.is_over(*held, bytes);
        if fits {
            *held += bytes;
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.room.held.lock() -= self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let room = Room::new(10);
        let mut first = room.wait_for(4);
        assert!(first.grow(6) && !first.grow(1));
        std::thread::scope(|scope| {
            let large = scope.spawn(|| drop(room.wait_for(100)));
            drop(first);
            large.join().unwrap();
        });
        assert_eq!(*room.held.lock(), 0);
    }
}
