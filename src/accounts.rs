//! Users and groups of this machine: from the owner that a backup names to numbers that count here.

use crate::model::Owner;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Turns owners into numbers: by name where this machine knows the name, else by number, as
/// duplicity does.
///
/// Source: seen with 0.8.22 and 3.2.1; `--numeric-owner` takes the numbers always.
#[derive(Default)]
pub struct Accounts {
    numeric: bool,
    users: Mutex<HashMap<Vec<u8>, Option<u32>>>,
    groups: Mutex<HashMap<Vec<u8>, Option<u32>>>,
}

impl Accounts {
    /// Looks names up, unless `numeric`.
    pub fn new(numeric: bool) -> Self {
        Self { numeric, ..Self::default() }
    }

    /// Returns user and group number for an owner.
    pub fn numbers(&self, owner: &Owner) -> (u32, u32) {
        if self.numeric {
            return (owner.uid, owner.gid);
        }
        let user = |name: &OsStr| uzers::get_user_by_name(name).map(|user| user.uid());
        let group = |name: &OsStr| uzers::get_group_by_name(name).map(|group| group.gid());
        let uid = known(&self.users, &owner.user, user).unwrap_or(owner.uid);
        (uid, known(&self.groups, &owner.group, group).unwrap_or(owner.gid))
    }
}

fn known(
    cache: &Mutex<HashMap<Vec<u8>, Option<u32>>>,
    name: &[u8],
    ask: impl Fn(&OsStr) -> Option<u32>,
) -> Option<u32> {
    if name.is_empty() || name.contains(&0) {
        return None;
    }
    let mut cache = cache.lock();
    if let Some(&number) = cache.get(name) {
        return number;
    }
    let number = ask(OsStr::from_bytes(name));
    cache.insert(name.to_vec(), number);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_win_over_numbers_unless_told_otherwise() {
        let owner = |user: &str, group: &str| Owner {
            uid: 4711,
            gid: 4712,
            user: user.into(),
            group: group.into(),
        };
        let accounts = Accounts::new(false);
        assert_eq!(accounts.numbers(&owner("root", "root")), (0, 0));
        assert_eq!(accounts.numbers(&owner("", "no such group, surely")), (4711, 4712));
        assert_eq!(Accounts::new(true).numbers(&owner("root", "root")), (4711, 4712));
    }
}
