//! The relay behind the proxies of `docs/behind-a-proxy.md`. Each proxy runs with the configuration on that page.
//!
//! Only ports and paths are replaced. Every proxy goes through the same [`story`]: clients exchange messages, the proxy is
//! reloaded, the relay is stopped and started again. [`page`] finds the configurations, [`processes`] runs proxy and relay,
//! [`client`] is the client. A proxy that is not installed is skipped; if the environment has `CI`, the test fails instead.

// Everything here is a test: a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

mod client;
mod page;
mod processes;

use std::fs;

use rustix::process::Signal;

use self::client::Client;
use self::processes::{Files, Proxy, Relay, Tool, eventually};

const CLIENTS: usize = 50;
const LARGE_MESSAGE_BYTES: usize = 1 << 20;

/// All clients meet here. The query stands for a token, which no proxy may log.
const TARGET: &str = "/room?token=very-secret";
const SECRET: &str = "very-secret";

/// The fate of connections when their proxy is reloaded.
#[derive(Clone, Copy)]
enum Reload {
    KeepsThem,
    ClosesThem,
    /// The proxy cannot be reloaded.
    IsNotThere,
}

#[test]
fn clients_meet_behind_nginx() {
    let Some(nginx) = Tool::of_debian("nginx") else {
        return;
    };
    let configure = |files: &Files, port: u16| {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("    {name}_temp_path {};\n", files.path(name)))
            .concat();
        page::block("nginx", "nginx")
            .replaced("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"))
            .replaced("http {\n", &format!("http {{\n{temporary}"))
            .replaced("/var/log/nginx/access.log", &files.path("access.log"))
    };
    let run = |files: &Files| {
        let globals = format!("daemon off; pid {};", files.path("pid"));
        let config = files.path("proxy.conf");
        nginx.command(&["-c", &config, "-e", "stderr", "-g", &globals])
    };
    let files = Files::new();
    let relay = Relay::of_section("A Unix socket", &files);
    let proxy = Proxy::start(&files, configure, run);
    story(&files, relay, &proxy, Reload::KeepsThem, || {
        proxy.await_new_process(|| proxy.signal(Signal::HUP));
    });
    files.await_path_without_query("access.log");
}

#[test]
fn clients_meet_behind_haproxy() {
    let Some(haproxy) = Tool::of_debian("haproxy") else {
        return;
    };
    let configure = |files: &Files, port: u16| {
        let pem = [files.read("cert.pem"), files.read("key.pem")].concat();
        fs::write(files.path("relay.pem"), pem).unwrap();
        page::block("HAProxy", "haproxy")
            .replaced("bind :443", &format!("bind 127.0.0.1:{port}"))
            .replaced("/etc/haproxy/relay.pem", &files.path("relay.pem"))
            // HAProxy does not start if the limit on open files is too low for this.
            .replaced("maxconn 20000", "maxconn 1000")
    };
    // As in Debian's unit: with a master process, which takes the signal for a reload.
    let run = |files: &Files| haproxy.command(&["-W", "-db", "-f", &files.path("proxy.conf")]);
    let files = Files::new();
    let relay = Relay::of_section("The client's address", &files);
    let proxy = Proxy::start(&files, configure, run);
    story(&files, relay, &proxy, Reload::KeepsThem, || {
        proxy.await_new_process(|| proxy.signal(Signal::USR2));
    });
    assert!(!files.read("proxy.log").contains(SECRET));
}

