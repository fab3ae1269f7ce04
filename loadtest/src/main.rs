//! The load generator's program; all of it is in [`loadtest::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    loadtest::cli::main(std::env::args_os())
}
