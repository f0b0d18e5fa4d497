//! Several ledgers of one user stand for several processes: each has its own file descriptor, and with it its own lock.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use tempfile::TempDir;

use super::*;
use crate::config::ApiKey;
use crate::quota::Quota;

const QUOTA: Quota = Quota { per_minute: 3, per_hour: 1_000 };

struct Folder {
    path: PathBuf,
    /// Deletes the folder when the test ends. `None` for a folder of someone else.
    _owner: Option<TempDir>,
}

impl Folder {
    fn new() -> Self {
        let owner = TempDir::with_prefix("replyio-ledger-").unwrap();
        Self { path: owner.path().to_owned(), _owner: Some(owner) }
    }

    fn of_others(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), _owner: None }
    }

    fn inside(&self) -> PathBuf {
        self.path.join("quota")
    }

    fn ledger_file(&self) -> PathBuf {
        let mut found = fs::read_dir(self.inside()).unwrap().map(|entry| entry.unwrap().path());
        found.find(|path| path.extension().is_some_and(|ending| ending == "ledger")).unwrap()
    }
}

struct Process {
    windows: Windows,
    ledger: Ledger,
}

impl Process {
    fn of(folder: &Folder, key: &str) -> Self {
        Self::of_user(folder, key, "somewhere")
    }

    fn at(folder: &Folder, service: &str) -> Self {
        Self::of_user(folder, "a-key", service)
    }

    fn of_user(folder: &Folder, key: &str, service: &str) -> Self {
        let key_hash = ApiKey::new(key).unwrap().keyed_hash(b"replyio quota");
        let user = User { key_hash, service: service.to_owned(), rest: String::new(), scale: 1.0 };
        Self { windows: Windows::default(), ledger: Ledger::new(user, Some(folder.path.clone())) }
    }

    fn new(folder: &Folder) -> Self {
        Self::of(folder, "a-key")
    }

    /// Books, and returns how long it has to wait, in whole seconds.
    fn book(&mut self) -> u64 {
        self.book_of(QUOTA).0
    }

    fn book_of(&mut self, quota: Quota) -> (u64, Duration) {
        self.ledger.in_step(&mut self.windows, |windows, now| {
            let (moment, _) = windows.reserve(quota, now, Duration::MAX).unwrap();
            ((moment.saturating_sub(now) + Duration::from_millis(500)).as_secs(), moment)
        })
    }

    fn booked(&mut self) -> usize {
        self.ledger.in_step(&mut self.windows, |windows, _| windows.booked().count())
    }
}

#[test]
fn what_one_process_books_the_others_count() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    assert_eq!((one.book(), two.book(), one.book()), (0, 0, 0));
    assert_eq!((two.book(), one.book()), (60, 60));
    // A third one, started later, continues where they are.
    let mut three = Process::new(&folder);
    assert_eq!(three.book(), 60);
    assert_eq!(three.book(), 120);
    assert!(three.ledger.is_shared() && three.ledger.take_warning().is_none());
}

#[test]
fn a_slot_given_back_or_moved_is_so_for_everybody() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    let (_, first) = one.book_of(QUOTA);
    assert_eq!((one.book(), two.book()), (0, 0));
    one.ledger.in_step(&mut one.windows, |windows, _| windows.release(first));
    assert_eq!(two.book(), 0);
    assert_eq!(two.book(), 60);
    let (_, last) = two.book_of(QUOTA);
    two.ledger.in_step(&mut two.windows, |windows, _| windows.release(last));
    assert_eq!(one.booked(), two.booked());
    assert!(one.windows.booked().eq(two.windows.booked()));
}

#[test]
fn a_hold_of_one_process_holds_all() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    one.book();
    two.ledger.in_step(&mut two.windows, |windows, now| windows.hold(now, Duration::from_secs(42)));
    assert_eq!(one.book(), 42);
    assert_eq!(Process::new(&folder).book(), 42);
}

