//! [`find`]: logins that `~/.netrc` holds, as ftp, curl and lftp read them.
//!
//! Source: netrc(5), and curl's documentation for `NETRC` and quoted words.

use crate::storage::Settings;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A user's name, and the password where there is one.
pub struct Login {
    /// Who logs in.
    pub user: String,
    /// The password.
    pub password: Option<Zeroizing<String>>,
}

/// Returns the login for a host, of this user where one is named; from the file that `NETRC` names,
/// or `~/.netrc`.
pub fn find(settings: &Settings, host: &str, user: Option<&str>) -> Option<Login> {
    let named = settings.variable("NETRC").map(|path| PathBuf::from(&*path));
    let home = || Some(PathBuf::from(&*settings.variable("HOME")?).join(".netrc"));
    let path = named.or_else(home)?;
    let text = Zeroizing::new(crate::storage::read_file(&path).ok()?);
    find_in(&Zeroizing::new(String::from_utf8_lossy(&text).into_owned()), host, user)
}

/// Returns the first login of the host, or of the default, that fits.
fn find_in(text: &str, host: &str, user: Option<&str>) -> Option<Login> {
    let mut words = words(text).into_iter();
    let (mut is_wanted, mut name, mut password) = (false, None, None);
    let login = |is_wanted: bool, name: Option<String>, password: Option<Zeroizing<String>>| {
        let name = name.filter(|_| is_wanted)?;
        let fits = user.is_none_or(|user| user == name);
        fits.then_some(Login { user: name, password })
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            begin @ ("machine" | "default") => {
                if let Some(found) = login(is_wanted, name.take(), password.take()) {
                    return Some(found);
                }
                let of_host = |found: Option<Zeroizing<String>>| {
                    found.is_some_and(|found| found.eq_ignore_ascii_case(host))
                };
                is_wanted = begin == "default" || of_host(words.next());
            }
            "login" => name = words.next().map(|word| word.to_string()),
            "password" => password = words.next(),
            "account" => drop(words.next()),
            _ => {}
        }
    }
    login(is_wanted, name, password)
}

/// Returns the words, without comments and macros. A word in double quotes may hold blanks.
fn words(text: &str) -> Vec<Zeroizing<String>> {
    let mut found: Vec<Zeroizing<String>> = Vec::new();
    let mut is_macro = false;
    for line in text.lines() {
        if is_macro {
            // It ends at an empty line.
            is_macro = !line.trim().is_empty();
            continue;
        }
        let mut rest = line.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (word, behind) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
            };
            if word == "macdef" {
                is_macro = true;
                break;
            }
            found.push(Zeroizing::new(word.to_string()));
            rest = behind.trim_start();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_by_host_and_user() {
        let text = "# a comment\nmachine one login me password \"a b\"\nmacdef init\n machine two login no\n\nmachine two\n login you\n password x\n\
                    machine two login other account a password y\ndefault login any password z\n";
        let found = |host: &str, user: Option<&str>| {
            let login = find_in(text, host, user)?;
            Some(format!("{} {}", login.user, login.password.map_or("-".into(), |p| p.to_string())))
        };
        for (host, user, expected) in [
            ("ONE", None, Some("me a b")),
            ("two", None, Some("you x")),
            ("two", Some("other"), Some("other y")),
            ("two", Some("none"), None),
            ("three", None, Some("any z")),
        ] {
            assert_eq!(found(host, user).as_deref(), expected, "{host} {user:?}");
        }
        assert!(find_in("machine one", "one", None).is_none());
    }
}
