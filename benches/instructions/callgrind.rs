//! Counting the instructions of a process with `valgrind --tool=callgrind`.
//!
//! What could make two counts differ is taken away: the environment is empty but for what is set here, the program has
//! one short name wherever it was built, and valgrind shows it a processor of its own making, the same on every host
//! that has AVX2. What is left are the seeds of hash maps, which move a count by less than a ten-thousandth.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// `ERMS` off, because valgrind counts each step of a `rep movsb` as an instruction, where a processor has one.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS");

/// The allocator is to give nothing back to the kernel: when it does is a matter of time, not of instructions.
const ALLOCATOR: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "-1");

/// Where callgrind puts its result, in the directory that it runs in.
const OUT_FILE: &str = "out";

/// The tool, and a place in which it runs this program.
#[derive(Debug)]
pub(crate) struct Valgrind {
    tool: PathBuf,
    directory: TempDir,
}

impl Valgrind {
    /// The tool, if it is installed.
    pub(crate) fn find() -> io::Result<Option<Valgrind>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let Some(tool) = std::env::split_paths(&path)
            .map(|folder| folder.join("valgrind"))
            .find(|file| file.is_file())
        else {
            return Ok(None);
        };
        let directory = tempfile::tempdir()?;
        std::os::unix::fs::symlink(std::env::current_exe()?, directory.path().join("bench"))?;
        Ok(Some(Valgrind { tool, directory }))
    }

    /// What it calls itself, with its version.
    pub(crate) fn version(&self) -> io::Result<String> {
        first_line(self.tool.clone().into(), "--version")
    }

    /// All instructions of a process that runs `case` for so many `iterations`.
    pub(crate) fn count(&self, case: &str, iterations: usize) -> io::Result<u64> {
        let status = Command::new(&self.tool)
            .args(["-q", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={OUT_FILE}"))
            .args(["./bench", "case", case])
            .arg(iterations.to_string())
            .current_dir(self.directory.path())
            .env_clear()
            .envs([TUNABLES, ALLOCATOR])
            .stdin(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("{case}: valgrind: {status}")));
        }
        let out = std::fs::read_to_string(self.directory.path().join(OUT_FILE))?;
        total(&out).ok_or_else(|| io::Error::other(format!("{case}: callgrind says no total")))
    }
}

/// The first line of what a program prints.
pub(crate) fn first_line(program: OsString, argument: &str) -> io::Result<String> {
    let output = Command::new(program).arg(argument).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The sum over everything, from callgrind's file: its only event is `Ir`.
fn total(out: &str) -> Option<u64> {
    let total = out.lines().find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok()
}
