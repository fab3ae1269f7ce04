//! The watch on certificates that have expired, are not valid yet, or end soon.
//!
//! The control thread looks after each reload, and once a day. A look at the start is part of [`super::warnings`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::Warning;
use crate::net::tls::keeper::Keeper;

/// The time between two looks.
const PERIOD: Duration = Duration::from_hours(24);

/// A watch that is due once a day.
#[derive(Debug)]
pub(super) struct ExpiryWatch {
    tls: Option<Arc<Keeper>>,
    /// `None` if a look is due at once.
    last: Option<Instant>,
}

impl ExpiryWatch {
    /// A watch on these certificates, which were looked at just now. Without TLS, it is never due.
    pub(super) fn new(tls: Option<Arc<Keeper>>) -> ExpiryWatch {
        ExpiryWatch {
            tls,
            last: Some(Instant::now()),
        }
    }

    /// The time until the next look; `None` without TLS.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        self.tls.as_ref()?;
        let elapsed = |last| now.saturating_duration_since(last);
        Some(
            self.last
                .map_or(Duration::ZERO, |last| PERIOD.saturating_sub(elapsed(last))),
        )
    }

    /// The warnings that are due; none before the time of the next look.
    pub(super) fn look(&mut self, now: Instant, seconds: i64) -> Vec<Warning> {
        if self.due_in(now) != Some(Duration::ZERO) {
            return Vec::new();
        }
        self.last = Some(now);
        let tls = self.tls.as_deref();
        tls.map_or_else(Vec::new, |tls| tls.warnings(seconds))
    }

    /// Makes the next look due at once: there are new certificates.
    pub(super) fn renew(&mut self) {
        self.last = None;
    }
}

/// The time of day of the machine, in seconds since the Unix epoch.
pub(super) fn seconds_since_epoch() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        // A clock that is set before 1970.
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Tls;

    fn keeper() -> Arc<Keeper> {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/keys");
        let tls = Tls {
            enabled: true,
            cert_file: Some(keys.join("ec_cert.pem")),
            key_file: Some(keys.join("ec_sec1.pem")),
            client_ca_file: None,
        };
        Arc::new(Keeper::new(&tls).unwrap().unwrap())
    }

    #[test]
    fn a_warning_comes_once_a_day_and_after_a_reload() {
        let keeper = keeper();
        let soon = keeper.status().expires_at() - 86_400;
        let mut watch = ExpiryWatch::new(Some(keeper));
        let start = Instant::now();
        assert_eq!(watch.look(start, soon).len(), 0);
        watch.renew();
        let (almost, day) = (
            start + Duration::from_secs(86_399),
            Duration::from_hours(24),
        );
        assert_eq!(watch.due_in(start), Some(Duration::ZERO));
        assert_eq!(watch.look(start, soon).len(), 1);
        assert_eq!(watch.due_in(start), Some(day));
        assert_eq!(watch.look(almost, soon).len(), 0);
        assert_eq!(watch.look(start + day, soon).len(), 1);
        assert_eq!(watch.look(start + day, soon).len(), 0);
        watch.renew();
        assert_eq!(watch.look(start + day, soon).len(), 1);
    }

    #[test]
    fn a_certificate_with_time_left_brings_no_warning_but_is_looked_at_again() {
        let keeper = keeper();
        let early = keeper.status().expires_at() - 100 * 86_400;
        let mut watch = ExpiryWatch::new(Some(keeper));
        watch.renew();
        let start = Instant::now();
        assert_eq!(watch.look(start, early).len(), 0);
        assert_eq!(watch.due_in(start), Some(PERIOD));
        assert_eq!(watch.look(start + PERIOD, early + 99 * 86_400).len(), 1);
    }

    #[test]
    fn without_tls_there_is_no_look() {
        let mut watch = ExpiryWatch::new(None);
        assert_eq!(watch.due_in(Instant::now()), None);
        assert_eq!(watch.look(Instant::now(), i64::MAX).len(), 0);
    }
}
