//! The command line as mount(8) and mount.fuse3 write it, made into ours.

use std::ffi::OsString;

/// Puts a command line into the form that [`super::grammar`] reads.
///
/// mount.fuse3 runs `dupfs URL DIR -o OPTIONS` for a line of type `fuse.dupfs` in /etc/fstab;
/// mount(8) itself runs `mount.dupfs URL DIR [-sfnv] [-o OPTIONS]` for type `dupfs`. Options behind
/// `-o` that mount(8) means for everybody are dropped, the others are ours, with `_` for `-` if one
/// likes.
pub fn prepare(arguments: Vec<OsString>, is_mount: bool) -> Vec<OsString> {
    let text = |argument: &OsString| argument.to_string_lossy().into_owned();
    let called = arguments
        .first()
        .map(|name| text(name).rsplit('/').next().unwrap_or_default().to_string())
        .unwrap_or_default();
    let by_mount = called.starts_with("mount.");
    let by_fuse =
        arguments.len() > 4 && !text(&arguments[1]).starts_with('-') && arguments[3] == "-o";
    let mut prepared = Vec::new();
    let mut rest = arguments.into_iter();
    prepared.extend(rest.next());
    if by_mount || by_fuse && rest.as_slice().first().is_none_or(|first| first != "mount") {
        prepared.push("mount".into());
    }
    let is_mount = is_mount
        || prepared.len() > 1
        || rest.as_slice().first().is_some_and(|first| first == "mount");
    while let Some(argument) = rest.next() {
        let name = text(&argument);
        match name.as_str() {
            "--" => {
                prepared.push(argument);
                prepared.extend(rest.by_ref());
            }
            "-n" | "-s" | "-v" if by_mount => {}
            "-t" | "-N" if by_mount => drop(rest.next()),
            _ if is_for_program(&name) => {
                prepared.push(argument);
                prepared.extend(rest.next());
            }
            "-o" if is_mount => prepared
                .extend(rest.next().iter().flat_map(|options| mount_options(&text(options)))),
            _ if is_mount && name.starts_with("-o") && name.len() > 2 => {
                prepared.extend(mount_options(&name[2..]))
            }
            _ => prepared.push(argument),
        }
    }
    prepared
}

/// Options whose value is for another program, and may begin with `-o`, too.
const FOR_PROGRAMS: &[&str] =
    &["--gpg-options", "--par2-options", "--rsync-options", "--ssh-options"];

/// Returns whether this is such an option, perhaps shortened.
fn is_for_program(name: &str) -> bool {
    name.len() > "--ssh-".len() && FOR_PROGRAMS.iter().any(|option| option.starts_with(name))
}

/// Options that mount(8) passes on although they are not for the file system, or that hold for
/// every dupfs mount.
const FOR_EVERYBODY: &[&str] = &[
    "rw",
    "ro",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "defaults",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nodiratime",
    "sync",
    "async",
    "default_permissions",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "diratime",
    "nostrictatime",
    "dirsync",
    "silent",
    "loud",
    "debug",
];

fn mount_options(list: &str) -> Vec<OsString> {
    let ours = |option: &&str| {
        let name = option.split('=').next().unwrap_or_default();
        !name.is_empty()
            && !name.starts_with("x-")
            && !name.starts_with("X-")
            && !["comment", "user", "fsname", "subtype"].contains(&name)
            && !FOR_EVERYBODY.contains(option)
    };
    let long = |option: &str| match option.split_once('=') {
        Some((name, value)) => format!("--{}={value}", name.replace('_', "-")).into(),
        None => format!("--{}", option.replace('_', "-")).into(),
    };
    list.split(',').filter(ours).map(long).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(line: &str) -> String {
        let words: Vec<_> =
            prepare(line.split(' ').map(Into::into).collect(), line.contains(" -x "))
                .into_iter()
                .map(|w| w.into_string().unwrap())
                .collect();
        words.join(" ")
    }

    #[test]
    fn mount_8_and_fstab_lines_become_ours() {
        for (typed, expected) in [
            (
                "mount.dupfs /b /m -v -n -t dupfs -o rw,allow_other,owner=1:2",
                "mount.dupfs mount /b /m --allow-other --owner=1:2",
            ),
            (
                "dupfs file:///b /m -o rw,noauto,user=me,x-systemd.automount",
                "dupfs mount file:///b /m",
            ),
            (
                "dupfs mount -oforeground,time_template=%F /b /m",
                "dupfs mount --foreground --time-template=%F /b /m",
            ),
            ("dupfs list-current-files /b", "dupfs list-current-files /b"),
            (
                "dupfs mount --ssh-options -oPort=1 /b /m -o noexec",
                "dupfs mount --ssh-options -oPort=1 /b /m --noexec",
            ),
            ("dupfs -x mou /b /m -o noexec,lazytime,fsname=x", "dupfs -x mou /b /m --noexec"),
        ] {
            assert_eq!(prepared(typed), expected);
        }
    }
}