#[test]
fn other_keys_and_users_have_ledgers_of_their_own_and_the_files_name_neither() {
    let folder = Folder::new();
    assert_eq!(Process::of(&folder, "the-first-key").book_of(Quota { per_minute: 1, ..QUOTA }).0, 0);
    assert_eq!(Process::of(&folder, "the-other-key").book_of(Quota { per_minute: 1, ..QUOTA }).0, 0);
    for entry in fs::read_dir(folder.inside()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let content = fs::read(entry.path()).unwrap();
        for text in ["first", "other", "key"] {
            assert!(!entry.file_name().to_str().unwrap().contains(text));
            assert!(!content.windows(text.len()).any(|part| part == text.as_bytes()));
        }
    }
    assert_eq!(fs::metadata(folder.inside()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_file_never_outgrows_its_two_areas_and_keeps_what_counts() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    let (_, kept) = two.book_of(QUOTA);
    for _ in 0..2 * CAPACITY {
        let (_, moment) = one.book_of(QUOTA);
        one.ledger.in_step(&mut one.windows, |windows, _| windows.release(moment));
    }
    assert!(fs::metadata(folder.ledger_file()).unwrap().len() <= format::LONGEST_FILE);
    assert_eq!(two.booked(), 1);
    assert!(two.windows.booked().eq([kept]));
    assert!(Process::new(&folder).booked() == 1 && one.booked() == 1);
}

/// Changes the header of a ledger file, as another process may have left it.
fn change_header(folder: &Folder, change: impl FnOnce(&mut Header)) {
    let file = File::options().read(true).write(true).open(folder.ledger_file()).unwrap();
    let Found::Header(mut header) = Header::read(&file.read_part(0, HEADER_LENGTH).unwrap()) else { panic!() };
    change(&mut header);
    file.write_part(0, &header.to_bytes()).unwrap();
}

#[test]
fn a_system_clock_that_is_set_back_sets_the_ledgers_back_for_nobody_and_no_wait_grows() {
    const DAY: u64 = 86_400_000_000;
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    one.book();
    // The clock is a day ahead, and is then corrected. A process that starts after that sees requests with a time of
    // tomorrow.
    change_header(&folder, |header| header.ahead += DAY);
    assert_eq!((one.book(), one.book(), one.book()), (0, 0, 0));
    let tomorrow = one.ledger.in_step(&mut one.windows, |_, now| now);
    change_header(&folder, |header| header.ahead -= DAY);
    assert_eq!((two.book(), Process::new(&folder).book(), one.book()), (60, 60, 60));
    assert!(one.ledger.in_step(&mut one.windows, |_, now| now) >= tomorrow);
}

#[test]
fn bookings_and_holds_that_nobody_can_have_made_count_for_nobody() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    two.book();
    one.ledger.in_step(&mut one.windows, |windows, now| windows.book_again([now + 10 * HOUR].into_iter()));
    change_header(&folder, |header| header.held_until = u64::MAX);
    let mut three = Process::new(&folder);
    assert_eq!((two.booked(), three.booked()), (1, 1));
    assert_eq!((two.book(), three.book(), three.book()), (0, 0, 60));
}

#[test]
fn after_a_boot_the_requests_of_the_hour_before_it_count() {
    let folder = Folder::new();
    let mut one = Process::new(&folder);
    assert_eq!((one.book(), one.book()), (0, 0));
    change_header(&folder, |header| {
        header.boot ^= 1;
        header.ahead = 0;
    });
    let mut two = Process::new(&folder);
    assert_eq!((two.book(), two.book()), (0, 60));
}

#[test]
fn a_service_that_starts_anew_finds_nothing_booked_and_nobody_held() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    let mut other = Process::at(&folder, "another-place");
    for process in [&mut one, &mut other] {
        for _ in 0..3 {
            process.book();
        }
        process.ledger.in_step(&mut process.windows, |windows, now| windows.hold(now, Duration::from_secs(600)));
    }
    assert_eq!(two.book(), 600);
    forget("somewhere", Some(folder.path.clone()));
    assert_eq!((two.book(), one.book(), Process::new(&folder).book(), one.book()), (0, 0, 0, 60));
    assert_eq!((other.book(), Process::at(&folder, "another-place").book()), (600, 600));
    // Nothing is created where there is no ledger.
    let empty = Folder::of_others(folder.path.join("not there"));
    forget("somewhere", Some(empty.path.clone()));
    assert!(!empty.path.exists());
}

#[test]
fn a_folder_keeps_a_bounded_number_of_ledgers() {
    let folder = Folder::new();
    let ledgers = || fs::read_dir(folder.inside()).unwrap().count() - 1;
    for number in 0..place::MOST + 20 {
        Process::at(&folder, &format!("127.0.0.1:{number}")).book();
    }
    assert_eq!(ledgers(), place::MOST + 20, "each may still count");
    for entry in fs::read_dir(folder.inside()).unwrap() {
        let file = File::options().append(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_700)).unwrap();
    }
    Process::at(&folder, "127.0.0.1:9999").book();
    assert_eq!(ledgers(), place::MOST);
}

