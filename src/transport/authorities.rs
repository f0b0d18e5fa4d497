//! The certificate authorities to trust.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_native_certs::{CertificateResult, ErrorKind as NativeError};

use super::is_exhaustion;
use crate::error::Error;
use crate::lock::lock;
use crate::per_process::PerProcess;
use crate::private_file;
use crate::text::plain_line;

const LONGEST_FILE: u64 = 16 << 20;
const NONE: &str = "has no certificate in PEM form";

/// What this process read last. To read the system's certificates takes longer than the rest of what a client does
/// before its first request.
static LAST: PerProcess<Last> = PerProcess::new();

/// The certificates that were read last, with their source.
#[derive(Debug, Default)]
struct Last(Mutex<Option<(Source, Arc<RootCertStore>)>>);

/// Where certificates come from, as far as it can be remembered.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The system, which a process asks once.
    System,
    /// A file, as it was when it was read.
    File { path: PathBuf, length: u64, modified: SystemTime },
}

impl Source {
    fn file(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self::File { path: path.to_owned(), length: found.len(), modified: found.modified().ok()? })
    }
}

/// Returns the authorities of a given file, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the system's, or the
/// bundled ones if the system has none.
///
/// # Errors
/// Returns [`Error::Configuration`] if the named file cannot be read or has no certificate, and [`Error::Exhausted`] if
/// no file can be opened.
pub(super) fn trusted(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, Error> {
    let (file, directories) = (env::var_os("SSL_CERT_FILE"), env::var_os("SSL_CERT_DIR"));
    let source = match (ca_file, &file, &directories) {
        (Some(path), ..) => Source::file(path),
        (None, Some(file), None) => Source::file(Path::new(file)),
        (None, None, None) => Some(Source::System),
        // Which files a directory leads to cannot be told without reading them.
        (None, _, Some(_)) => None,
    };
    LAST.get_or_init(Last::default).or_read(source, || match ca_file {
        Some(path) => {
            let subject = of("ca_file", path);
            store_of(&subject, certificates_of(&subject, path)?)
        }
        None => match of_variables(file.as_deref(), directories.as_deref())? {
            Some(store) => Ok(store),
            None => of_system(rustls_native_certs::load_native_certs()),
        },
    })
}

impl Last {
    /// Returns what was read last if it came from this source, and otherwise reads. A source of `None` is always read.
    fn or_read(
        &self,
        source: Option<Source>,
        read: impl FnOnce() -> Result<RootCertStore, Error>,
    ) -> Result<Arc<RootCertStore>, Error> {
        let Some(source) = source else { return read().map(Arc::new) };
        let mut last = lock(&self.0);
        if let Some((_, store)) = last.as_ref().filter(|(of, _)| *of == source) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(read()?);
        *last = Some((source, Arc::clone(&store)));
        Ok(store)
    }
}

/// Returns what the two variables name together; `None` if they are not set.
fn of_variables(file: Option<&OsStr>, directories: Option<&OsStr>) -> Result<Option<RootCertStore>, Error> {
    let (mut subject, mut certificates) = (String::new(), Vec::new());
    if let Some(file) = file {
        if file.is_empty() {
            return Err(refused("SSL_CERT_FILE", "is empty; set it to a file in PEM form, or unset it"));
        }
        subject = of("SSL_CERT_FILE", Path::new(file));
        certificates = certificates_of(&subject, Path::new(file))?;
    }
    let directories: Vec<_> = directories.map(|list| env::split_paths(list).collect()).unwrap_or_default();
    for directory in directories.iter().filter(|path| !path.as_os_str().is_empty()) {
        subject = of("SSL_CERT_DIR", directory);
        let CertificateResult { certs, errors, .. } = rustls_native_certs::load_certs_from_paths(None, Some(directory));
        if let Some(error) = errors.into_iter().next() {
            return Err(match error.kind {
                NativeError::Io { inner, .. } if is_exhaustion(&inner) => Error::Exhausted(inner),
                _ => refused(&subject, &format!("cannot be read ({error})")),
            });
        }
        certificates.extend(certs);
    }
    if subject.is_empty() { Ok(None) } else { store_of(&subject, certificates).map(Some) }
}

fn of_system(found: CertificateResult) -> Result<RootCertStore, Error> {
    let exhausted = found.errors.into_iter().find_map(|error| match error.kind {
        NativeError::Io { inner, .. } if is_exhaustion(&inner) => Some(inner),
        _ => None,
    });
    if let Some(error) = exhausted {
        return Err(Error::Exhausted(error));
    }
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(store)
}

fn store_of(subject: &str, certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    match store.add_parsable_certificates(certificates) {
        (0, _) => Err(refused(subject, NONE)),
        _ => Ok(store),
    }
}

fn certificates_of(subject: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = content(path).map_err(|error| {
        if is_exhaustion(&error) {
            Error::Exhausted(error)
        } else {
            refused(subject, &format!("cannot be read ({error})"))
        }
    })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(refused(subject, NONE)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(refused(subject, &format!("cannot be read as PEM ({error})"))),
    }
}

/// Returns the content of a regular file.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    private_file::open_linked(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is longer than 16 MiB"));
    }
    Ok(bytes)
}

