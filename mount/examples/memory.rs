//! Mounts a small tree that lies in memory: `memory DIRECTORY [--allow-other]`. Says `mounted` when
//! it is, and serves until it is unmounted or gets a signal.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dupfs_mount::{Caught, Error, Options, mount};

#[path = "../tests/memory/mod.rs"]
#[allow(dead_code)]
mod memory;

fn serve(mountpoint: &str, allow_other: bool) -> Result<(), Error> {
    let options =
        Options { allow_other, log: Arc::new(|line| eprintln!("{line}")), ..Options::default() };
    let caught = Caught::new()?;
    let mount = mount(memory::Memory::sample(), Path::new(mountpoint), &options)?;
    caught.unmount(&mount)?;
    println!("mounted");
    mount.wait()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(mountpoint) = arguments.first() else {
        eprintln!("usage: memory DIRECTORY [--allow-other]");
        return ExitCode::FAILURE;
    };
    match serve(mountpoint, arguments.iter().any(|argument| argument == "--allow-other")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
