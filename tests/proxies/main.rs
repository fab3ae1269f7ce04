//! The relay behind the proxies of `docs/behind-a-proxy.md`. Each proxy runs with the configuration on that page.
//!
//! The page lists the differences, so keep that list true. Every proxy goes through the same [`story`]: clients exchange
//! messages, the proxy is reloaded, the relay is stopped and started again. Then the relay [counts](count_clients) clients by
//! address. A proxy that is not installed is skipped; if the environment has `CI`, the test fails instead.
//!
//! [`page`] finds the configurations, [`files`] has the folder of a
//! test, [`processes`] runs proxy and relay, [`client`] is the client. [`grants`] has the proxy of `docs/access.md`, which asks a
//! backend what its clients may do.

// Everything here is a test: a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

mod client;
mod files;
mod grants;
mod page;
mod processes;
mod support;

use std::net::Ipv4Addr;
use std::process::Command;

use rustix::process::Signal;

use self::client::Client;
use self::files::Files;
use self::processes::{Port, Proxy, Relay, Tool};
use self::support::{TARGET, eventually, runs_as_root};

const CLIENTS: usize = 50;
const LARGE_MESSAGE_BYTES: usize = 1 << 20;

/// The fate of connections when their proxy is reloaded.
#[derive(Clone, Copy)]
enum Reload {
    KeepsThem,
    ClosesThem,
    /// The proxy cannot be reloaded.
    IsImpossible,
}

#[test]
fn clients_meet_behind_nginx() {
    let Some(nginx) = Tool::of_debian("nginx") else {
        return;
    };
    let files = Files::new();
    let port = Port::hold();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {};\n", files.path(name)))
        .concat();
    let config = files
        .block("nginx", "nginx")
        .replaced(
            "listen 443 ssl",
            &format!("listen 127.0.0.1:{} ssl", port.number()),
        )
        .replaced("/var/log/nginx/access.log", &files.path("access.log"))
        .replaced("http {\n", &format!("http {{\n{temporary}"))
        .without_unless_root(&["user www-data;\n"]);
    let globals = format!("daemon off; pid {};", files.path("pid"));
    let path = files.path("proxy.conf");
    let arguments = ["-c", &path, "-e", "stderr", "-g", &globals];
    let mut check = nginx.command(&arguments);
    check.arg("-t");
    let relay = files.block("X-Forwarded-For and Forwarded", "yaml");
    let relay = Relay::start(&files, relay, "www-data");
    let proxy = Proxy::start(&files, port, &config, check, nginx.command(&arguments));
    story(&files, relay, &proxy, Reload::KeepsThem, || {
        proxy.signal(Signal::HUP);
    });
    files.await_path_without_query("access.log");
    // Its output does have a token: of a request that could not reach the relay, as the page says.
}

#[test]
fn clients_meet_behind_haproxy() {
    meet_behind_haproxy("send-proxy-v2");
}

#[test]
fn clients_meet_behind_haproxy_with_version_1_of_the_proxy_protocol() {
    meet_behind_haproxy("send-proxy");
}

fn meet_behind_haproxy(send_proxy: &str) {
    let Some(haproxy) = Tool::of_debian("haproxy") else {
        return;
    };
    let files = Files::new();
    let port = Port::hold();
    let config = files
        .block("HAProxy", "haproxy")
        .replaced("bind :443", &format!("bind 127.0.0.1:{}", port.number()))
        // HAProxy does not start if the limit on open files is too low for this.
        .replaced("maxconn 20000", "maxconn 1000")
        // The group of Debian's package. The machine may have no `fanwire`.
        .replaced("group fanwire", "group haproxy")
        .replaced("send-proxy-v2", send_proxy)
        .without_unless_root(&[
            "    user haproxy\n",
            "    group haproxy\n",
            "    chroot /var/lib/haproxy\n",
        ]);
    let folder = files.path("");
    let folder = folder.trim_end_matches('/');
    let config = if runs_as_root() {
        config.replaced("/var/lib/haproxy", folder)
    } else {
        config.replaced("unix@", &format!("unix@{folder}"))
    };
    let path = files.path("proxy.conf");
    let check = haproxy.command(&["-c", "-f", &path]);
    // As in Debian's unit: with a master process, which takes the signal for a reload.
    let run = haproxy.command(&["-W", "-db", "-f", &path]);
    let relay = files
        .block("The PROXY protocol", "yaml")
        .replaced("/var/lib/haproxy", folder);
    let relay = Relay::start(&files, relay, "haproxy");
    let proxy = Proxy::start(&files, port, &config, check, run);
    story(&files, relay, &proxy, Reload::KeepsThem, || {
        proxy.signal(Signal::USR2);
    });
    files.assert_no_token();
}

