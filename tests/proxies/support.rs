//! Things that all other files of this test need. This file uses none of them.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

/// The longest wait; then the test fails. It is far more than a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The host in all configurations of the page.
pub(crate) const HOST: &str = "relay.example.org";

/// All clients meet here. The query stands for a token, which no proxy may log.
pub(crate) const TARGET: &str = "/room?token=very-secret";
pub(crate) const SECRET: &str = "very-secret";

/// Waits until `condition` holds. Fails with `what` if that takes longer than [`PATIENCE`].
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Only root can start processes as another user.
pub(crate) fn runs_as_root() -> bool {
    geteuid().is_root()
}
