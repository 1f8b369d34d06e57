//! Slow and blocked answers, killed readers.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::memory::BIG;
use crate::support::{Mounted, Process, within};

fn cat(mounted: &Mounted, name: &str) -> Process {
    let mut command = Command::new("cat");
    command.arg(mounted.path(name)).stdout(Stdio::null()).stderr(Stdio::null());
    // Whoever starts the tests in the background has SIGINT ignored, and the readers would inherit
    // that. SAFETY: signal(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        })
    };
    Process::start(&mut command)
}

#[test]
fn a_killed_reader_gets_away_while_others_read_on() {
    let mounted = Mounted::sample();
    // Twenty of each: in `read` the kernel waits for pages, in `open` for the answer itself.
    let mut readers: Vec<Process> =
        ["blocked", "stuck"].into_iter().cycle().take(40).map(|name| cat(&mounted, name)).collect();
    within(10, "forty readers wait", || mounted.memory.seen("open") >= 40);
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    assert_eq!(fs::read(mounted.path("big")).unwrap().len() as u64, BIG);
    assert_eq!(fs::read_dir(mounted.path("bare")).unwrap().count(), 301);
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "others wait behind the stuck ones: {:?}",
        start.elapsed()
    );
    for (reader, signal) in readers
        .iter()
        .zip([Signal::KILL, Signal::KILL, Signal::INT, Signal::TERM].into_iter().cycle())
    {
        reader.send(signal);
    }
    for reader in &mut readers {
        assert!(!reader.end_within(2).success());
    }
    assert!(mounted.log.lock().unwrap().is_empty());
}

#[test]
fn a_request_without_answer_ends_in_time() {
    let mounted = Mounted::with(|options| options.timeout = Duration::from_secs(1));
    for name in ["blocked", "stuck"] {
        let start = Instant::now();
        assert_eq!(
            fs::read(mounted.path(name)).unwrap_err().raw_os_error(),
            Some(libc::EIO),
            "{name}"
        );
        let elapsed = start.elapsed();
        assert!(
            elapsed > Duration::from_millis(900) && elapsed < Duration::from_secs(5),
            "{elapsed:?}"
        );
    }
    for (what, name) in [("read", "blocked"), ("open", "stuck")] {
        let line = format!(
            "no answer within 1s to {what} of inode {}: input/output error",
            mounted.memory.number(name)
        );
        within(1, &line, || mounted.log.lock().unwrap().contains(&line));
    }
    // The late answers harm nobody, and the next ones are in time.
    mounted.memory.release();
    for name in ["blocked", "stuck"] {
        assert_eq!(fs::read(mounted.path(name)).unwrap().len() as u64, BIG);
    }
}