/// Returns what happens to a process whose ledger is damaged while it is open, and to one that starts then.
fn after(damage: impl Fn(&Path)) -> (Process, Process, Folder) {
    let folder = Folder::new();
    let mut one = Process::new(&folder);
    one.book();
    damage(&folder.ledger_file());
    one.ledger.looked -= 2 * LOOK;
    let mut two = Process::new(&folder);
    let began = Instant::now();
    one.book();
    two.book();
    assert!(began.elapsed() < Duration::from_secs(1));
    (one, two, folder)
}

#[test]
fn a_ledger_that_is_truncated_zeroed_or_deleted_is_made_anew_from_what_is_known() {
    let truncated =
        |length: u64| move |path: &Path| File::options().write(true).open(path).unwrap().set_len(length).unwrap();
    for length in [0, 10, 63] {
        let (mut one, mut two, _folder) = after(truncated(length));
        assert_eq!((one.booked(), two.booked()), (3, 3), "{length}");
    }
    let (mut one, mut two, _folder) = after(|path| fs::write(path, vec![0; 1_000]).unwrap());
    assert_eq!((one.booked(), two.booked()), (3, 3));
    let (mut one, mut two, _folder) = after(|path| fs::remove_file(path).unwrap());
    assert!(one.ledger.is_shared() && two.ledger.is_shared());
    assert!((2..=3).contains(&one.booked()) && (2..=3).contains(&two.booked()));
}

#[test]
fn any_bytes_in_place_of_a_ledger_stop_nobody() {
    for round in 0..200 {
        let (one, two, _folder) = after(|path| {
            let mut content = fs::read(path).unwrap();
            let length = content.len();
            for _ in 0..=fastrand::usize(..20) {
                content[fastrand::usize(..length)] = fastrand::u8(..);
            }
            if round % 3 == 0 {
                content.truncate(fastrand::usize(..length));
            }
            fs::write(path, content).unwrap();
        });
        for mut process in [one, two] {
            assert!(process.booked() <= 3);
        }
    }
}

#[test]
fn what_is_not_ours_is_neither_followed_nor_overwritten() {
    let precious = "my diary of a year";
    // Another person's file in its place.
    let (one, mut two, folder) = after(|path| fs::write(path, precious).unwrap());
    assert!(!one.ledger.is_shared() && two.ledger.take_warning().unwrap().contains("not a quota file"));
    assert_eq!(fs::read_to_string(folder.ledger_file()).unwrap(), precious);
    // A link in its place, and a second name of another file.
    for hard in [false, true] {
        let (_, mut two, folder) = after(|path| {
            let target = path.with_file_name("precious");
            fs::write(&target, precious).unwrap();
            fs::remove_file(path).unwrap();
            if hard { fs::hard_link(target, path).unwrap() } else { symlink(target, path).unwrap() }
        });
        assert!(!two.ledger.is_shared());
        assert!(two.ledger.take_warning().is_some() && two.ledger.take_warning().is_none());
        assert_eq!(fs::read_to_string(folder.inside().join("precious")).unwrap(), precious);
    }
    // A FIFO does not block, and a folder is not a file.
    for make in ["mkfifo", "mkdir"] {
        let (_, two, _folder) = after(|path| {
            fs::remove_file(path).unwrap();
            assert!(Command::new(make).arg(path).status().unwrap().success());
        });
        assert!(!two.ledger.is_shared(), "{make}");
    }
}