#[test]
fn clients_meet_behind_caddy() {
    let Some(caddy) = Tool::of_debian("caddy") else {
        return;
    };
    let files = Files::new();
    let port = Port::hold();
    // Caddy redirects from here.
    let redirects = Port::hold();
    // HTTP/3 would need the UDP port too, and nothing holds that.
    let options = [
        format!("\tadmin unix/{}\n", files.path("caddy/admin.sock")),
        format!("\thttp_port {}\n", redirects.number()),
        format!("\thttps_port {}\n", port.number()),
        "\tdefault_bind 127.0.0.1\n".to_owned(),
        "\tservers {\n\t\tprotocols h1 h2\n\t}\n".to_owned(),
    ]
    .concat();
    let config = files
        .block("Caddy", "caddyfile")
        .replaced("{\n\tlog {", &format!("{{\n{options}\tlog {{"));
    let home = files.home_of("caddy");
    let path = files.path("proxy.conf");
    let command = |action: &str| -> Command {
        let arguments = [action, "--adapter", "caddyfile", "--config", &path];
        let mut command = caddy.command_as("caddy", &arguments);
        command
            .env("HOME", &home)
            .env("XDG_DATA_HOME", &home)
            .env("XDG_CONFIG_HOME", &home);
        command
    };
    let relay = files.block("X-Forwarded-For and Forwarded", "yaml");
    let relay = Relay::start(&files, relay, "caddy");
    let proxy = Proxy::start(&files, port, &config, command("validate"), command("run"));
    story(&files, relay, &proxy, Reload::ClosesThem, || {
        // As in Debian's unit.
        let output = command("reload").arg("--force").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
    });
    files.assert_no_token();
}

#[test]
fn clients_meet_behind_apache() {
    let Some(apache) = Tool::of_debian("apache2") else {
        return;
    };
    let files = Files::new();
    let port = Port::hold();
    let number = port.number();
    let config = files
        .block("Apache", "apache")
        .replaced("Listen 443\n", &format!("Listen 127.0.0.1:{number}\n"))
        .replaced("*:443", &format!("*:{number}"))
        .replaced("/run/apache2/relay.pid", &files.path("pid"))
        .replaced("/run/apache2/relay-sessions", &files.path("sessions"))
        .replaced("/var/log/apache2/relay-error.log", &files.path("proxy.log"))
        .replaced(
            "/var/log/apache2/relay-access.log",
            &files.path("access.log"),
        );
    let path = files.path("proxy.conf");
    let check = apache.command(&["-t", "-f", &path]);
    let run = apache.command(&["-D", "FOREGROUND", "-f", &path]);
    let relay = files.block("X-Forwarded-For and Forwarded", "yaml");
    let relay = Relay::start(&files, relay, "www-data");
    let proxy = Proxy::start(&files, port, &config, check, run);
    story(&files, relay, &proxy, Reload::KeepsThem, || {
        proxy.signal(Signal::USR1);
    });
    files.await_path_without_query("access.log");
    files.assert_no_token();
}

/// Debian has no package of Envoy, so CI does not need it.
#[test]
fn clients_meet_behind_envoy() {
    let Some(envoy) = Tool::of_elsewhere("envoy") else {
        return;
    };
    let files = Files::new();
    let port = Port::hold();
    let config = files.block("Envoy", "text").replaced(
        "address: 0.0.0.0, port_value: 443",
        &format!("address: 127.0.0.1, port_value: {}", port.number()),
    );
    let arguments = ["--disable-hot-restart", "--config-yaml", config.text()];
    let mut check = envoy.command(&arguments);
    check.args(["--mode", "validate"]);
    // It has no user of its own, so it keeps the user of the test, and the relay keeps root's group.
    let relay = Relay::start(&files, files.block("A Unix socket", "yaml"), "root");
    let proxy = Proxy::start(&files, port, &config, check, envoy.command(&arguments));
    story(&files, relay, &proxy, Reload::IsImpossible, || {});
    files.assert_no_token();
}