/// Returns a setting with its path.
fn of(setting: &str, path: &Path) -> String {
    format!("{setting} {}", plain_line(&path.display().to_string(), 200))
}

fn refused(subject: &str, why: &str) -> Error {
    Error::Configuration(format!("{subject}: {}", plain_line(why, 300)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ffi::OsStr;
    use std::path::{Path, PathBuf};
    use std::{env, fs, io};

    use rustls_native_certs::CertificateResult;
    use tempfile::TempDir;

    use super::{Error, Last, RootCertStore, Source, of_system, of_variables, refused, trusted};

    /// A self-signed certificate authority for these tests.
    const AUTHORITY: &str = include_str!("../../tests/client/authority.pem");

    fn file(folder: &TempDir, name: &str, content: &str) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn variables(file: Option<&Path>, directories: Option<&Path>) -> Result<usize, String> {
        let store = of_variables(file.map(Path::as_os_str), directories.map(Path::as_os_str));
        store.map(|store| store.map_or(0, |store| store.len())).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_variables_name_is_trusted_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, "a.pem", AUTHORITY);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(variables(None, None), Ok(0));
        assert_eq!(variables(None, Some(Path::new(""))), Ok(0), "an empty list names nothing");
        assert_eq!(variables(Some(&file), None), Ok(1));
        assert_eq!(variables(None, Some(folder.path())), Ok(1));
        assert_eq!(variables(Some(&file), Some(empty.path())), Ok(1));
        let both = env::join_paths([empty.path(), folder.path()]).unwrap();
        assert_eq!(variables(None, Some(Path::new(&both))), Ok(1));
    }

    #[test]
    fn what_cannot_be_read_or_has_no_certificate_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (file, text) = (file(&folder, "a.pem", AUTHORITY), file(&folder, "b.pem", "no certificate"));
        let empty = tempfile::tempdir().unwrap();
        let none = folder.path().join("none");
        let refused = |file: Option<&Path>, directories: Option<&Path>, name: &str| {
            let message = variables(file, directories).unwrap_err();
            assert!(message.starts_with(name) && !message.contains('\n'), "{message}");
        };
        refused(Some(Path::new("")), None, "SSL_CERT_FILE: is empty");
        refused(Some(&none), None, "SSL_CERT_FILE ");
        refused(Some(&text), None, "SSL_CERT_FILE ");
        refused(Some(&text), Some(folder.path()), "SSL_CERT_FILE ");
        refused(Some(folder.path()), None, "SSL_CERT_FILE ");
        refused(None, Some(&none), "SSL_CERT_DIR ");
        refused(None, Some(empty.path()), "SSL_CERT_DIR ");
        refused(Some(&file), Some(&none), "SSL_CERT_DIR ");
        refused(None, Some(&file), "SSL_CERT_DIR ");
        let message = trusted(Some(&folder.path().join("a\nb"))).unwrap_err().to_string();
        assert!(message.starts_with("ca_file ") && !message.contains('\n'), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let others = [
            (fifo.as_path(), "not a regular file"),
            (Path::new("/dev/zero"), "not a regular file"),
            (folder.path(), "directory"),
        ];
        for (path, expected) in others {
            let message = trusted(Some(path)).unwrap_err().to_string();
            assert!(message.starts_with("ca_file ") && message.contains(expected), "{message}");
        }
        file(&folder, "a.pem", AUTHORITY);
        assert_eq!(variables(None, Some(folder.path())), Ok(1), "in a folder it is passed over");
    }

    #[test]
    fn a_source_is_read_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "a.pem", AUTHORITY);
        let (last, reads) = (Last::default(), Cell::new(0));
        let read = |source: Option<Source>| {
            let counted = || {
                reads.set(reads.get() + 1);
                Ok(RootCertStore::empty())
            };
            last.or_read(source, counted).unwrap();
            reads.get()
        };
        assert_eq!([read(Some(Source::System)), read(Some(Source::System))], [1, 1]);
        assert_eq!([read(Source::file(&path)), read(Source::file(&path))], [2, 2]);
        file(&folder, "a.pem", &AUTHORITY.repeat(2));
        assert_eq!([read(Source::file(&path)), read(Source::file(&path))], [3, 3]);
        assert_eq!([read(None), read(None)], [4, 5]);
        last.or_read(Some(Source::System), || Err(refused("a", "fails"))).unwrap_err();
        assert_eq!([read(Some(Source::System)), read(Some(Source::System))], [6, 6], "a failure is not kept");
    }

    #[test]
    fn a_system_without_authorities_has_the_bundled_ones() {
        assert!(of_system(CertificateResult::default()).unwrap().len() > 50);
    }

    #[test]
    fn a_system_whose_authorities_cannot_be_opened_now_is_not_taken_for_one_without() {
        let mut found = CertificateResult::default();
        found.errors.push(rustls_native_certs::Error {
            context: "opening directory",
            kind: rustls_native_certs::ErrorKind::Io {
                inner: io::Error::from_raw_os_error(crate::exhaustion::EXHAUSTED[0]),
                path: PathBuf::new(),
            },
        });
        assert!(matches!(of_system(found), Err(Error::Exhausted(_))));
        assert!(of_variables(None, Some(OsStr::new(""))).unwrap().is_none());
    }
}
