//! Programs of Debian that run `duplicity`, each with `dupfs` under that name on its path: what
//! they reached with the original they reach with it, in collections that the original began.

mod backupninja;
mod deja_dup;
mod duply;

use crate::support::{Env, Version};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Prepares a client whose `duplicity` is this program. What it is called with is kept in `calls`,
/// a line each.
fn client(env: &Env, program: &str, duplicity: Version) -> Command {
    let bin = env.root().join("bin");
    let real = env.root().join(format!("{duplicity:?}")).join("duplicity");
    if !real.exists() {
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir(real.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(duplicity.checked(), &real).unwrap();
    }
    let calls = env.root().join("calls");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> '{}'\nexec '{}' \"$@\"\n",
        calls.display(),
        real.display()
    );
    std::fs::write(bin.join("duplicity"), script).unwrap();
    std::fs::set_permissions(bin.join("duplicity"), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    let mut command = env.command(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()));
    command
}

/// Returns what `duplicity` was called with since the last time.
fn calls(env: &Env) -> Vec<String> {
    let calls = env.root().join("calls");
    let lines =
        std::fs::read_to_string(&calls).unwrap_or_default().lines().map(str::to_string).collect();
    let _ = std::fs::remove_file(calls);
    lines
}
