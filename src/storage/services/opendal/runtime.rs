//! The one asynchronous runtime of the process. It starts with the first request: before that, a
//! mount goes to the background, and threads do not survive it.

use std::io;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

/// Threads that move bytes; what waits for them are the threads of whoever asks.
const THREADS: usize = 2;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Waits for a future.
///
/// # Errors
/// Those of the system where no thread can be started.
pub fn wait<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(THREADS).thread_name("dupfs-http").enable_all();
            let runtime = builder.build()?;
            RUNTIME.get_or_init(|| runtime)
        }
    };
    Ok(runtime.block_on(future))
}
