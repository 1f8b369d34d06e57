//! Storages around a storage, each of which adds one thing to any kind, and is tested by itself.
//!
//! ```text
//! recording │ multi │ retry │ service
//! ```

mod multi;
mod recording;
mod retry;

pub use multi::{MultiConfig, MultiStorage};
pub use recording::{Call, RecordingStorage};
pub use retry::RetryingStorage;
