//! What the program prints and logs: messages, the machine log, statistics, the state of a
//! collection, JSON.

mod ending;
mod events;
pub mod json;
pub mod log;
mod progress;
mod report;
mod stamp;
pub mod statistics;
pub mod status;
mod stdout;

pub use ending::fail;
pub use report::Report;
pub use stamp::{stamp, stamp_messages};
pub use status::Status;
pub use stdout::Output;
