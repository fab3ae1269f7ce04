//! Errors of the engine, by what they ask of us.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server is a replica, or not ready: drop both connections and look for the master.
    NotMaster(String),
    /// The server cannot write now: hold, wait, and ask again.
    Busy(String),
    /// A script is not loaded: load it, and ask again.
    NotLoaded,
    /// The stream has a number already that the hash has not given yet. If it stays so, both are dropped.
    StreamAhead(String),
    /// Anything else. It is treated as [`Trouble::Busy`], and an operator should look.
    Other(String),
}

impl Trouble {
    /// The trouble behind an error's text, which begins with a code.
    pub fn of(error: &str) -> Trouble {
        let code = error.split(' ').next().unwrap_or("");
        match code {
            "READONLY" | "LOADING" | "MASTERDOWN" => Trouble::NotMaster(error.into()),
            "OOM" | "NOREPLICAS" | "MISCONF" | "BUSY" => Trouble::Busy(error.into()),
            "NOSCRIPT" => Trouble::NotLoaded,
            _ if error.contains("ID specified in XADD") => Trouble::StreamAhead(error.into()),
            _ => Trouble::Other(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Trouble;

    #[test]
    fn an_error_is_known_by_its_code() {
        for (error, expected) in [
            (
                "READONLY You can't write against a read only replica.",
                "NotMaster",
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                "NotMaster",
            ),
            ("MASTERDOWN Link with MASTER is down", "NotMaster"),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "Busy",
            ),
            ("NOREPLICAS Not enough good replicas to write.", "Busy"),
            ("MISCONF Redis is configured to save RDB snapshots", "Busy"),
            ("BUSY Redis is busy running a script.", "Busy"),
            ("NOSCRIPT No matching script.", "NotLoaded"),
            (
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
                "StreamAhead",
            ),
            ("WRONGTYPE Operation against a key", "Other"),
            ("NOPERM this user has no permissions", "Other"),
            ("", "Other"),
        ] {
            let trouble = format!("{:?}", Trouble::of(error));
            assert!(trouble.starts_with(expected), "{error}: {trouble}");
        }
    }
}
