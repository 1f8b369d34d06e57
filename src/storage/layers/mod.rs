//! Storages around a storage, each of which adds one thing to any kind, and is tested by itself.
//!
//! ```text
//! recording │ retry │ service
//! ```

mod recording;
mod retry;

pub use recording::{Call, RecordingStorage};
pub use retry::RetryingStorage;
