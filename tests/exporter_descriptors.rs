//! A test of the metrics port when descriptors run out. It is a binary of its own, because the limit is that of the process.

// Everything here is a test: a failed `unwrap` is a failed test.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use fanwire::internals::http::Health;
use fanwire::internals::metrics::{Exporter, Exposition, InboxDepth, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn who_waited_while_descriptors_had_run_out_is_served_without_a_newcomer_to_wake_the_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let exposition = Exposition::new(Vec::new(), |_| InboxDepth::default(), 0, None);
    let exporter = Exporter::start(
        listener,
        exposition,
        || Health::Ready,
        Limits::default(),
        |_| (),
    )
    .unwrap();
    let before = getrlimit(Resource::Nofile);

    // The descriptor of the client is the last one, so `accept` gets none.
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let granted = u64::try_from(client.as_raw_fd()).unwrap() + 1;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(granted),
            ..before
        },
    )
    .unwrap();
    client.connect(&exporter.address().into()).unwrap();
    let mut client = TcpStream::from(client);
    client.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "nobody was there to answer"
    );

    setrlimit(Resource::Nofile, before).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}
