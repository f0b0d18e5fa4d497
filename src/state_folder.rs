//! The folder of a system user for what outlives a process: the files of the quota, and plans without a name.

use std::env;
use std::path::PathBuf;

/// The variable that moves it.
const VARIABLE: &str = "REPLYIO_STATE_DIR";

/// Returns the folder that the user chose. It may be a relative path, which means another folder in each process.
pub(crate) fn chosen() -> Option<PathBuf> {
    env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Returns the folder by the platform's convention; `None` if the home directory is unknown.
pub(crate) fn usual() -> Option<PathBuf> {
    // A process of cron or systemd may have no HOME; the system knows the directory.
    of_platform(env::consts::OS, |name| env::var_os(name).map(PathBuf::from), env::home_dir)
}

fn of_platform(
    platform: &str,
    variable: impl Fn(&str) -> Option<PathBuf>,
    home: impl Fn() -> Option<PathBuf>,
) -> Option<PathBuf> {
    // By convention, a relative path is ignored.
    let variable = |name| variable(name).filter(|path| path.is_absolute());
    let in_home = |below: &str| home().filter(|home| home.is_absolute()).map(|home| home.join(below));
    let folder = match platform {
        "windows" => variable("LOCALAPPDATA").or_else(|| in_home("AppData/Local")),
        "macos" => in_home("Library/Application Support"),
        _ => variable("XDG_STATE_HOME").or_else(|| in_home(".local/state")),
    };
    folder.map(|folder| folder.join("replyio"))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_where_the_platform_has_it() {
        for (platform, set, expected) in [
            ("linux", None, "/people/ada/.local/state/replyio"),
            ("linux", Some(("XDG_STATE_HOME", "/state")), "/state/replyio"),
            ("linux", Some(("XDG_STATE_HOME", "relative")), "/people/ada/.local/state/replyio"),
            ("macos", None, "/people/ada/Library/Application Support/replyio"),
            ("windows", Some(("LOCALAPPDATA", "/local")), "/local/replyio"),
            ("windows", None, "/people/ada/AppData/Local/replyio"),
        ] {
            let variable = |name: &str| set.filter(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value));
            let found = of_platform(platform, variable, || Some("/people/ada".into()));
            assert_eq!(found, Some(PathBuf::from(expected)), "{platform} {set:?}");
            assert_eq!(of_platform("linux", |_| None, || None), None);
        }
    }
}
