//! [`MemoryBudget`]: a bound on the bytes that all reads of a process hold together while they fetch.

use parking_lot::{Condvar, Mutex};

/// Bytes that may be held, and how many are.
pub struct MemoryBudget {
    limit: u64,
    held: Mutex<u64>,
    freed: Condvar,
}

/// Bytes that are reserved, until it is dropped.
pub struct Reservation<'b> {
    budget: &'b MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    /// Lets so many bytes be held.
    pub fn new(limit: u64) -> Self {
        Self { limit, held: Mutex::new(0), freed: Condvar::new() }
    }

    /// Reserves `bytes`, and waits until they may be held; more than the whole budget when nothing
    /// else is held. Whoever holds a reservation asks for no other, and waits for nobody who waits
    /// here.
    pub fn reserve(&self, bytes: u64) -> Reservation<'_> {
        let mut held = self.held.lock();
        self.freed.wait_while(&mut held, |held| *held > 0 && self.is_over(*held, bytes));
        *held = held.saturating_add(bytes);
        Reservation { budget: self, bytes }
    }

    fn is_over(&self, held: u64, bytes: u64) -> bool {
        held.saturating_add(bytes) > self.limit
    }
}

impl Reservation<'_> {
    /// Reserves so many bytes more, if they may be held at once.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let mut held = self.budget.held.lock();
        let fits = !self.budget.is_over(*held, bytes);
        if fits {
            *held += bytes;
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        *self.budget.held.lock() -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_the_budget_allows() {
        let budget = MemoryBudget::new(10);
        let mut first = budget.reserve(4);
        assert!(first.grow(6) && !first.grow(1));
        std::thread::scope(|scope| {
            let large = scope.spawn(|| drop(budget.reserve(100)));
            drop(first);
            large.join().unwrap();
        });
        assert_eq!(*budget.held.lock(), 0);
    }
}