#[test]
fn a_folder_that_others_can_reach_or_that_is_a_link_is_not_used() {
    let folder = Folder::new();
    fs::create_dir_all(folder.inside()).unwrap();
    fs::set_permissions(folder.inside(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut open = Process::new(&folder);
    assert_eq!((open.book(), open.ledger.is_shared()), (0, false));
    assert!(open.ledger.take_warning().unwrap().contains("other users can access it"));
    fs::remove_dir(folder.inside()).unwrap();
    fs::create_dir(folder.path.join("elsewhere")).unwrap();
    symlink("elsewhere", folder.inside()).unwrap();
    let mut linked = Process::new(&folder);
    assert_eq!((linked.book(), linked.ledger.is_shared()), (0, false));
    assert_eq!(fs::read_dir(folder.path.join("elsewhere")).unwrap().count(), 0);
    let nowhere = Folder::of_others("/proc/replyio");
    let mut nowhere = Process::new(&nowhere);
    assert_eq!((nowhere.book(), nowhere.book(), nowhere.book(), nowhere.book()), (0, 0, 0, 60));
    assert!(nowhere.ledger.take_warning().is_some());
}

#[test]
fn a_lock_that_is_never_given_back_delays_nobody_and_what_was_booked_meanwhile_is_told_later() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    one.book();
    let holder = File::open(folder.ledger_file()).unwrap();
    holder.lock().unwrap();
    let began = Instant::now();
    for expected in [0, 0, 60] {
        assert_eq!(one.book(), expected);
    }
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    assert!(!one.ledger.is_shared() && one.ledger.take_warning().is_none());
    one.ledger.missed_since = one.ledger.missed_since.map(|since| since.checked_sub(2 * STUCK).unwrap());
    one.book();
    assert!(one.ledger.take_warning().unwrap().contains("another program holds"));
    drop(holder);
    one.book();
    assert!(one.ledger.is_shared());
    assert_eq!((one.booked(), two.booked()), (6, 6));
}

/// A process whose next step fails: every write to its file fails with ENOSPC.
fn without_room(folder: &Folder) -> Process {
    let mut one = Process::new(folder);
    one.book();
    one.ledger.file = Some(File::options().read(true).write(true).open("/dev/full").unwrap());
    one
}

/// Lets the time pass that a ledger is not tried again after a passing fault.
fn let_a_minute_pass(process: &mut Process) {
    process.ledger.paused = process.ledger.paused.map(|since| since.checked_sub(2 * RETRY).unwrap());
}

#[test]
fn a_disk_without_room_stops_nobody_and_once_there_is_room_the_quota_is_shared_again() {
    let folder = Folder::new();
    let (mut one, mut two) = (without_room(&folder), Process::new(&folder));
    assert_eq!(one.book(), 0);
    assert!(!one.ledger.is_shared());
    let warning = one.ledger.take_warning().unwrap();
    let said =
        format!("for now, the quota counts only this process: {}: it cannot be written", one.ledger.path.display());
    assert!(warning.starts_with(&said), "{warning}");
    assert_eq!((one.book(), two.booked()), (0, 1), "alone for a minute, and nothing is lost");
    let_a_minute_pass(&mut one);
    assert_eq!((one.book(), one.ledger.is_shared()), (60, true));
    assert_eq!((one.booked(), two.booked()), (4, 4));
    assert!(one.ledger.take_warning().is_none());
}

#[test]
fn a_fault_that_does_not_pass_is_told_even_after_one_that_did() {
    let folder = Folder::new();
    let mut one = without_room(&folder);
    one.book();
    assert!(one.ledger.take_warning().is_some());
    fs::write(folder.ledger_file(), "my diary of a year").unwrap();
    let_a_minute_pass(&mut one);
    assert_eq!((one.book(), one.ledger.is_shared()), (0, false));
    let said = format!("{}: it is not a quota file; delete it", folder.ledger_file().display());
    assert!(one.ledger.take_warning().unwrap().ends_with(&said));
    assert!(one.ledger.off.is_some());
}

#[test]
fn however_long_a_fault_lasts_what_is_to_be_told_stays_bounded() {
    let folder = Folder::new();
    let mut one = without_room(&folder);
    let kept = one.windows.booked().next().unwrap();
    for _ in 0..CAPACITY {
        let (_, moment) = one.book_of(QUOTA);
        one.ledger.in_step(&mut one.windows, |windows, _| windows.release(moment));
    }
    one.ledger.in_step(&mut one.windows, |windows, _| windows.release(kept));
    assert!(one.windows.edits().len() <= CAPACITY as usize);
    one.book();
    let_a_minute_pass(&mut one);
    assert_eq!((one.booked(), one.ledger.is_shared()), (1, true));
    assert_eq!(Process::new(&folder).booked(), 1);
}

#[test]
fn it_is_known_which_process_used_how_much() {
    let folder = Folder::new();
    let mut one = Process::new(&folder);
    assert_eq!((one.book(), one.book()), (0, 0));
    let used = Process::new(&folder).ledger.used(&mut Windows::default());
    assert_eq!(used, [ProcessUse { process: std::process::id(), minute: 2, hour: 2 }]);
}

#[test]
fn ledgers_that_say_nothing_any_more_are_removed_when_a_new_one_is_made() {
    let folder = Folder::new();
    Process::new(&folder).book();
    let (old, other) = (folder.ledger_file(), folder.inside().join("notes.txt"));
    fs::write(&other, "mine").unwrap();
    for path in [&old, &other] {
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - 2 * 24 * HOUR).unwrap();
    }
    Process::of(&folder, "another-key").book();
    assert!(!old.exists() && other.exists());
}

