//! Storages around a storage, each of which adds one thing to any kind, and is tested by itself.
//!
//! ```text
//! recording │ multi, par2 │ throttle │ retry │ service
//! ```

mod multi;
mod par2;
mod recording;
mod retry;
mod throttle;

pub use multi::{MultiConfig, MultiStorage};
pub use par2::Par2Storage;
pub use recording::{Call, RecordingStorage};
pub use retry::RetryingStorage;
pub use throttle::ThrottledStorage;
