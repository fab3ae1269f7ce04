//! `history.file`: the file in which the history of a relay waits for the next process, and the lock beside it.
//!
//! `Relay::start` claims the file, reads it, and removes it before the first client is accepted. So a crash leaves none, and
//! no number is ever used twice. A thread of [`saving`](super::saving) writes it in a drain. The bytes are made and read by
//! `relay/saved/`.
//!
//! The path is never followed if it is a link: the file is replaced as a whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, OFlags, access};
use tracing::{info, warn};

use crate::config::{Config, ConfigError};
use crate::port::position::Epoch;
use crate::relay::owner::keepsake::{Amount, Keepsake};
use crate::relay::router::Router;
use crate::relay::saved::restore::{Restored, Restoring, Taken};
use crate::relay::saved::write::{Clocks, Writer};
use crate::relay::shard::Settings;
use crate::secrecy::{Kind, quoted};

/// Only the relay's own user reads messages.
const MODE: u32 = 0o600;

/// Bytes that are read or written in one call.
const CHUNK_BYTES: usize = 256 << 10;

/// The time between two attempts to have the lock.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) struct HistoryFile {
    path: PathBuf,
    /// Held as long as the file is this process's own.
    lock: File,
    is_locked: bool,
    /// The relay goes on with the history in the file.
    is_taken: bool,
}

/// Finds what would keep `history.file` from being written. It changes nothing.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let Some(path) = &config.history.file else {
        return Ok(());
    };
    let folder = folder_of(path);
    let shown = |path: &Path| quoted(&path.to_string_lossy(), Kind::Name);
    let unusable = |error: &dyn std::fmt::Display| {
        let problem = format!("the folder {} cannot be used: {error}", shown(folder));
        mistake(
            problem,
            "name a file in a folder that this user may write to",
        )
    };
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => return Err(unusable(&"it is not a folder")),
        Ok(_) => {}
        Err(error) => return Err(unusable(&error)),
    }
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| unusable(&io::Error::from(error)))?;
    let kind = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_symlink() => "a link, which would be replaced",
        Ok(found) if found.is_dir() => "a folder",
        Ok(_) => "not a regular file",
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let problem = format!("{} cannot be used: {error}", shown(path));
            return Err(mistake(problem, "choose another path"));
        }
    };
    let problem = format!("{} is {kind}", shown(path));
    Err(mistake(problem, "remove it, or name the file itself"))
}

