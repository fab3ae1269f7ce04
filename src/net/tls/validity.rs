//! Warns of certificates that have expired, are not valid yet, or end soon.
//!
//! The server asks at the start, after each reload, once a day, and for `--check`. The clock comes in as an argument.

use std::path::Path;

use x509_parser::time::ASN1Time;

use crate::config::Warning;

/// The warning comes this long before the end.
const NOTICE_DAYS: i64 = 14;

const SECONDS_PER_DAY: i64 = 86_400;

/// The side that has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// In the chain that clients get.
    Server,
    /// An authority of client certificates. Its dates are not checked in a handshake.
    Authority,
}

/// When a certificate is valid, and its place.
#[derive(Clone, Debug)]
pub(super) struct Dated {
    key: &'static str,
    place: String,
    whose: Whose,
    not_before: i64,
    not_after: i64,
}

impl Dated {
    /// The times are in seconds since the Unix epoch.
    pub(super) fn new(
        whose: Whose,
        path: &Path,
        section: &str,
        (not_before, not_after): (i64, i64),
    ) -> Dated {
        let key = match whose {
            Whose::Server => "server.tls.cert_file",
            Whose::Authority => "server.tls.client_ca_file",
        };
        Dated {
            key,
            // In quotes, so that a path with a line break stays on one line.
            place: format!(
                "the certificate in {section} of {:?}",
                path.to_string_lossy()
            ),
            whose,
            not_before,
            not_after,
        }
    }

    /// The warning that is due at `now`, in seconds since the Unix epoch.
    fn warning(&self, now: i64) -> Option<Warning> {
        let problem = self.problem(now)?;
        Some(Warning::about([self.key], problem))
    }

    /// One line with the place in the file, the problem and the fix.
    fn problem(&self, now: i64) -> Option<String> {
        let Dated { place, .. } = self;
        if now < self.not_before {
            let begin = moment(self.not_before);
            return Some(format!(
                "{place} is not valid before {begin}; set the clock of this machine right, or wait until then"
            ));
        }
        let end = moment(self.not_after);
        if now > self.not_after {
            return Some(match self.whose {
                Whose::Server => format!(
                    "{place} expired on {end}, and clients refuse it; renew it, and send SIGHUP"
                ),
                Whose::Authority => format!(
                    "{place} expired on {end}, but clients with certificates from it still get in; remove or renew it, and send SIGHUP"
                ),
            });
        }
        let left = self.not_after.saturating_sub(now);
        let shown = match left / SECONDS_PER_DAY {
            0 => "in less than a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        (left <= NOTICE_DAYS * SECONDS_PER_DAY)
            .then(|| format!("{place} expires on {end}, {shown}; renew it, and send SIGHUP"))
    }
}

/// The warnings that are due at `now`, in seconds since the Unix epoch.
pub(super) fn warnings(certificates: &[Dated], now: i64) -> Vec<Warning> {
    let due = certificates.iter().map(|dated| dated.warning(now));
    due.flatten().collect()
}

/// A time as a person reads it.
fn moment(seconds: i64) -> String {
    match ASN1Time::from_timestamp(seconds) {
        Ok(time) => {
            let time = time.to_datetime();
            let (hour, minute) = (time.hour(), time.minute());
            format!("{} {hour:02}:{minute:02} UTC", time.date())
        }
        Err(_) => format!("second {seconds} of the Unix epoch"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Valid from 2026-01-01 to 2026-04-01.
    const FROM: i64 = 1_767_225_600;
    const TO: i64 = 1_775_001_600;
    const DAY: i64 = SECONDS_PER_DAY;

    fn at(whose: Whose, now: i64) -> Option<String> {
        let dated = Dated::new(whose, Path::new("a.pem"), "section 1 (line 1)", (FROM, TO));
        let mut warnings = warnings(&[dated], now);
        let warning = warnings.pop();
        assert_eq!(warnings, []);
        let place = match whose {
            Whose::Server => "server.tls.cert_file",
            Whose::Authority => "server.tls.client_ca_file",
        };
        let prefix = format!("{place}: the certificate in section 1 (line 1) of \"a.pem\" ");
        warning.map(|warning| {
            let warning = warning.to_string();
            warning.strip_prefix(&prefix).unwrap().to_owned()
        })
    }

    #[test]
    fn a_certificate_is_warned_of_before_its_time_after_it_and_in_its_last_14_days() {
        let end = "expires on 2026-04-01 00:00 UTC, in";
        for (now, expected) in [
            (FROM - 1, Some("is not valid before 2026-01-01 00:00 UTC; set the clock of this machine right, or wait until then".to_owned())),
            (FROM, None),
            (TO - 14 * DAY - 1, None),
            (TO - 14 * DAY, Some(format!("{end} 14 days; renew it, and send SIGHUP"))),
            (TO - DAY, Some(format!("{end} 1 day; renew it, and send SIGHUP"))),
            (TO - 1, Some(format!("{end} less than a day; renew it, and send SIGHUP"))),
            (TO, Some(format!("{end} less than a day; renew it, and send SIGHUP"))),
            (TO + 1, Some("expired on 2026-04-01 00:00 UTC, and clients refuse it; renew it, and send SIGHUP".into())),
        ] {
            assert_eq!(at(Whose::Server, now), expected, "{now}");
        }
    }

    #[test]
    fn an_expired_authority_still_lets_its_clients_in_and_the_warning_says_so() {
        let warning = at(Whose::Authority, TO + 1).unwrap();
        assert!(
            warning.contains("but clients with certificates from it still get in"),
            "{warning}"
        );
    }

    #[test]
    fn no_time_makes_a_warning_panic() {
        for (from, to) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, 0)] {
            for now in [i64::MIN, -1, 0, i64::MAX] {
                let dated = Dated::new(Whose::Server, Path::new("a"), "b", (from, to));
                let _ = warnings(&[dated], now);
            }
        }
    }
}
