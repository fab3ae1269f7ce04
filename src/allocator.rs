//! The program's allocator, and a thread that makes it release unused memory.
//!
//! mimalloc keeps freed memory for a second for reuse, and releases it only when something large is freed. After a
//! burst, that may never happen. A relay that had delivered 64 messages of 1 MiB and then got only small ones held 80
//! MiB for good. So a thread tells mimalloc to release memory once a second.

use std::io;
use std::thread;
use std::time::Duration;

/// Memory is often allocated on one shard and freed on another. mimalloc does this at a sixth of the cost of glibc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time between two releases. Each costs 60 µs of CPU, wake-up included, with 9,000 connections or with none.
const INTERVAL: Duration = Duration::from_secs(1);

/// Starts the thread that releases unused memory. Fails if the thread cannot start.
pub(crate) fn release_unused_memory() -> io::Result<()> {
    // It has no work to finish, so it ends with the process.
    thread::Builder::new()
        .name("allocator".to_owned())
        .spawn(|| {
            loop {
                thread::sleep(INTERVAL);
                collect();
            }
        })
        .map(drop)
}

#[expect(
    unsafe_code,
    reason = "the allocator's own crate has no safe name for it"
)]
fn collect() {
    // SAFETY: it takes no pointer, and any thread may call it at any time. Without force, it releases memory that has
    // been unused for long enough, and moves nothing.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
