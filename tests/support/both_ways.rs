//! [`BothWays`]: a collection that `dupfs` and the originals write, read, and add to in turns.

use super::{Encoding, Env, Mounted, Outcome, Version};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// When the first state is saved; each later one a second later.
const TIME: i64 = 1_700_000_000;

/// A collection at a URL, with what a program needs to reach it.
pub struct BothWays<'a> {
    pub env: &'a Env,
    pub url: &'a str,
    /// Adds what `dupfs` needs, or one of the originals.
    pub prepare: &'a dyn Fn(Version, &mut Command),
}

impl BothWays<'_> {
    /// Has `dupfs` save a full backup and an increment, restore and show them, and each of the
    /// originals restore them, and add an increment that `dupfs` restores.
    pub fn run(&self, originals: &[Version]) {
        self.save(Version::Ours, 1);
        self.save(Version::Ours, 2);
        self.is_restored_by(Version::Ours, 2);
        let mut number = 2;
        for original in originals {
            self.is_restored_by(*original, number);
            number += 1;
            self.save(*original, number);
            self.env.clear_caches();
            self.is_restored_by(Version::Ours, number);
        }
        let mut mount = self.command(Version::Ours);
        mount.args(["mount", "--foreground", self.url]).arg(self.env.mountpoint());
        let mounted = Mounted::start(mount, &self.env.mountpoint());
        self.is_saved(&mounted.at(TIME + i64::from(number)), number);
        self.ask(Version::Ours, &["verify", "--compare-data", self.url, "source"]);
    }

    /// Prepares a program.
    pub fn command(&self, version: Version) -> Command {
        let mut command = match version {
            Version::Ours => self.env.dupfs(Encoding::Gzip),
            version => self.env.command(version.checked()),
        };
        if version != Version::Ours {
            command.arg("--no-encryption");
        }
        (self.prepare)(version, &mut command);
        command
    }

    #[track_caller]
    fn ask(&self, version: Version, words: &[&str]) {
        Outcome::of(self.command(version).args(words)).success();
    }

    /// Writes the state of a number, and saves it: the first one full.
    #[track_caller]
    pub fn save(&self, version: Version, number: u8) {
        let source = self.env.source();
        let changing = source.join("a");
        std::fs::write(&changing, content(number)).unwrap();
        // duplicity takes a file for the same that has the same time in seconds.
        let time = UNIX_EPOCH + Duration::from_secs(1000 * u64::from(number));
        let file = std::fs::File::options().write(true).open(&changing);
        file.and_then(|file| file.set_modified(time)).unwrap();
        std::fs::write(source.join(format!("of-{number}")), "new").unwrap();
        let action = if number == 1 { "full" } else { "incremental" };
        let time = (TIME + i64::from(number)).to_string();
        let words =
            [action, "--allow-source-mismatch", "--current-time", &time, "source", self.url];
        self.ask(version, &words);
    }

    #[track_caller]
    fn is_restored_by(&self, version: Version, number: u8) {
        let target = self.env.fresh(&format!("restored-by-{version:?}-{number}"));
        self.ask(version, &["restore", self.url, target.to_str().unwrap()]);
        self.is_saved(&target, number);
    }

    /// Fails unless a folder holds the state of a number.
    #[track_caller]
    fn is_saved(&self, place: &Path, number: u8) {
        assert!(std::fs::read(place.join("a")).unwrap() == content(number), "{place:?}: a");
        for number in 1..=number {
            assert_eq!(std::fs::read(place.join(format!("of-{number}"))).unwrap(), b"new");
        }
    }
}

fn content(number: u8) -> Vec<u8> {
    vec![number; 100_000 + usize::from(number)]
}