#[test]
fn clients_meet_behind_caddy() {
    let Some(caddy) = Tool::of_debian("caddy") else {
        return;
    };
    let configure = |files: &Files, port: u16| {
        page::block("Caddy", "caddyfile")
            .replaced(
                "relay.example.org {",
                &format!("https://localhost:{port} {{\n\tbind 127.0.0.1"),
            )
            // Otherwise it also listens on port 80, to redirect to https://.
            .replaced("\tadmin", "\tauto_https disable_redirects\n\tadmin")
            .replaced("/run/caddy/admin.sock", &files.path("admin.sock"))
    };
    let run = |files: &Files| {
        let config = files.path("proxy.conf");
        let mut command = caddy.command(&["run", "--adapter", "caddyfile", "--config", &config]);
        command
            .env("HOME", files.path(""))
            .env("XDG_DATA_HOME", files.path(""))
            .env("XDG_CONFIG_HOME", files.path(""));
        command
    };
    let files = Files::new();
    let relay = Relay::of_section("A Unix socket", &files);
    let proxy = Proxy::start(&files, configure, run);
    story(&files, relay, &proxy, Reload::ClosesThem, || {
        let config = files.path("proxy.conf");
        let admin = format!("unix/{}", files.path("admin.sock"));
        let reload = [
            "reload",
            "--force",
            "--adapter",
            "caddyfile",
            "--config",
            &config,
            "--address",
            &admin,
        ];
        let output = caddy.command(&reload).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
    assert!(
        !files.read("proxy.log").contains(SECRET),
        "{}",
        files.read("proxy.log")
    );
}

#[test]
fn clients_meet_behind_apache() {
    let Some(apache) = Tool::of_debian("apache2") else {
        return;
    };
    let configure = |files: &Files, port: u16| {
        page::block("Apache", "apache")
            .replaced("Listen 443\n", &format!("Listen 127.0.0.1:{port}\n"))
            .replaced("*:443", &format!("*:{port}"))
            .replaced("/run/apache2/relay.pid", &files.path("pid"))
            .replaced("/var/log/apache2/relay-error.log", &files.path("proxy.log"))
            .replaced(
                "/var/log/apache2/relay-access.log",
                &files.path("access.log"),
            )
    };
    let run =
        |files: &Files| apache.command(&["-D", "FOREGROUND", "-f", &files.path("proxy.conf")]);
    let files = Files::new();
    let relay = Relay::of_section("A Unix socket", &files);
    let proxy = Proxy::start(&files, configure, run);
    story(&files, relay, &proxy, Reload::KeepsThem, || {
        proxy.await_new_process(|| proxy.signal(Signal::USR1));
    });
    files.await_path_without_query("access.log");
    assert!(!files.read("proxy.log").contains(SECRET));
}

/// Debian has no package of Envoy, so CI does not need it.
#[test]
fn clients_meet_behind_envoy() {
    let Some(envoy) = Tool::of_elsewhere("envoy") else {
        return;
    };
    let configure = |_: &Files, port: u16| {
        page::block("Envoy", "text").replaced(
            "address: 0.0.0.0, port_value: 443",
            &format!("address: 127.0.0.1, port_value: {port}"),
        )
    };
    let run = |files: &Files| {
        let config = files.read("proxy.conf");
        envoy.command(&["--disable-hot-restart", "--config-yaml", &config])
    };
    let files = Files::new();
    let relay = Relay::of_section("A Unix socket", &files);
    let proxy = Proxy::start(&files, configure, run);
    story(&files, relay, &proxy, Reload::IsNotThere, || {});
    assert!(!files.read("proxy.log").contains(SECRET));
}

/// Every proxy goes through this.
fn story(files: &Files, relay: Relay, proxy: &Proxy, reload: Reload, do_reload: impl Fn()) {
    let connect = || Client::connect(files, proxy.port, TARGET);
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
    let mut clients = connect_all();
    exchange(&mut clients);
    send_a_large_message(&mut clients);

    do_reload();
    match reload {
        Reload::KeepsThem => clients.push(connect().unwrap()),
        Reload::ClosesThem => {
            for client in clients {
                // Caddy sends 1001 to both sides, to the relay without a mask. The relay's answer, 1002, may reach the client first.
                client.expect_close(&[1001, 1002]);
            }
            clients = connect_all();
        }
        Reload::IsNotThere => {}
    }
    exchange(&mut clients);

    relay.ask_to_end();
    for client in clients {
        client.expect_close(&[1001]);
    }
    relay.ended();
    assert!(connect().is_err(), "there is no relay");

    let relay = Relay::start(files);
    exchange(&mut connect_all());
    relay.ask_to_end();
    relay.ended();
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
