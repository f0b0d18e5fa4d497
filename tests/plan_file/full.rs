//! A disk without room stops the job before the next update, marks nothing, and loses nothing; with room the same
//! handle goes on.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Command, Stdio};

use replyio::plan::file::{Builder, FileErrorKind};

use super::pages::{ROWS, fill_and_go_on};
use super::{CHILD, Folder, build, child_path, header, planned};

#[test]
fn a_file_that_may_not_grow_stops_and_goes_on() {
    if let Some(path) = child_path() {
        // The limit is a soft one, and is lifted in the running process as an administrator would.
        let id = std::process::id().to_string();
        let lift = || {
            let lifted = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited:"]).status();
            assert!(lifted.unwrap().success());
        };
        fill_and_go_on(&path, lift);
        println!("went on");
        return;
    }
    if Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "no prlimit, and CI leaves nothing out");
        return println!("skipped: no prlimit");
    }
    let folder = Folder::new();
    drop(build(&folder.plan(), ROWS).unwrap());
    // In units of 512 bytes; a larger file than the limit cannot be written even where it already is.
    let limit = fs::metadata(folder.plan()).unwrap().len() / 512 + 400;
    let script = format!("trap '' XFSZ; ulimit -S -f {limit}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "full::a_file_that_may_not_grow_stops_and_goes_on", "--nocapture"]);
    let output = command.env(CHILD, folder.plan()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("went on"), "{text}");
}

#[test]
fn a_full_disk_stops_and_goes_on() {
    let folder = Folder::new();
    let mount = |action: &[&str]| {
        let done = Command::new(action[0]).args(&action[1..]).arg(folder.path()).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs"]) {
        return println!("skipped: no right to mount");
    }
    let done = std::panic::catch_unwind(|| {
        drop(build(&folder.plan(), ROWS).unwrap());
        let ballast = folder.path().join("ballast");
        let used = fs::metadata(folder.plan()).unwrap().len();
        fs::write(&ballast, vec![0; usize::try_from(640 * 1_024 - used).unwrap() / 2]).unwrap();
        fill_and_go_on(&folder.plan(), || {
            fs::remove_file(&ballast).unwrap();
            assert!(mount(&["mount", "-o", "remount,size=64m"]));
        });
        // Planning without room fails too, and leaves nothing behind.
        assert!(mount(&["mount", "-o", "remount,size=2m"]));
        let path = folder.path().join("large.replyio");
        let made = Builder::create(&path, &header()).and_then(|mut builder| {
            (0..50_000).try_for_each(|row| builder.add(planned(row)))?;
            builder.seal(50_000)
        });
        assert_eq!(made.err().unwrap().kind(), &FileErrorKind::Full);
        assert!(!path.exists());
    });
    assert!(mount(&["umount"]));
    if let Err(cause) = done {
        std::panic::resume_unwind(cause);
    }
}