/// Every proxy goes through this.
fn story(files: &Files, mut relay: Relay, proxy: &Proxy, reload: Reload, do_reload: impl Fn()) {
    let connect = || Client::connect(files, proxy.port(), TARGET);
    let connect_all = || -> Vec<Client> {
        let mut clients = Vec::new();
        eventually("all clients are in", || {
            while clients.len() < CLIENTS {
                match connect() {
                    Ok(client) => clients.push(client),
                    Err(_) => return false,
                }
            }
            true
        });
        clients
    };
    // While a proxy hands over, the process before may still answer, or drop a connection.
    let connect_after_reload = || -> Client {
        let mut found = None;
        eventually("the proxy shows the renewed certificate", || {
            found = connect().ok();
            found
                .as_ref()
                .is_some_and(|client| client.saw_renewed_certificate(files))
        });
        found.unwrap()
    };
    let mut clients = connect_all();
    assert!(!clients[0].saw_renewed_certificate(files));
    exchange(&mut clients);
    eventually("the topic's members are counted", || {
        let description = client::get(files, proxy.port(), TARGET, "application/json");
        assert!(description.starts_with("HTTP/1.1 200 "), "{description}");
        description.contains(&format!("{{\"members\":{CLIENTS},"))
    });
    send_a_large_message(&mut clients);
    listen_and_post(files, proxy);

    files.renew_certificate();
    do_reload();
    match reload {
        Reload::KeepsThem => clients.push(connect_after_reload()),
        Reload::ClosesThem => {
            for client in clients {
                // Caddy sends 1001 to both sides, to the relay without a mask. The relay's answer, 1002, may reach the client
                // first.
                client.expect_close(&[1001, 1002]);
            }
            let first = connect_after_reload();
            clients = connect_all();
            clients.push(first);
        }
        Reload::IsImpossible => {}
    }
    exchange(&mut clients);

    relay.ask_to_end();
    for client in clients {
        client.expect_close(&[1001]);
    }
    relay.await_end();
    assert!(connect().is_err(), "there is no relay");

    relay.start_again(files);
    exchange(&mut connect_all());
    relay.ask_to_end();
    relay.await_end();
    count_clients(files, relay, proxy);
    files.assert_no_warning();
}

/// An event comes through the proxy at once: nothing collects events on their way.
fn listen_and_post(files: &Files, proxy: &Proxy) {
    let path = TARGET.replace("room", "stream");
    let mut reader = client::Reader::open(files, proxy.port(), &path);
    reader.expect("retry: ");
    for text in ["the first", "the second"] {
        let answer = client::post(files, proxy.port(), &path, text);
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        reader.expect(&format!("data: {text}\n\n"));
    }
}

/// The relay's limit counts the clients and not the proxy, whatever they claim. Relays without a limit count nobody.
fn count_clients(files: &Files, mut relay: Relay, proxy: &Proxy) {
    const LIMIT: usize = 2;
    const CLAIMS: [&[(&str, &str)]; 4] = [
        &[],
        &[("X-Forwarded-For", "192.0.2.1")],
        &[("Forwarded", "for=192.0.2.1")],
        &[("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=\"")],
    ];
    if !files.read("config.yaml").contains("max_connections_per_ip") {
        return;
    }
    relay.start_with_limit(files, LIMIT);
    let connect = |last: u8, fields: &[(&'static str, &'static str)]| {
        let source = Ipv4Addr::new(127, 0, 0, last);
        Client::connect_from(files, proxy.port(), TARGET, source, fields)
    };
    let mut clients: Vec<Client> = Vec::new();
    for (before, last) in [1, 3].into_iter().enumerate() {
        eventually("clients of each address are in", || {
            clients.extend(connect(last, &[]).ok());
            clients.len() == LIMIT * (before + 1)
        });
        for fields in CLAIMS {
            let refusal = connect(last, fields).err().unwrap();
            assert!(refusal.contains("429"), "{fields:?}: {refusal}");
        }
    }
    exchange(&mut clients);
    relay.ask_to_end();
    for client in clients {
        client.expect_close(&[1001]);
    }
    relay.await_end();
    let log = files.read("relay.log");
    assert!(
        !log.contains("proxy="),
        "the relay understands its proxy: {log}"
    );
}

/// Each client sends a message, and all get the same messages in the same order.
fn exchange(clients: &mut [Client]) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(&format!("from {number}"));
    }
    let count = clients.len();
    let mut heard: Vec<Vec<String>> = clients
        .iter_mut()
        .map(|client| (0..count).map(|_| client.hear()).collect())
        .collect();
    for other in &heard[1..] {
        assert_eq!(heard[0], *other, "all hear the same in one order");
    }
    let mut expected: Vec<String> = (0..count).map(|number| format!("from {number}")).collect();
    heard[0].sort();
    expected.sort();
    assert_eq!(heard[0], expected);
}

fn send_a_large_message(clients: &mut [Client]) {
    let message: Vec<u8> = (0..LARGE_MESSAGE_BYTES)
        .map(|at| (at % 251) as u8)
        .collect();
    clients[0].send_bytes(message.clone());
    for client in clients {
        assert!(client.hear_bytes() == message, "the large message is whole");
    }
}
