//! The places of a configuration that is read again, while the relay runs.
//!
//! The program's reload calls it. A file at this time may be half written. Much of that is invalid and refused anyway. An empty
//! file is valid, and so are the first lines of many files.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::{Document, Layers};
use crate::config::error::ConfigError;
use crate::config::file;

impl Layers {
    /// Gathers the places again for a relay that runs with these; `None` if there was no file. The file must still be there, and
    /// whole as far as one can see: a file that is being written must not put the defaults in force.
    #[must_use]
    pub fn gather_again(
        &self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[OsString],
    ) -> Option<Layers> {
        let document = self.document.as_ref()?;
        let before = Stamp::of(&document.path);
        if before.as_ref().is_ok_and(|stamp| !stamp.is_file) {
            // To open a pipe would wait for its writer.
            let fix = "start the relay with a file, or restart it for other values";
            let error = ConfigError::new("it is not a regular file, and cannot be read again", fix);
            return Some(Layers {
                problem: Some(error.within(&document.name)),
                ..Layers::default()
            });
        }
        let mut layers = Layers::gather(Some(&document.path), variables, flags);
        let Some(read) = &layers.document else {
            return Some(layers);
        };
        let is_changing = match (before, Stamp::of(&document.path)) {
            (Ok(before), Ok(after)) => before != after,
            (Err(_), _) | (_, Err(_)) => true,
        };
        let fix = "write a new file beside it, rename it over this one, and send SIGHUP then";
        let problem = if is_changing {
            "the file was written to while it was read"
        } else if read.is_blank() && !document.is_blank() {
            "the file is empty, as if it were just being written"
        } else {
            return Some(layers);
        };
        layers.problem = Some(ConfigError::new(problem, fix).within(&document.name));
        Some(layers)
    }
}

impl Document {
    fn is_blank(&self) -> bool {
        self.text.lines().all(file::is_blank_or_comment)
    }
}

/// A state of a file. Another content has another one.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    is_file: bool,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Stamp> {
        let found = fs::metadata(path)?;
        Ok(Stamp {
            is_file: found.is_file(),
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: found.modified().ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers of a file with `before` in it, read again after `change`.
    fn reread(before: &str, change: impl FnOnce(&Path)) -> Result<u16, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, before).unwrap();
        let flags = ["server.workers=3".into()];
        let layers = Layers::gather(Some(&path), [], &flags);
        layers.load().unwrap();
        change(&path);
        let again = layers.gather_again([], &flags).unwrap();
        let config = again.load().map_err(|error| {
            let error = error.to_string();
            error.replace(&path.display().to_string(), "a.yaml")
        })?;
        assert_eq!(config.server.workers, 3);
        Ok(config.server.port)
    }

    #[test]
    fn the_file_is_read_again_under_the_same_flags() {
        let write = |path: &Path| fs::write(path, "server: {port: 2, workers: 1}").unwrap();
        assert_eq!(reread("server: {port: 1}", write), Ok(2));
    }

    #[test]
    fn a_file_that_is_gone_empty_or_no_file_is_refused() {
        let refused = |change: &dyn Fn(&Path)| reread("server: {port: 1}", change).unwrap_err();
        let gone = refused(&|path| fs::remove_file(path).unwrap());
        assert!(gone.starts_with("a.yaml: cannot be read"), "{gone}");
        let empty = refused(&|path| fs::write(path, "# \n").unwrap());
        assert_eq!(
            empty,
            "a.yaml: the file is empty, as if it were just being written; write a new file beside it, rename it over this one, \
             and send SIGHUP then"
        );
        let pipe = refused(&|path| {
            fs::remove_file(path).unwrap();
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        });
        assert!(pipe.contains("not a regular file"), "{pipe}");
    }

    #[test]
    fn a_file_that_was_always_empty_may_stay_so() {
        let port = reread("# nothing\n", |path| fs::write(path, "").unwrap());
        assert_eq!(port, Ok(8443));
    }

    #[test]
    fn without_a_file_there_is_none_to_read_again() {
        assert!(
            Layers::gather(None, [], &[])
                .gather_again([], &[])
                .is_none()
        );
    }
}