fn mistake(problem: String, fix: &str) -> ConfigError {
    ConfigError::new(problem, fix).of_key("history.file")
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

impl HistoryFile {
    /// The file of the configuration, if there is one. As long as another process has it, which is most likely the
    /// predecessor in its drain, this waits, up to `shutdown.timeout`.
    pub(super) fn claim(config: &Config) -> Result<Option<HistoryFile>, ConfigError> {
        let Some(path) = &config.history.file else {
            return Ok(None);
        };
        check(config)?;
        let beside = beside(path, "lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .mode(MODE)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(&beside);
        let locked = lock.and_then(|lock| Ok((wait_for(&lock, config.shutdown.timeout)?, lock)));
        let (is_locked, lock) = locked.map_err(|error| {
            let shown = quoted(&beside.to_string_lossy(), Kind::Name);
            let problem = format!("the file {shown} beside it cannot be locked: {error}");
            mistake(
                problem,
                "name a file in a folder on a local disk that this user may write to",
            )
        })?;
        if !is_locked {
            warn!(file = %path.display(), timeout = ?config.shutdown.timeout, "history.file: another process still has the file; the relay starts without its history, in a new epoch. If two relays run with this file, give each its own");
        }
        Ok(Some(HistoryFile {
            path: path.clone(),
            lock,
            is_locked,
            is_taken: false,
        }))
    }

    /// Shards with the history in the file. Without one that can be used, they are empty, and have the epoch of `settings`.
    pub(super) fn restore(
        &mut self,
        settings: &Settings,
        router: Router,
        clocks: Clocks,
    ) -> Restored {
        let empty = || Restored::empty(settings, router, clocks);
        if !self.is_locked {
            return empty();
        }
        let began = Instant::now();
        let restored = match self.read(settings, router, clocks) {
            Ok(restored) => restored,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                info!(file = %self.path.display(), "history.file: there is no history to go on with; the relay begins a new epoch");
                return empty();
            }
            Err(error) => {
                self.set_aside(&error);
                return empty();
            }
        };
        match &restored.outcome {
            Ok(taken) => {
                self.is_taken = true;
                self.tell(taken, began.elapsed());
            }
            Err(damage) => self.set_aside(damage),
        }
        restored
    }

    fn read(&self, settings: &Settings, router: Router, clocks: Clocks) -> io::Result<Restored> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut restoring = Restoring::new(settings.clone(), router, clocks, found.len());
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => return Ok(restoring.finish()),
                Ok(count) => {
                    if !restoring.push(&chunk[..count]) {
                        return Ok(restoring.finish());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn tell(&self, taken: &Taken, took: Duration) {
        let Taken { found, kept, away } = taken;
        let too_much = found.messages - kept.messages;
        info!(file = %self.path.display(), topics = kept.topics, messages = kept.messages, bytes = kept.bytes, dropped_messages = too_much, ?away, ?took, "history.file: the history is read, and the relay goes on in its epoch; messages are dropped if they are too old or over the limits");
    }

    /// Renames a file that cannot be used, so that an operator can look at it.
    fn set_aside(&self, reason: &dyn std::fmt::Display) {
        let aside = beside(&self.path, "damaged");
        let (file, aside) = (self.path.display(), aside.as_path());
        match fs::rename(&self.path, aside) {
            Ok(()) => {
                warn!(%file, %reason, set_aside = %aside.display(), "history.file: the file cannot be used and is set aside; the relay begins a new epoch, and clients that come back hear that it is not known what they missed");
            }
            Err(error) => {
                warn!(%file, %reason, %error, "history.file: the file cannot be used, and cannot be set aside; the relay begins a new epoch, and clients that come back hear that it is not known what they missed");
            }
        }
    }

    /// Removes the file whose history the relay has taken over, for good. Called before the first client is accepted.
    ///
    /// # Errors
    /// It may still be there after a crash. So the relay must not go on in its epoch.
    pub(super) fn remove(&self) -> io::Result<()> {
        if !self.is_taken {
            return Ok(());
        }
        fs::remove_file(&self.path)?;
        sync_folder(&self.path)
    }

    /// Writes what all owners leave, as a whole or not at all. `may_commit` is asked once, before the file gets its name, and
    /// `goes_on` often.
    pub(super) fn write(
        &mut self,
        keepsakes: Vec<Keepsake>,
        clocks: Clocks,
        epoch: Epoch,
        goes_on: impl Fn() -> bool,
        may_commit: impl FnOnce() -> bool,
    ) -> io::Result<Amount> {
        const TOO_LATE: &str = "the time for the shutdown is up";
        if !self.is_locked && !wait_for(&self.lock, Duration::ZERO)? {
            return Err(io::Error::other("another process has the file"));
        }
        self.is_locked = true;
        let unfinished = Unfinished::create(beside(&self.path, "tmp"))?;
        let mut file = BufWriter::with_capacity(CHUNK_BYTES, &unfinished.file);
        let amount = Writer::new(keepsakes, clocks).write(epoch, |piece| {
            if !goes_on() {
                return Err(io::Error::other(TOO_LATE));
            }
            file.write_all(piece)
        })?;
        file.flush()?;
        drop(file);
        unfinished.file.sync_all()?;
        if !may_commit() {
            return Err(io::Error::other(TOO_LATE));
        }
        unfinished.rename(&self.path)?;
        if let Err(error) = sync_folder(&self.path) {
            warn!(file = %self.path.display(), %error, "history.file: the folder cannot be synced; the file may be gone after a failure of the machine");
        }
        Ok(amount)
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A file that is being written. Dropping it removes it.
struct Unfinished {
    path: Option<PathBuf>,
    file: File,
}

impl Unfinished {
    fn create(path: PathBuf) -> io::Result<Unfinished> {
        // A process that was killed may have left one.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .custom_flags(flags(OFlags::NOFOLLOW))
            .open(&path)?;
        let unfinished = Unfinished {
            path: Some(path),
            file,
        };
        // The umask may have taken bits away.
        unfinished
            .file
            .set_permissions(Permissions::from_mode(MODE))?;
        Ok(unfinished)
    }

    fn rename(mut self, to: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            fs::rename(path, to)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing more can be done about it, and the next process removes it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Locks the file, or waits for the process that has it, up to `timeout`. Says whether it is locked.
fn wait_for(lock: &File, timeout: Duration) -> io::Result<bool> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() >= timeout => return Ok(false),
            Err(TryLockError::WouldBlock) => {}
        }
        if !std::mem::replace(&mut is_told, true) {
            info!(
                ?timeout,
                "history.file: another process has the file, most likely one that is shutting down; clients are accepted when it lets go of it, or after the timeout"
            );
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// The path of a file beside the history.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".");
    name.push(ending);
    name.into()
}

/// Flags as `open` in std takes them.
fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
