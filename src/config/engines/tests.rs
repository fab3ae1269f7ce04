//! Wrong engines, and errors that must not show a password.

use super::*;
use crate::config::refusal;

fn read(text: &str) -> Result<Config, String> {
    Config::from_yaml(text, "t.yaml").map_err(|error| error.to_string())
}

/// The error about a list of engines.
fn refused(engines: &str) -> String {
    read(&format!("cluster:\n  engines: [{engines}]\n")).expect_err(engines)
}

const ONE: &str = "{name: a, url: 'redis://10.0.0.1:6379'}";

#[test]
fn engines_are_servers_or_sentinel_groups() {
    let config = read(
        "cluster:\n  engines:\n  - {name: a, url: 'redis://relay:p4ssw0rd@10.0.0.1:6379'}\n  - {name: b, sentinels: \
         ['redis://s1', 'redis://s2:26380'], master: 'redis://relay@mymaster', password_file: /etc/fanwire/b, \
         sentinel_password_file: /etc/fanwire/s}\n",
    )
    .expect("engines");
    assert_eq!(config.cluster.engines.len(), 2);
    assert!(config.cluster.is_on() && !config.cluster.has_tls());
    let printed = config.to_yaml().expect("YAML");
    assert!(!printed.contains("p4ssw0rd"), "{printed}");
    assert!(
        printed.contains("redis://relay:(hidden)@10.0.0.1:6379"),
        "{printed}"
    );
    let again = read(&printed).expect_err("a placeholder");
    assert!(
        again.contains("found the placeholder that --print-config prints for a password"),
        "{again}"
    );
}

#[test]
fn a_wrong_engine_is_named_with_its_fix() {
    for (engines, problem) in [
        ("{url: 'redis://a'}", "name"),
        (
            "{name: a}",
            "cluster.engines[0].url: it has neither a url nor sentinels; use {name: …, url: …}",
        ),
        (
            "{name: a, url: 'redis://a', master: 'redis://m'}",
            "it has a url, and sentinels or a master as well",
        ),
        (
            "{name: a, master: 'redis://m'}",
            "no sentinels that know it",
        ),
        (
            "{name: a, sentinels: ['redis://s']}",
            "it has sentinels, and no master",
        ),
        (
            "{name: a, sentinels: ['redis://s'], master: 'redis://m:1'}",
            "which only the Sentinels know",
        ),
        (
            "{name: a, sentinels: ['redis://s'], master: 'unix:/m'}",
            "which only the Sentinels know",
        ),
        (
            "{name: a b, url: 'redis://a'}",
            "cluster.engines[0].name: it is no plain name",
        ),
        (
            "{name: a, url: 'redis://a/1'}",
            "cluster.engines[0].url: found a URL with a database number",
        ),
        (
            "{name: a, url: 'redis://:p@a', password_file: f}",
            "cluster.engines[0].password_file: a file is named, and the URL has",
        ),
        (
            "{name: a, url: 'redis://a', sentinel_password_file: f}",
            "there are no sentinels",
        ),
        (
            "{name: a, url: 'redis://a'}, {name: a, url: 'redis://b'}",
            "cluster.engines[1].name: `a` is there twice",
        ),
        (
            "{name: a, url: 'rediss://a'}",
            "cluster.ca_file: no file is named, but an engine",
        ),
    ] {
        let text = refused(engines);
        assert!(text.contains(problem), "{engines}: {text}");
    }
}

#[test]
fn no_error_shows_a_password() {
    for engines in [
        "{name: a, url: 'redis://u:xyzzy-4711@a/3'}",
        "{name: a, url: 'u:xyzzy-4711@a'}",
        "{name: a, url: 'redis//u:xyzzy-4711@a'}",
        "{name: 'redis://u:xyzzy-4711@a', url: 'redis://a'}",
        "{name: a, ulr: 'redis://u:xyzzy-4711@a'}",
        "{name: a, url: ['redis://u:xyzzy-4711@a']}",
        "{name: a, url: {'redis://u:xyzzy-4711@a': 1}}",
        "{name: a, sentinels: 'redis://u:xyzzy-4711@a', master: 'redis://m'}",
        "redis://u:xyzzy-4711@a",
        "{name: a, 'redis://u:xyzzy-4711@a': b}",
    ] {
        let text = refused(engines);
        assert!(
            !text.contains("4711") && text.contains("t.yaml:2"),
            "{engines}: {text}"
        );
    }
    for text in [
        "server: {host: 'redis://u:xyzzy-4711@a'}",
        "cluster: {prefix: 'redis://u:xyzzy-4711@a'}",
        "cluster: {engines: 'redis://u:xyzzy-4711@a'}",
        "log: {level: 'redis://u:xyzzy-4711@a'}",
        "server: {health_path: 'redis://u:xyzzy-4711@a'}",
    ] {
        let error = read(text).expect_err(text);
        assert!(!error.contains("4711"), "{text}: {error}");
    }
}

