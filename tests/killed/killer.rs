//! [`Killer`]: `killer.c`, built and put before a program: it counts the calls that change files,
//! and at one of them does its operation.

use crate::support::{Env, Outcome};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The program dies before the call.
    Kill,
    /// The program dies when half of the bytes are written.
    Half,
    /// This call and all after it fail: `ENOSPC`, `EIO`, `EROFS`.
    Fail(&'a str),
    /// A shell command is run before the call.
    Run(&'a str),
}

/// One call that changes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Counted from 1; writes into a signature file that grows are not among them: see `killer.c`.
    pub number: u64,
    /// `open`, `write`, `truncate`, `sync`, `rename`, `link`, `unlink`, `rmdir`, `mkdir`.
    pub name: String,
    pub path: PathBuf,
}

impl Call {
    /// Tells whether it writes into a volume or signature file on its way to the collection: of
    /// these there are many alike.
    pub fn is_bulk(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.name == "write"
            && name.starts_with(".dupfs-")
            && (name.contains(".difftar") || name.contains(".sigtar"))
    }
}

/// Watches what a program does below some paths.
pub struct Killer {
    under: Vec<PathBuf>,
}

impl Killer {
    /// Watches the collection, the archive directories, and the journals of `dupfs`.
    pub fn of(env: &Env) -> Self {
        let caches = std::fs::read_dir(env.cache().join("dupfs")).into_iter().flatten();
        let journals = caches.map(|entry| entry.unwrap().path().join("session"));
        Self {
            under: [env.store(), env.cache().join("duplicity")]
                .into_iter()
                .chain(journals)
                .collect(),
        }
    }

    /// Watches the collection alone.
    pub fn of_store(env: &Env) -> Self {
        Self::of_place(&env.store())
    }

    /// Watches one place.
    pub fn of_place(place: &Path) -> Self {
        Self { under: vec![place.to_path_buf()] }
    }

    /// Watches, and spares the program the waiting for the disk.
    pub fn watch<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let under: Vec<&str> = self.under.iter().map(|path| path.to_str().unwrap()).collect();
        command.env("LD_PRELOAD", library()).env("KILLER_UNDER", under.join(":"))
    }

    /// Does a operation at the call of a number.
    pub fn at<'a>(
        &self,
        number: u64,
        operation: Operation<'a>,
        command: &'a mut Command,
    ) -> &'a mut Command {
        let operation = match operation {
            Operation::Kill => "kill",
            Operation::Half => "half",
            Operation::Fail(errno) => errno,
            Operation::Run(script) => script,
        };
        self.watch(command).env("KILLER_AT", number.to_string()).env("KILLER_DEED", operation)
    }

    /// Runs a program to its end and returns the calls that it made.
    pub fn calls(&self, log: &Path, command: &mut Command) -> Vec<Call> {
        let _ = std::fs::remove_file(log);
        Outcome::of(self.watch(command).env("KILLER_LOG", log)).success();
        let text = std::fs::read_to_string(log).expect("the killer has seen no call");
        let call = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let mut next = || words.next().unwrap().to_string();
            Call { number: next().parse().unwrap(), name: next(), path: next().into() }
        };
        let calls: Vec<Call> = text.lines().map(call).collect();
        assert!(
            calls.iter().zip(1..).all(|(call, number)| call.number == number),
            "calls are missing"
        );
        calls
    }
}

/// Returns the library, built once in a run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/killed/killer.c");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(place).unwrap();
        let (built, library) =
            (place.join(format!("killer.{}", std::process::id())), place.join("killer.so"));
        let cc = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&built)
            .arg(&source)
            .arg("-ldl")
            .status();
        assert!(
            cc.expect("a C compiler is needed: run scripts/setup.sh").success(),
            "killer.c cannot be built"
        );
        std::fs::rename(&built, &library).unwrap();
        library
    })
}
