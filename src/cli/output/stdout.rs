//! [`Output`]: stdout, for what a command is run for.

use std::io::{BufWriter, StdoutLock, Write};

/// Stdout, for what a command is run for. Its errors say that the output is what cannot be written:
/// a disk that it fills is not that of the storage, which front-ends would tell their users of.
pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Takes stdout for itself.
    pub fn new() -> Self {
        Self(BufWriter::with_capacity(64 * 1024, std::io::stdout().lock()))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(unwritten)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush().map_err(unwritten)
    }
}

fn unwritten(error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("cannot write the output: {error}"))
}
