//! A network between a client and the relay that can fail: it passes bytes on, and cuts connections.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// See the module. Its threads end with the test's process.
pub(crate) struct Line {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_down: bool,
    ends: Vec<TcpStream>,
}

impl Line {
    /// A network to `relay`.
    pub(crate) fn to(relay: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                if state.is_down {
                    continue;
                }
                let Ok(far) = TcpStream::connect(relay) else {
                    // The relay has ended.
                    continue;
                };
                for end in [&near, &far] {
                    end.set_nodelay(true).unwrap();
                    state.ends.push(end.try_clone().unwrap());
                }
                pass(near.try_clone().unwrap(), far.try_clone().unwrap());
                pass(far, near);
            }
        });
        Line { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections. There are no new ones until it is up again.
    pub(crate) fn go_down(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_down = true;
        for end in state.ends.drain(..) {
            // The other end may have cut it.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn come_up(&self) {
        self.state.lock().unwrap().is_down = false;
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        // An end by a cut is an end.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
