//! `dupfs`: parses, runs, turns the result into an exit code.

mod cli;
mod memory;

#[global_allocator]
static MEMORY: memory::Memory = memory::Memory;

fn main() -> std::process::ExitCode {
    cli::main()
}
