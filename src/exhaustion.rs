//! Tells an error of the operating system that lacks file descriptors from others.

use std::io;

/// The system errors for "no file descriptor left" in the process or the machine.
pub(crate) const EXHAUSTED: [i32; 2] = if cfg!(windows) { [4, 10_024] } else { [23, 24] };

/// Returns whether an error says that no file descriptor is left.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| EXHAUSTED.contains(&number))
}