/// The variable that contains the folder of the ledger, for a process of the measurement.
const MEASURED: &str = "REPLYIO_MEASURED_LEDGER";

/// The cost of a booking, alone and beside seven processes that book 80 times a second each. With optimization:
/// `cargo test --profile sabotage --lib cost_of_a_booking -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_booking() {
    let quota = Quota { per_minute: 4_000, per_hour: 4_000 };
    let measure = |folder: &Folder, count: usize, pause: Duration| {
        let mut one = Process::new(folder);
        let bare = folder.path.join("bare");
        let bare = File::options().create(true).truncate(false).read(true).write(true).open(bare).unwrap();
        bare.write_part(0, &[0; 100]).unwrap();
        let (mut took, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..count {
            std::thread::sleep(pause.mul_f64(fastrand::f64() * 2.0));
            let began = Instant::now();
            let (_, moment) = one.book_of(quota);
            took.push(began.elapsed());
            one.ledger.in_step(&mut one.windows, |windows, _| windows.release(moment));
            // Only the system calls of a booking.
            std::thread::sleep(pause.mul_f64(fastrand::f64() * 2.0));
            let began = Instant::now();
            let is_locked = place::lock(&bare, PATIENCE).unwrap();
            bare.read_part(0, HEADER_LENGTH).unwrap();
            bare.write_part(HEADER_LENGTH as u64, &[0; 24]).unwrap();
            bare.write_part(0, &[0; HEADER_LENGTH]).unwrap();
            bare.unlock().unwrap();
            floor.push(began.elapsed());
            assert!(is_locked);
        }
        let shown = |mut took: Vec<Duration>| {
            took.sort_unstable();
            format!("p50 {:?}, p99 {:?}, worst {:?}", took[count / 2], took[count * 99 / 100], took[count - 1])
        };
        println!("{}; its system calls alone: {}", shown(took), shown(floor));
    };
    let pause = Duration::from_millis(12);
    if let Some(folder) = std::env::var_os(MEASURED) {
        return measure(&Folder::of_others(folder), 1_000, pause);
    }
    let folder = Folder::new();
    let mut before = Process::new(&folder);
    for _ in 0..2_900 {
        before.book_of(quota);
    }
    for _ in 0..3 {
        println!("one after the other, alone:");
        measure(&folder, 50_000, Duration::ZERO);
        println!("with pauses, alone:");
        measure(&folder, 500, pause);
        println!("with pauses, each of eight processes:");
        let program = std::env::current_exe().unwrap();
        let name = "ledger::tests::the_cost_of_a_booking";
        let start = |_| {
            let mut command = Command::new(&program);
            command.args([name, "--exact", "--ignored", "--nocapture"]).env(MEASURED, &folder.path);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        };
        let processes: Vec<_> = (0..8).map(start).collect();
        for process in processes {
            let output = process.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            println!("{}", text.lines().find_map(|line| line.split_once("p50")).map_or("nothing", |(_, rest)| rest));
        }
    }
}

#[test]
fn bookings_that_do_not_fit_are_the_furthest_ones() {
    let folder = Folder::new();
    let (mut one, mut two) = (Process::new(&folder), Process::new(&folder));
    for _ in 0..CAPACITY + 100 {
        one.book_of(Quota::default());
    }
    assert!(two.book_of(Quota::default()).0 >= 60, "the requests of this minute still count");
}

#[test]
fn a_folder_that_only_this_process_cannot_use_is_told_of() {
    let (usual, other) = (Folder::new(), Folder::new());
    let user = Process::new(&usual).ledger.user;
    let open = |folders: &[&Folder]| {
        let folders: Vec<_> = folders.iter().map(|folder| folder.path.clone()).collect();
        place::open(&folders, &user).unwrap().2
    };
    assert!(open(&[&usual, &other]).is_none());
    fs::set_permissions(usual.inside(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(open(&[&usual, &other]).unwrap().to_string().contains("other users can access it"));
}
