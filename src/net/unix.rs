//! The Unix socket that the relay may listen on beside its port.
//!
//! `Relay::start` makes it, [`super::listener`] accepts from it, and the shutdown removes its file. A socket file that an
//! earlier run left behind is replaced. Any other file is left alone.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;

/// The reason for which a path cannot be listened on.
#[derive(Debug)]
pub enum BindError {
    /// A process listens there.
    InUse,
    /// The file is not a socket.
    NotASocket,
    /// The system refused to give the file to the group.
    Group(io::Error),
    /// The system refused.
    System(io::Error),
}

/// The number of a group, from its name or its number. `None` if the system knows no such group.
///
/// # Errors
/// The system cannot look it up.
pub(crate) fn group_id(group: &str) -> io::Result<Option<u32>> {
    if let Some(known) = Group::from_name(group)? {
        return Ok(Some(known.gid.as_raw()));
    }
    Ok(group.parse().ok())
}

/// A socket that listens, and its file.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The file. It is the first field, because it must go before the socket closes. Otherwise a relay that starts in
    /// between would take the file for a stale one and replace it, and its own file would be removed.
    pub(crate) file: SocketFile,
    /// The socket.
    pub(crate) listener: UnixListener,
}

/// The file of a socket. Dropping it removes the file, unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number.
    inode: (u64, u64),
}

/// Binds a listening socket to `path`, with the permission bits `mode`, and for this group if there is one.
///
/// If there is a file, it is stale if nobody can connect to it. A live relay counts that attempt as a lost handshake. Two
/// relays that find the same stale file at once may both replace it, and one of them then listens in vain. The caller
/// binds the port first, so they would have to have different ports.
pub(crate) fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Bound, BindError> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    make_way(path)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    // Nobody can connect before the socket listens, so the mode that the umask gave it lets nobody in. The umask itself
    // belongs to the whole process, and other threads may create files.
    if group.is_some() {
        chown(path, None, group).map_err(BindError::Group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(Bound {
        file,
        listener: socket.into(),
    })
}

/// Removes the socket file of a relay that was killed.
fn make_way(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(file) if !file.file_type().is_socket() => return Err(BindError::NotASocket),
        Ok(_) => {}
    }
    let Err(error) = connect(path) else {
        return Err(BindError::InUse);
    };
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => Ok(fs::remove_file(path)?),
        Some(Errno::NOENT) => Ok(()),
        // A full backlog, or a socket of another type.
        Some(Errno::AGAIN | Errno::PROTOTYPE) => Err(BindError::InUse),
        Some(_) | None => Err(error.into()),
    }
}

fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Otherwise it would wait for a full backlog.
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            inode: inode(path)?,
        })
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            tracing::debug!(path = %self.path.display(), "the file of the Unix socket is gone or replaced; it is left alone");
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the file of the Unix socket cannot be removed");
        }
    }
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        BindError::System(error)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::InUse => {
                f.write_str("another process listens there; stop it or choose another path")
            }
            BindError::NotASocket => {
                f.write_str("the file there is not a socket; remove it or choose another path")
            }
            BindError::Group(error) => write!(
                f,
                "its group cannot be set ({error}); run fanwire as a member of server.unix_socket_group"
            ),
            BindError::System(error) => write!(
                f,
                "cannot listen there ({error}); choose a path in a folder that this user may write to"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    const MODE: u32 = 0o660;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_socket_can_be_connected_to_and_its_file_goes_with_it() {
        let path = folder().path().join("absent/s");
        assert!(matches!(bind(&path, MODE, None), Err(BindError::System(_))));
        let folder = folder();
        let path = folder.path().join("s");
        let bound = bind(&path, MODE, None).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn the_mode_is_the_one_asked_for_whatever_the_umask() {
        let folder = folder();
        for mode in [0o600, 0o660, 0o666] {
            let path = folder.path().join(format!("{mode:o}"));
            let _bound = bind(&path, mode, None).unwrap();
            let file = fs::symlink_metadata(&path).unwrap();
            assert_eq!(file.permissions().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn the_file_gets_the_group_and_keeps_the_mode() {
        let folder = folder();
        let path = folder.path().join("s");
        // Everybody may give a file to the group that they have; root may give it to any.
        let own = rustix::process::getegid().as_raw();
        let group = if rustix::process::geteuid().is_root() {
            own + 4242
        } else {
            own
        };
        let _bound = bind(&path, MODE, Some(group)).unwrap();
        let file = fs::symlink_metadata(&path).unwrap();
        assert_eq!(file.gid(), group);
        assert_eq!(file.permissions().mode() & 0o7777, MODE);
    }

    #[test]
    fn a_group_is_found_by_its_name_and_by_its_number() {
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(group_id("54321").unwrap(), Some(54321));
        for unknown in ["no-such-group-here", "", "-1", "99999999999"] {
            assert_eq!(group_id(unknown).unwrap(), None, "{unknown:?}");
        }
    }

    #[test]
    fn a_stale_file_is_replaced() {
        let folder = folder();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let _bound = bind(&path, MODE, None).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_somebody_listens_on_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path, MODE, None), Err(BindError::InUse)));
        UnixStream::connect(&path).unwrap();

        let path = folder.path().join("d");
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(bind(&path, MODE, None), Err(BindError::InUse)));
    }

    #[test]
    fn a_socket_whose_backlog_is_full_is_in_use() {
        let folder = folder();
        let path = folder.path().join("s");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let waiting: Vec<_> = (0..2).map(|_| connect(&path)).collect();
        assert!(waiting.iter().any(Result::is_err), "{waiting:?}");
        assert!(matches!(bind(&path, MODE, None), Err(BindError::InUse)));
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("f");
        fs::write(&path, "precious").unwrap();
        let link = folder.path().join("l");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link, &folder.path().to_owned()] {
            assert!(matches!(bind(path, MODE, None), Err(BindError::NotASocket)));
        }
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_took_the_place_of_ours_stays() {
        let folder = folder();
        let path = folder.path().join("s");
        let bound = bind(&path, MODE, None).unwrap();
        fs::rename(&path, folder.path().join("ours")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        UnixStream::connect(&path).unwrap();
    }
}
