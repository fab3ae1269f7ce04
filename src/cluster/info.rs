//! The engine's INFO: which process it is, and whether it can serve a cluster of relays.

use bytes::Bytes;

use super::reply::Reply;

/// A server process in one role: its `run_id` and its `master_replid`.
///
/// The second changes when a replica becomes a master. A master that is demoted and promoted again keeps its `run_id`, but
/// meanwhile it has taken the data of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(Bytes);

impl Identity {
    /// As the hash of a topic has it.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Why a server cannot serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is a Redis Cluster: its PUBLISH goes from server to server, which is no unbroken subscription to one process.
    IsCluster,
    /// It is a replica.
    IsReplica,
    /// It is reading its data.
    IsLoading,
    /// Its answer lacks what an engine says.
    IsSilent,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unfit::IsCluster => {
                "it is a Redis Cluster, in which a subscription is not to one server: use a single master, with replicas and Sentinel"
            }
            Unfit::IsReplica => "it is a replica: name the master, or Sentinel",
            Unfit::IsLoading => "it is still loading its data",
            Unfit::IsSilent => "its INFO lacks run_id, role or master_replid: is this a Redis or Valkey?",
        })
    }
}

/// Reads the answer to INFO.
pub(crate) fn identity(info: &Reply) -> Result<Identity, Unfit> {
    let text = info.bytes().ok_or(Unfit::IsSilent)?;
    let field = |name| field(text, name);
    if field("redis_mode") == Some("cluster") || field("cluster_enabled") == Some("1") {
        return Err(Unfit::IsCluster);
    }
    match field("role").ok_or(Unfit::IsSilent)? {
        "master" => {}
        _ => return Err(Unfit::IsReplica),
    }
    if field("loading").unwrap_or("0") != "0" {
        return Err(Unfit::IsLoading);
    }
    let run_id = field("run_id").ok_or(Unfit::IsSilent)?;
    let replid = field("master_replid").ok_or(Unfit::IsSilent)?;
    Ok(Identity(format!("{run_id}:{replid}").into()))
}

/// Whether the answer to `INFO replication` is still that of `identity`.
pub(crate) fn is_still(identity: &Identity, info: &Reply) -> bool {
    let Some(text) = info.bytes() else {
        return false;
    };
    let replid = field(text, "master_replid").unwrap_or("");
    let known = identity.0.rsplit(|&byte| byte == b':').next();
    field(text, "role") == Some("master") && known == Some(replid.as_bytes())
}

/// A line `name:value`.
fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(lines: &str) -> Reply {
        Reply::Bulk(lines.replace('\n', "\r\n").into())
    }

    #[test]
    fn a_master_has_an_identity_of_process_and_role() {
        let found = identity(&info(
            "# Server\nredis_mode:standalone\nrun_id:abc\nloading:0\nrole:master\nmaster_replid:xyz\nmaster_replid2:000\n",
        ));
        let found = found.expect("a master");
        assert_eq!(found.as_bytes(), "abc:xyz");
        assert!(is_still(&found, &info("role:master\nmaster_replid:xyz\n")));
        assert!(!is_still(&found, &info("role:master\nmaster_replid:xy\n")));
        assert!(!is_still(&found, &info("role:slave\nmaster_replid:xyz\n")));
        assert!(!is_still(&found, &Reply::Nil));
    }

    #[test]
    fn servers_that_cannot_serve_are_refused_with_the_reason() {
        let rest = "run_id:abc\nmaster_replid:xyz\n";
        for (lines, reason) in [
            (
                format!("redis_mode:cluster\nrole:master\n{rest}"),
                Unfit::IsCluster,
            ),
            (
                format!("cluster_enabled:1\nrole:master\n{rest}"),
                Unfit::IsCluster,
            ),
            (format!("role:slave\n{rest}"), Unfit::IsReplica),
            (format!("role:master\nloading:1\n{rest}"), Unfit::IsLoading),
            ("role:master\nrun_id:abc\n".into(), Unfit::IsSilent),
            ("hello".into(), Unfit::IsSilent),
        ] {
            assert_eq!(identity(&info(&lines)), Err(reason), "{lines}");
        }
        assert_eq!(identity(&Reply::Integer(1)), Err(Unfit::IsSilent));
    }
}
