//! [`Way`]: how far a backup has got, in the lines of duplicity's `--progress`.
//!
//! What counts is the source: how much has been read of how much there is to read. duplicity counts
//! what has been uploaded, and guesses how much that will be.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Characters in the bar.
const BAR: usize = 40;

/// How far something of known length has got.
pub struct Way {
    total: u64,
    rate: Duration,
    begun: Instant,
    done: u64,
    /// When there was something new, and when a line was printed.
    moved: Instant,
    printed: Option<Instant>,
}

impl Way {
    /// Begins now; gives a line every `rate`.
    pub fn new(total: u64, rate: Duration) -> Self {
        let now = Instant::now();
        Self { total, rate, begun: now, done: 0, moved: now, printed: None }
    }

    /// Returns a step if it is time for one.
    pub fn at(&mut self, done: u64) -> Option<Step> {
        let now = Instant::now();
        if done != self.done {
            (self.done, self.moved) = (done, now);
        }
        if now.duration_since(self.printed.unwrap_or(self.begun)) < self.rate {
            return None;
        }
        let is_stalled =
            now.duration_since(self.moved) > (2 * self.rate).max(Duration::from_secs(5));
        let percent = (done * 100).checked_div(self.total).unwrap_or(0).min(99);
        let step = self.step(percent, is_stalled);
        self.printed = Some(now);
        Some(step)
    }

    /// Returns the last step.
    pub fn last(&self) -> Step {
        self.step(100, false)
    }

    fn step(&self, percent: u64, is_stalled: bool) -> Step {
        let elapsed = self.begun.elapsed();
        let (speed, left) = pace(self.done, self.total, elapsed, is_stalled);
        let left = if percent == 100 { 0 } else { left };
        let stalled = u8::from(is_stalled);
        Step {
            line: line(self.done, self.total, elapsed, percent, is_stalled),
            words: format!(
                "{} {} {percent} {left} {} {stalled}",
                self.done,
                elapsed.as_secs(),
                speed as u64
            ),
            is_over: self.printed.is_some() && std::io::stdout().is_terminal(),
        }
    }
}

/// How far it has got.
pub struct Step {
    /// For people.
    pub line: String,
    /// For programs: bytes, seconds since the beginning, percent, seconds left, bytes a second, and
    /// whether it stalls.
    pub words: String,
    /// Whether the line takes the place of the one before: so it does on a terminal.
    pub is_over: bool,
}

/// Returns bytes a second, and the seconds that are left.
fn pace(done: u64, total: u64, elapsed: Duration, is_stalled: bool) -> (f64, u64) {
    let speed = if is_stalled { 0.0 } else { done as f64 / elapsed.as_secs_f64().max(0.001) };
    let left = if speed > 0.0 { (total.saturating_sub(done) as f64 / speed) as u64 } else { 0 };
    (speed, left)
}

fn line(done: u64, total: u64, elapsed: Duration, percent: u64, is_stalled: bool) -> String {
    let (speed, left) = pace(done, total, elapsed, is_stalled);
    let eta = match (percent, is_stalled) {
        (_, true) => "Stalled!".to_string(),
        (100, _) => "0sec".to_string(),
        _ => eta(left),
    };
    let filled = percent as usize * BAR / 100;
    let bar = format!("{}>{}", "=".repeat(filled), " ".repeat(BAR - filled));
    let (days, rest) = (elapsed.as_secs() / 86400, elapsed.as_secs() % 86400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    let clock = if days > 0 { format!("{days}d,{clock}") } else { clock };
    let speed = if is_stalled { "0.0B/s".to_string() } else { format!("{}/s", amount(speed)) };
    format!("{} {clock} [{speed}] [{bar}] {percent}% ETA {eta}", amount(done as f64))
}

fn amount(bytes: f64) -> String {
    let (value, unit) = match bytes / 1024.0 {
        kib if kib <= 1000.0 => (kib, "KB"),
        kib if kib / 1024.0 <= 1000.0 => (kib / 1024.0, "MB"),
        kib => (kib / 1024.0 / 1024.0, "GB"),
    };
    format!("{value:.1}{unit}")
}

fn eta(seconds: u64) -> String {
    let minutes = seconds / 60;
    match seconds {
        0..=15 => format!("{seconds}sec"),
        16..30 => "< 30sec".into(),
        30..45 => "< 45sec".into(),
        45..60 => "< 1min".into(),
        60..300 if seconds % 60 > 30 => format!("{minutes}min 30sec"),
        60..3600 => format!("{minutes}min"),
        3600..86400 => format!("{}h {}min", seconds / 3600, minutes % 60),
        _ => format!("{}d {}h {}min", seconds / 86400, seconds / 3600 % 24, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_duplicity_prints_them() {
        let shown = line(1 << 20, 25 << 20, Duration::from_millis(1000), 4, false);
        assert_eq!(
            shown,
            "1.0MB 00:00:01 [1.0MB/s] [=>                                       ] 4% ETA < 30sec"
        );
        let stalled = line(1 << 20, 25 << 20, Duration::from_secs(90_000), 4, true);
        assert!(
            stalled.starts_with("1.0MB 1d,01:00:00 [0.0B/s]")
                && stalled.ends_with("4% ETA Stalled!"),
            "{stalled}"
        );
        assert!(
            line(1000, 1000, Duration::from_secs(1), 100, false)
                .contains(&format!("[{}>] 100%", "=".repeat(40)))
        );
        for (seconds, text) in [
            (15, "15sec"),
            (44, "< 45sec"),
            (100, "1min 30sec"),
            (400, "6min"),
            (3700, "1h 1min"),
            (90_000, "1d 1h 0min"),
        ] {
            assert_eq!(eta(seconds), text);
        }
    }
}
