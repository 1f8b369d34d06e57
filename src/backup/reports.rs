//! What is reported of paths.

use crate::model::EntryPath;
use crate::monitor::{Event, Monitor};
use crate::source::Found;

/// Reports that a path is new or has changed, and that it is of a time that the format does not
/// keep.
pub fn report_found<'f>(
    event: fn(&'f EntryPath) -> Event<'f>,
    found: &'f Found,
    monitor: &dyn Monitor,
) {
    monitor.event(&event(&found.path));
    if found.entry.mtime < 0 {
        monitor.event(&Event::NegativeTime(&found.path));
    }
}
