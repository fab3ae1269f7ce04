//! The names of the files for TLS: whether they are needed, and whether they can be opened.
//!
//! [`super::bounds`] checks them with the other values. `net::tls` opens them by [`pem_file`], and judges their contents.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::ConfigError;
use super::types::Tls;
use crate::secrecy::{Kind, may_be_secret};

/// Checks that the files of TLS exist. Their content is checked when they are loaded.
pub(super) fn validate_tls(tls: &Tls) -> Result<(), ConfigError> {
    refuse_contents(tls)?;
    if !tls.enabled {
        return refuse_unused_files(tls);
    }
    pem_file(
        "server.tls.cert_file",
        "certificate",
        tls.cert_file.as_deref(),
    )?;
    pem_file(
        "server.tls.key_file",
        "private key",
        tls.key_file.as_deref(),
    )?;
    if tls.client_ca_file.is_some() {
        pem_file(
            "server.tls.client_ca_file",
            "client CA",
            tls.client_ca_file.as_deref(),
        )?;
    }
    Ok(())
}

/// Refuses the text of a file in place of its path, before anything else could show it.
fn refuse_contents(tls: &Tls) -> Result<(), ConfigError> {
    for (key, noun, file) in [
        ("cert_file", "certificate", &tls.cert_file),
        ("key_file", "private key", &tls.key_file),
        ("client_ca_file", "client CA", &tls.client_ca_file),
    ] {
        let path = file.as_deref();
        if path.is_some_and(|path| looks_like_contents(path) && !path.exists()) {
            return Err(contents(&format!("server.tls.{key}"), noun));
        }
    }
    Ok(())
}

fn contents(key: &str, noun: &str) -> ConfigError {
    let problem = format!("the text of a {noun} is given in place of the path of its file");
    ConfigError::new(problem, "write it to a file, and name that").of_key(key)
}

/// Refuses files while TLS is off: their operator expects that clients are encrypted.
fn refuse_unused_files(tls: &Tls) -> Result<(), ConfigError> {
    for (key, file) in [
        ("cert_file", &tls.cert_file),
        ("key_file", &tls.key_file),
        ("client_ca_file", &tls.client_ca_file),
    ] {
        // The path is not shown: it may be the text of a key.
        if file.is_some() {
            let fix = format!("set server.tls.enabled to true, or set {key} to null");
            let problem =
                "a file is named, but server.tls.enabled is false: nobody would be encrypted";
            return Err(ConfigError::new(problem, fix).of_key(format!("server.tls.{key}")));
        }
    }
    Ok(())
}

/// Opens the file that `key` names.
pub(crate) fn pem_file(key: &str, noun: &str, path: Option<&Path>) -> Result<File, ConfigError> {
    let fix = if key.starts_with("server.tls.") {
        "use a readable PEM file, or remove the files of server.tls and set enabled to false"
    } else {
        "use a readable PEM file"
    };
    let Some(path) = path else {
        return Err(
            ConfigError::new(format!("TLS is enabled, but no {noun} is configured"), fix)
                .of_key(key),
        );
    };
    open_regular(path).map_err(|error| {
        if looks_like_contents(path) {
            return contents(key, noun);
        }
        let problem = format!("the {noun} `{}` cannot be read: {error}", path.display());
        ConfigError::new(problem, fix).of_key(key)
    })
}

/// Whether an absent path may be the contents of a file, from a variable with a secret. Then it must not be shown.
fn looks_like_contents(path: &Path) -> bool {
    may_be_secret(&path.to_string_lossy(), Kind::Name)
}

fn open_regular(path: &Path) -> io::Result<File> {
    // Checked first, because opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::refusal;

    fn tls(cert_file: Option<PathBuf>, key_file: Option<PathBuf>) -> String {
        refusal(|config| {
            config.server.tls = Tls {
                enabled: true,
                cert_file,
                key_file,
                client_ca_file: None,
            }
        })
    }

    #[test]
    fn tls_needs_a_certificate_and_a_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(
            tls(None, None)
                .contains("server.tls.cert_file: TLS is enabled, but no certificate is configured")
        );
        let text = tls(Some(file.path().into()), None);
        assert!(
            text.contains("server.tls.key_file: TLS is enabled, but no private key is configured"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_certificate_or_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = tls(Some(folder.path().join("absent.pem")), None);
        assert!(
            text.contains("server.tls.cert_file")
                && text.contains("absent.pem` cannot be read: No such"),
            "{text}"
        );
        let text = tls(Some(folder.path().into()), None);
        assert!(text.contains("not a regular file"), "{text}");
    }

    #[test]
    fn a_file_for_tls_that_is_off_is_refused() {
        for (key, set) in [
            (
                "cert_file",
                (|tls: &mut Tls| &mut tls.cert_file) as fn(&mut Tls) -> &mut _,
            ),
            ("key_file", |tls| &mut tls.key_file),
            ("client_ca_file", |tls| &mut tls.client_ca_file),
        ] {
            assert_eq!(
                refusal(|config| *set(&mut config.server.tls) = Some(PathBuf::from("a.pem"))),
                format!(
                    "configuration: server.tls.{key}: a file is named, but server.tls.enabled is false: nobody would be \
                     encrypted; set server.tls.enabled to true, or set {key} to null"
                )
            );
        }
    }
}
