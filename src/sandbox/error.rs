//! Errors of starting or changing a sandbox.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An error of a sandbox.
#[derive(Debug)]
pub enum SandboxError {
    /// An option cannot be used.
    Option {
        /// Its name.
        name: &'static str,
        /// What is expected.
        reason: String,
    },
    /// An account is invalid.
    Account {
        /// What is wrong with it.
        reason: String,
    },
    /// The port is not available.
    Bind {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The file of accounts could not be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of accounts is damaged, or is another kind of file.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The number of the line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option { name, reason } => write!(formatter, "{name} {reason}"),
            Self::Account { reason } => write!(formatter, "an account of the sandbox cannot be used: {reason}"),
            Self::Bind { port, source } => write!(formatter, "the sandbox cannot listen on 127.0.0.1:{port}: {source}"),
            Self::File { path, source } => {
                write!(formatter, "the sandbox's file {} cannot be used: {source}", path.display())
            }
            Self::Damaged { path, line, reason } => {
                write!(formatter, "the sandbox's file {} is damaged in line {line}: {reason}", path.display())
            }
            Self::Thread(source) => write!(formatter, "the sandbox's thread cannot be started: {source}"),
        }
    }
}

impl std::error::Error for SandboxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::File { source, .. } | Self::Thread(source) => Some(source),
            Self::Option { .. } | Self::Account { .. } | Self::Damaged { .. } => None,
        }
    }
}
