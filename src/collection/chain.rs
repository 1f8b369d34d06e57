//! [`BackupChain`] and [`SignatureChain`]: one full set and its increments, and their signature
//! files.

use super::{BackupSet, Problem, SignatureFile};
use crate::format::Session;
use crate::model::BackupTime;

/// One full set and the increments that build on it, in time order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupChain {
    /// Never empty: the full set, then each increment behind its base.
    sets: Vec<BackupSet>,
}

impl BackupChain {
    /// Returns the sets: the full one first, never none.
    pub fn sets(&self) -> &[BackupSet] {
        &self.sets
    }

    /// Returns the full set's time.
    pub fn start(&self) -> BackupTime {
        self.sets[0].session.end()
    }

    /// Returns the last set's time.
    pub fn end(&self) -> BackupTime {
        self.last().session.end()
    }

    /// Returns the last set.
    pub fn last(&self) -> &BackupSet {
        &self.sets[self.sets.len() - 1]
    }

    /// Takes the end off, so that at most `count` sets are left, but always the full one; returns
    /// what is taken off.
    pub(super) fn cut(&mut self, count: usize) -> Vec<BackupSet> {
        self.sets.split_off(count.clamp(1, self.sets.len()))
    }

    /// Links complete sets into chains, sorted by end time; also returns the sets that fit none,
    /// each with the reason among its problems.
    ///
    /// An increment goes behind the first chain (in the order of their full sets) that ends at its
    /// start. If a chain's last increment has the same start, the one that ends later takes its
    /// place: so duplicity does it, and so sets that build on the one replaced are orphaned.
    ///
    /// Source: duplicity 0.8.22 and 3.2.1, tried with hand-made collections.
    pub(super) fn link(mut sets: Vec<BackupSet>) -> (Vec<Self>, Vec<BackupSet>) {
        sets.sort_by_key(|set| (set.session.end(), !set.session.is_full(), set.session.start()));
        let mut chains: Vec<Self> = Vec::new();
        let mut orphaned = Vec::new();
        for mut set in sets {
            if set.session.is_full() {
                chains.push(Self { sets: vec![set] });
                continue;
            }
            match chains.iter_mut().find(|chain| chain.takes(set.session)) {
                Some(chain) => orphaned.extend(chain.add(set)),
                None => {
                    set.problems.push(Problem::NoBase);
                    orphaned.push(set);
                }
            }
        }
        chains.sort_by_key(|chain| (chain.end(), chain.start()));
        (chains, orphaned)
    }

    /// Returns whether an increment belongs behind the last set or in its place.
    fn takes(&self, session: Session) -> bool {
        let last = self.last().session;
        let follows = session.start() == self.end() && session.end() > session.start();
        follows
            || (!last.is_full() && last.start() == session.start() && last.end() < session.end())
    }

    /// Adds an increment that belongs here; returns the set that it replaces.
    fn add(&mut self, set: BackupSet) -> Option<BackupSet> {
        let mut replaced = None;
        if set.session.start() != self.end() {
            replaced = self.sets.pop();
        }
        if let Some(replaced) = &mut replaced {
            replaced.problems.push(Problem::Replaced { by: set.session });
        }
        self.sets.push(set);
        replaced
    }
}

/// The signature file of one full set and those of its increments, in time order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureChain {
    /// Never empty.
    files: Vec<SignatureFile>,
}

impl SignatureChain {
    /// Returns the signature files: that of the full set first, never none.
    pub fn files(&self) -> &[SignatureFile] {
        &self.files
    }

    /// Returns the time of the last set.
    pub fn end(&self) -> BackupTime {
        self.files[self.files.len() - 1].session.end()
    }

    /// Links signature files into chains, sorted by end time; also returns those that fit none.
    ///
    /// Source: duplicity 0.8.22 and 3.2.1, tried with hand-made collections.
    pub(super) fn link(mut files: Vec<SignatureFile>) -> (Vec<Self>, Vec<SignatureFile>) {
        files.sort_by_key(|file| {
            (!file.session.is_full(), file.session.start(), file.session.end())
        });
        let mut chains: Vec<Self> = Vec::new();
        let mut orphaned = Vec::new();
        for file in files {
            let session = file.session;
            let fits = |chain: &&mut Self| {
                session.start() == chain.end() && session.end() > session.start()
            };
            if session.is_full() {
                chains.push(Self { files: vec![file] });
            } else if let Some(chain) = chains.iter_mut().find(fits) {
                chain.files.push(file);
            } else {
                orphaned.push(file);
            }
        }
        chains.sort_by_key(|chain| (chain.end(), chain.files[0].session.end()));
        (chains, orphaned)
    }
}
