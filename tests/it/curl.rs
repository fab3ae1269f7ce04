//! curl, as users run it. Without it the tests that need it are skipped, and say so. On CI it must be there.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Whether curl is installed.
pub(crate) fn is_there() -> bool {
    let version = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match version {
        Ok(status) => {
            assert!(status.success(), "curl: {status}");
            true
        }
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && std::env::var_os("CI").is_none() =>
        {
            // Not captured, so that the skip is seen.
            let _ = writeln!(io::stderr(), "skipped: curl is not installed");
            false
        }
        Err(error) => panic!("curl: {error}"),
    }
}