#[test]
fn what_does_not_go_together_with_engines_is_refused() {
    for (rest, problem) in [
        (
            "slow_consumer: {policy: backpressure}",
            "slow_consumer.policy: it is backpressure, and cluster.engines are set",
        ),
        (
            "history: {max_age: 2m, file: history}",
            "history.file: a file is named, and cluster.engines are set",
        ),
        (
            "limits: {max_message_bytes: 17MiB}\nslow_consumer: {max_lag_bytes: 64MiB}",
            "limits.max_message_bytes: 17MiB is too large while cluster.engines are set; use at most 16MiB",
        ),
    ] {
        assert!(read(rest).is_ok(), "{rest}");
        let text = format!("cluster: {{engines: [{ONE}]}}\n{rest}\n");
        let error = read(&text).expect_err(rest);
        assert!(error.contains(problem), "{rest}: {error}");
    }
}

#[test]
fn prefixes_are_plain() {
    for prefix in ["", "a{b", "a}b", "a!b", "a*b", "a b", "ä", &"x".repeat(65)] {
        let text = refusal(|config| config.cluster.prefix = prefix.into());
        assert!(
            text.contains("cluster.prefix: it is empty, too long, or"),
            "{text}"
        );
    }
    assert!(read("cluster: {prefix: 'prod:chat-1/eu'}").is_ok());
}

#[test]
fn sizes_and_times_have_bounds() {
    for (text, problem) in [
        (
            "max_batch_bytes: 17MiB",
            "cluster.max_batch_bytes: 17MiB is too large; use 1KiB to 16MiB",
        ),
        (
            "history: 100",
            "cluster.history: 100 is too small; use 1KiB to 64MiB, or 0",
        ),
        (
            "pending_per_topic: 10",
            "cluster.pending_per_topic: 10 is too small",
        ),
        (
            "audit_rate: 2000000",
            "cluster.audit_rate: 2000000 is too large",
        ),
        (
            "io_timeout: 1ms",
            "cluster.io_timeout: 1ms is too small; use 100ms to 1m",
        ),
        (
            "unready_after: 2h",
            "cluster.unready_after: 2h is too large",
        ),
        (
            "{topic_ttl: 10s, outage_timeout: 20s}",
            "cluster.topic_ttl: 10s is less than cluster.outage_timeout (20s)",
        ),
    ] {
        let text = if text.starts_with('{') {
            text.into()
        } else {
            format!("{{{text}}}")
        };
        let error = read(&format!("cluster: {text}")).expect_err(&text);
        assert!(error.contains(problem), "{text}: {error}");
    }
    let text = format!("cluster: {{engines: [{ONE}], pending: 512KiB}}");
    let error = read(&text).expect_err("less than a topic");
    assert!(
        error.contains("cluster.pending: 512KiB is less than cluster.pending_per_topic (1MiB)"),
        "{error}"
    );
}

#[test]
fn files_for_tls_need_tls_and_each_other() {
    let with = |keys: &str, scheme: &str| {
        read(&format!(
            "cluster: {{engines: [{{name: a, url: '{scheme}://a'}}], {keys}}}"
        ))
    };
    assert!(with("ca_file: ca.pem", "rediss").is_ok());
    assert!(
        with(
            "ca_file: ca.pem, cert_file: c.pem, key_file: k.pem",
            "rediss"
        )
        .is_ok()
    );
    let error = with("ca_file: ca.pem", "redis").expect_err("no TLS");
    assert!(
        error.contains(
            "cluster.ca_file: a file is named, but no engine and no Sentinel has rediss://"
        ),
        "{error}"
    );
    let error = with("ca_file: ca.pem, cert_file: c.pem", "rediss").expect_err("no key");
    assert!(error.contains("a certificate needs its key"), "{error}");
}
