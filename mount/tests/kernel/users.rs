//! Who gets in; mounts of ordinary users.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Mounted, Process, Served, USER, as_user, listed, open_device, within};

#[test]
fn only_the_mounting_user_gets_in() {
    let mounted = Mounted::sample();
    for path in [mounted.root().to_owned(), mounted.path("file")] {
        let message = as_user("stat", &[path.as_os_str()]).unwrap_err();
        assert!(message.contains("Permission denied"), "{message}");
    }
}

#[test]
fn others_get_in_if_allowed_and_modes_count() {
    let mounted = Mounted::with(|options| options.allow_other = true);
    assert!(listed(mounted.root()).unwrap().contains("default_permissions,allow_other"));
    let size = |name: &str| as_user("stat", &["-c%s".as_ref(), mounted.path(name).as_os_str()]);
    assert_eq!((size("file"), size("private")), (Ok("1000\n".into()), Ok("10\n".into())));
    let read = |name: &str| as_user("cat", &[mounted.path(name).as_os_str()]);
    assert!(
        as_user("cmp", &[mounted.path("big").as_os_str(), mounted.path("sparing").as_os_str()])
            .is_ok()
    );
    assert!(read("private").unwrap_err().contains("Permission denied"));
    assert_eq!(fs::read(mounted.path("private")).unwrap().len(), 10, "root reads it");
}

#[test]
fn programs_run_unless_forbidden() {
    for no_exec in [false, true] {
        let mounted = Mounted::with(|options| options.no_exec = no_exec);
        assert_eq!(listed(mounted.root()).unwrap().contains(",noexec,"), no_exec);
    }
}

#[test]
fn an_ordinary_user_mounts() {
    let device = open_device();
    let served = Served::start_as_user(&device);
    let line = listed(served.root()).unwrap();
    assert!(line.starts_with("dupfs ") && line.contains(" fuse.dupfs ro,nosuid,nodev,"), "{line}");
    assert!(line.contains(&format!("user_id={USER},")), "{line}");
    let read = |name: &str| as_user("cat", &[served.path(name).as_os_str()]);
    assert!(
        as_user("cmp", &[served.path("big").as_os_str(), served.path("sparing").as_os_str()])
            .is_ok()
    );
    assert_eq!(
        read("private").map(|text| text.len() > 1),
        Ok(true),
        "he may read all that his key opens"
    );
    assert_eq!(
        as_user(
            "sh",
            &["-c".as_ref(), "ls \"$0\" | wc -l".as_ref(), served.path("many").as_os_str()]
        ),
        Ok("100000\n".into())
    );
    assert!(read("broken").unwrap_err().contains("Input/output error"));
    let message = as_user("touch", &[served.path("new").as_os_str()]).unwrap_err();
    assert!(message.contains("Read-only file system"), "{message}");
    assert!(File::open(served.path("file")).is_err(), "nobody else gets in");
}

#[test]
fn the_mount_of_a_user_is_detached_when_in_use() {
    let device = open_device();
    let mut served = Served::start_as_user(&device);
    // A reader that has the file open and reads when told to.
    let script = "exec 3<\"$0\"; echo open; read -r line; wc -c <&3";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(served.path("big")).uid(USER).gid(USER);
    let mut reader = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut output = std::io::BufReader::new(reader.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut String::new()).unwrap();
    served.process.send(Signal::TERM);
    within(2, "detached", || listed(served.root()).is_none());
    drop(reader.0.stdin.take());
    assert_eq!(std::io::read_to_string(output).unwrap(), format!("{}\n", crate::memory::BIG));
    assert!(reader.end_within(5).success());
    assert!(served.process.end_within(5).success());
}
