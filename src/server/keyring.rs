//! The keys for tokens, as files have them: read at the start, by `--check`, and again on SIGHUP.
//!
//! The control thread hands the keys that it has read to the workers. If a file is wrong, nothing changes.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::access::keys::{KeyError, Keys};
use crate::config::{Access, ConfigError};

/// The largest file with one key. A certificate with its chain is smaller.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// The largest JSON Web Key Set. It has room for a thousand long keys with their certificates.
const MAX_SET_BYTES: u64 = 8 << 20;

/// All keys of a configuration; none if it names none.
pub(super) fn read(access: &Access) -> Result<Keys, ConfigError> {
    let mut keys = Keys::new();
    for (at, entry) in access.keys.iter().enumerate() {
        let key = format!("access.keys[{at}].file");
        let contents = contents(&key, &entry.file, MAX_KEY_BYTES)?;
        let added = keys.add_file(entry.alg, entry.kid.as_deref(), &contents);
        added.map_err(|error| blame(error, &key, &entry.file))?;
    }
    if let Some(path) = &access.jwks_file {
        const KEY: &str = "access.jwks_file";
        let contents = contents(KEY, path, MAX_SET_BYTES)?;
        let added = keys.add_set(&contents);
        added.map_err(|error| blame(error, KEY, path))?;
    }
    Ok(keys)
}

fn blame(KeyError { problem, fix }: KeyError, key: &str, path: &Path) -> ConfigError {
    ConfigError::new(format!("`{}` {problem}", path.display()), fix).of_key(key)
}

fn contents(key: &str, path: &Path, max_bytes: u64) -> Result<Vec<u8>, ConfigError> {
    let read = || {
        // Checked first, because opening a pipe would wait for its writer.
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?
            .take(max_bytes + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_bytes {
            return Err(io::Error::other(format!(
                "it has more than {} KiB",
                max_bytes >> 10
            )));
        }
        Ok(bytes)
    };
    read().map_err(|error| {
        let problem = format!("`{}` cannot be read: {error}", path.display());
        ConfigError::new(problem, "name a readable file").of_key(key)
    })
}
