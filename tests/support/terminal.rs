//! A pseudo-terminal on which prompts are answered.

use super::{Env, Outcome};
use std::ffi::OsStr;
use std::process::Command;

/// Runs a program on a terminal of its own, answers each prompt when it stands at the end of what
/// was said, and prints all that was said.
const SCRIPT: &str = r"
import json, os, pty, sys
answers = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
said = seen = b''
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    said, seen = said + data, seen + data
    if answers and seen.endswith(answers[0][0].encode()):
        os.write(terminal, answers.pop(0)[1].encode() + b'\n')
        seen = b''
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(said.replace(b'\r\n', b'\n'))
print('never asked:', answers) if answers else None
sys.exit(code)
";

impl Env {
    /// Prepares a command to be run on a terminal; `answers` are prompts, in order, and what is
    /// typed at each.
    pub fn on_terminal(&self, answers: &[(&str, &str)], command: &Command) -> Command {
        let mut python = self.command(super::PYTHON);
        python
            .args(["-c", SCRIPT, &serde_json::to_string(answers).unwrap()])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            python.env(name, value.unwrap_or(OsStr::new("")));
        }
        python
    }

    /// Runs a command on a terminal.
    pub fn converse(&self, answers: &[(&str, &str)], command: &Command) -> Outcome {
        Outcome::of(&mut self.on_terminal(answers, command))
    }
}
