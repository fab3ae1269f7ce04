//! nginx asks a backend what each client may do, as `docs/access.md` says. All three run with the text on that page.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Child;

use crate::client::Client;
use crate::files::Files;
use crate::processes::{Port, Proxy, Relay, Tool};
use crate::support::eventually;

const PAGE: &str = "access.md";
const SECTION: &str = "Behind a proxy that asks your backend";

/// A page's origin, and the session of the only user.
const PAGE_OF_OURS: (&str, &str) = ("Origin", "https://app.example.org");
const SESSION: (&str, &str) = ("Cookie", "session=3q2-7wAAx5Jq9pQm");

/// Everything, as a client would like to have it.
const CLAIM: (&str, &str) = (
    "Fanwire-Grants",
    "publish=/**; subscribe=/**; exp=9999999999",
);

/// The backend. It ends with the test.
struct Backend(Child);

impl Backend {
    fn start(python: &Tool, files: &Files, port: &Port) -> Backend {
        let number = port.number().to_string();
        let text = files
            .block_of(PAGE, SECTION, "py")
            .replaced("8000", &number);
        let path = files.path("backend.py");
        fs::write(&path, text.text()).unwrap();
        let mut command = python.command(&[&path]);
        let log = files.log("backend.log");
        let child = command.stderr(log).spawn().unwrap();
        let backend = Backend(child);
        eventually("the backend listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).is_ok()
        });
        backend
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nginx_asks_a_backend_what_its_clients_may_do() {
    let (Some(nginx), Some(python)) = (Tool::of_debian("nginx"), Tool::of_debian("python3")) else {
        return;
    };
    let files = Files::new();
    let (port, backend_port) = (Port::hold(), Port::hold());
    let _backend = Backend::start(&python, &files, &backend_port);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {};\n", files.path(name)))
        .concat();
    let listen = format!("listen 127.0.0.1:{} ssl", port.number());
    let config = files
        .block_of(PAGE, SECTION, "nginx")
        .replaced("listen 443 ssl", &listen)
        .replaced(
            "127.0.0.1:8000",
            &format!("127.0.0.1:{}", backend_port.number()),
        )
        .replaced("/var/log/nginx/access.log", &files.path("access.log"))
        .replaced("http {\n", &format!("http {{\n{temporary}"))
        .without_unless_root(&["user www-data;\n"]);
    let globals = format!("daemon off; pid {};", files.path("pid"));
    let path = files.path("proxy.conf");
    let arguments = ["-c", &path, "-e", "stderr", "-g", &globals];
    let mut check = nginx.command(&arguments);
    check.arg("-t");
    let relay = files.block_of(PAGE, SECTION, "yaml");
    let _relay = Relay::start(&files, relay, "www-data");
    let commands = (check, nginx.command(&arguments));
    let is_answer = |answer: Result<Client, String>| answer.is_err_and(|text| text.contains("401"));
    let proxy = Proxy::start_until(&files, port, &config, commands, is_answer);
    let connect = |path: &str, fields: &[(&'static str, &'static str)]| {
        Client::connect_from(&files, proxy.port(), path, Ipv4Addr::LOCALHOST, fields)
    };
    let mut first = None;
    eventually("a user is in", || {
        first = connect("/room/1", &[PAGE_OF_OURS, SESSION]).ok();
        first.is_some()
    });
    let mut first = first.unwrap();
    let mut second = connect("/room/1", &[PAGE_OF_OURS, SESSION, CLAIM]).unwrap();
    second.say("hello");
    assert_eq!(
        (first.hear(), second.hear()),
        ("hello".into(), "hello".into())
    );
    for (path, fields, status) in [
        ("/room/1", &[PAGE_OF_OURS][..], "401"),
        ("/room/1", &[PAGE_OF_OURS, CLAIM], "401"),
        ("/other", &[PAGE_OF_OURS, SESSION, CLAIM], "403"),
        ("/room/1/2", &[PAGE_OF_OURS, SESSION], "403"),
        (
            "/room/1",
            &[("Origin", "https://evil.example"), SESSION],
            "403",
        ),
        ("/_grants", &[PAGE_OF_OURS, SESSION], "404"),
    ] {
        let refusal = connect(path, fields).err().expect("a refusal");
        assert!(refusal.contains(status), "{path} {fields:?}: {refusal}");
    }
    // The user may only listen there.
    let mut own = connect("/users/ann", &[PAGE_OF_OURS, SESSION]).unwrap();
    own.say("not allowed");
    own.expect_close(&[1008]);
    files.assert_no_warning();
}
