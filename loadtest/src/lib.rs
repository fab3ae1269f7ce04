//! A load generator for WebSocket relays: any server that sends a message to every client connected to the same URL.
//!
//! It checks every delivery, watches its own CPU, and says what it found as a screen, as JSON ([`report`]) and as a page.

pub mod options;
pub mod report;
