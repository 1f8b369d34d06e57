//! [`Streams`]: where a volume is read in sequence, and how far ahead it is worth while.

/// Frames that are fetched at once, at most.
const WIDEST: usize = 8;
/// Places in a volume that are read in sequence at the same time: as many files, or threads.
const MOST: usize = 4;

/// The places at which a volume is being read, the latest first.
#[derive(Debug, Default)]
pub struct Streams(Vec<Stream>);

#[derive(Debug)]
struct Stream {
    /// The last frame that was wanted.
    last: usize,
    /// Frames that were fetched at once.
    window: usize,
}

impl Streams {
    /// Takes note that frames from `first` to `last` are wanted. Returns whether they go on right
    /// behind those before.
    pub fn go_on(&mut self, first: usize, last: usize) -> bool {
        // Parallel readers of one file come a little out of order.
        let is_near = |stream: &Stream| {
            first <= stream.last.saturating_add(1) && stream.last <= last.saturating_add(1)
        };
        let known = self.0.iter().position(is_near).map(|at| self.0.remove(at));
        let goes_on = known.as_ref().is_some_and(|stream| last > stream.last);
        let stream = known.unwrap_or(Stream { last, window: 1 });
        self.0.insert(0, Stream { last: last.max(stream.last), ..stream });
        self.0.truncate(MOST);
        goes_on
    }

    /// Returns how many frames to fetch at once where the latest read goes on: twice as many as the
    /// last time.
    pub fn widen(&mut self) -> usize {
        self.0.first_mut().map_or(1, |stream| {
            stream.window = (2 * stream.window).min(WIDEST);
            stream.window
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_double_as_long_as_reads_go_on() {
        let mut streams = Streams::default();
        assert!(!streams.go_on(10, 10));
        let mut windows = Vec::new();
        for frame in 11..16 {
            assert!(streams.go_on(frame, frame));
            assert!(!streams.go_on(frame, frame) && !streams.go_on(frame - 1, frame - 1));
            windows.push(streams.widen());
        }
        assert_eq!(windows, [2, 4, 8, 8, 8]);
        // Another place begins anew, and disturbs the first one only when there are many.
        assert!(!streams.go_on(90, 90) && streams.go_on(91, 92));
        assert_eq!(streams.widen(), 2);
        assert!(streams.go_on(16, 16));
        assert_eq!(streams.widen(), 8);
        (0..MOST).for_each(|at| assert!(!streams.go_on(1000 * at, 1000 * at)));
        assert!(!streams.go_on(17, 17));
    }
}
