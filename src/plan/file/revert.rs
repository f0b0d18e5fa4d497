//! The plan that reverts another one: what is in it, and in which file it is.

use std::path::{Path, PathBuf};

use super::error::{FileError, FileErrorKind};
use super::header::Header;
use super::{Builder, PlanFile};
use crate::clock::now_ms;
use crate::sabotage::{Guard, is_off};

impl PlanFile {
    /// The plan that reverts this one, in a file beside it: `name.revert.suffix`, or `name.revert2.suffix` and so on where
    /// there are some that were made before more of this plan was written.
    ///
    /// One that was made since the last update of this plan was sent is opened, so that what is left of it can be applied.
    ///
    /// # Errors
    /// [`FileErrorKind::Foreign`] when one of the names is taken by something else than a revert of this plan, and others
    /// when one of the files cannot be used.
    pub fn revert_file(&self) -> Result<Self, FileError> {
        let sent = self.state()?.sent;
        for number in 1_u32.. {
            let path = self.revert_path(number);
            let foreign = || {
                let name = self.path().display();
                let what =
                    format!("is not a revert of {name}, but has the name of one; move it away, then revert again");
                FileError::new(&path, FileErrorKind::Foreign(what))
            };
            if path.symlink_metadata().is_err() {
                return self.revert_as(&path);
            }
            let found = Self::check(&path, self.0.interrupt.clone()).map_err(|error| match error.kind() {
                FileErrorKind::Missing | FileErrorKind::NotAPlan | FileErrorKind::Older => foreign(),
                _ => error,
            })?;
            if is_off(Guard::RevertParent) {
                return Ok(found);
            }
            if found.header().parent.as_ref() != Some(&self.header().identity) {
                return Err(foreign());
            }
            if found.header().parent_writes == sent {
                return Ok(found);
            }
        }
        Err(FileError::new(self.path(), FileErrorKind::Exists))
    }

    fn revert_path(&self, number: u32) -> PathBuf {
        let path = self.path();
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(".revert");
        if number > 1 {
            name.push(number.to_string());
        }
        if let Some(suffix) = path.extension() {
            name.push(".");
            name.push(suffix);
        }
        path.with_file_name(name)
    }

    /// Makes the plan that reverts this one, in a new file.
    ///
    /// # Errors
    /// [`FileError`] when one of the two files cannot be used.
    pub fn revert_as(&self, path: &Path) -> Result<Self, FileError> {
        let header = Header {
            identity: Header::new_identity()?,
            parent: Some(self.header().identity.clone()),
            parent_writes: self.state()?.sent,
            is_revert: true,
            created_at_ms: now_ms(),
            ..self.header().clone()
        };
        let mut builder = Builder::create(path, &header)?;
        let mut rows = 0;
        self.revert_rows(|row| {
            rows += 1;
            builder.add(row)
        })?;
        builder.seal(rows)
    }
}
