//! [`Pace`]: how fast bytes may go, over all transfers together.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time that was not used and may be made up for: so much at most goes out in one burst.
const BURST: Duration = Duration::from_millis(250);
/// The longest pause before a piece that [`Pace::piece`] has cut: a second divided by this.
const PAUSE: u64 = 8;

/// A number of bytes a second that all transfers share; without a limit by default. Clones share it,
/// too.
#[derive(Clone, Default)]
pub struct Pace(Option<Arc<Bucket>>);

struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// Until when all that may go has been given away.
    taken: Mutex<Option<Instant>>,
}

impl Pace {
    /// Limits to so many bytes a second, at least one.
    pub fn new(rate: u64) -> Self {
        Self(Some(Arc::new(Bucket { rate: rate.max(1), taken: Mutex::default() })))
    }

    /// Returns whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the limit, for a program that keeps it by itself.
    pub fn rate(&self) -> Option<u64> {
        self.0.as_ref().map(|bucket| bucket.rate)
    }

    /// Returns how many of `most` bytes go at once, so that pauses stay short.
    pub fn piece(&self, most: usize) -> usize {
        let piece = self.0.as_ref().map_or(u64::MAX, |bucket| bucket.rate.div_ceil(PAUSE));
        most.min(usize::try_from(piece).unwrap_or(usize::MAX)).max(1)
    }

    /// Waits until so many bytes may go.
    pub fn take(&self, bytes: usize) {
        let pause = self.reserve(bytes);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    /// Gives so many bytes away; returns how long to wait before they go.
    pub fn reserve(&self, bytes: usize) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |bucket| bucket.reserve(Instant::now(), bytes))
    }
}

impl Bucket {
    fn reserve(&self, now: Instant, bytes: usize) -> Duration {
        let mut taken = self.taken.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = taken.filter(|taken| *taken > earliest).unwrap_or(earliest);
        let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(self.rate);
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        // What would be in a thousand years is now.
        *taken = Some(from.checked_add(time).unwrap_or(from));
        from.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By a counted clock: whoever takes pieces never gets ahead of the rate by more than a burst and
    /// a piece, and is never held back below it.
    #[test]
    fn the_rate_is_kept_and_shared() {
        let bucket = Bucket { rate: 1000, taken: Mutex::default() };
        let begin = Instant::now();
        let (mut clock, mut gone) = (begin, 0_u64);
        for piece in [1, 500, 30, 1000, 7, 462, 1000] {
            clock += bucket.reserve(clock, piece);
            let allowed = (clock - begin).as_millis() as u64 + BURST.as_millis() as u64;
            assert!(gone <= allowed && allowed <= gone + BURST.as_millis() as u64, "{gone}");
            gone += piece as u64;
        }
        // Another transfer at the same time waits for all of these.
        assert_eq!(bucket.reserve(begin, 1), Duration::from_millis(3000) - BURST);
        // Time that nobody has used is lost, but for a burst.
        let later = begin + Duration::from_secs(60);
        assert_eq!(bucket.reserve(later, 1250), Duration::ZERO);
        assert_eq!(bucket.reserve(later, 1), Duration::from_secs(1));
    }

    #[test]
    fn pieces_keep_pauses_short() {
        assert_eq!(
            (Pace::default().piece(70), Pace::default().reserve(1 << 30)),
            (70, Duration::ZERO)
        );
        assert_eq!([Pace::new(1000).piece(70), Pace::new(1000).piece(7000)], [70, 125]);
        assert_eq!(Pace::new(0).piece(7000), 1);
    }
}
