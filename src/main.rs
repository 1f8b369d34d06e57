//! `dupfs`: parses, runs, turns the result into an exit code.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
