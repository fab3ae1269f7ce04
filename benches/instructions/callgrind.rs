//! Counts the instructions of a process with `valgrind --tool=callgrind`. The `main` of this bench calls it.
//!
//! Two counts of the same build must not differ. So the environment holds only the variables that are set here. The
//! program has the same short name wherever it was built. valgrind shows it the same processor on every host with AVX2. The seeds
//! of hash maps remain. They move a count by less than a ten-thousandth.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Turns `ERMS` off. valgrind would count each step of a `rep movsb` as an instruction; for a processor it is one.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS");

/// Keeps the allocator from giving memory back to the kernel. It would do so by time, and change the count.
const ALLOCATOR: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "-1");

/// The file of callgrind's result, in the directory that it runs in.
const OUT_FILE: &str = "out";

/// The tool, and a directory in which it runs this program.
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

    /// Its name and version, as it prints them.
    pub(crate) fn version(&self) -> io::Result<String> {
        first_line(self.tool.clone().into(), "--version")
    }

    /// The instructions of a whole process that runs `case` for this number of `iterations`.
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
        total(&out)
            .ok_or_else(|| io::Error::other(format!("{case}: callgrind's result has no total")))
    }
}

/// The first line that a program prints.
pub(crate) fn first_line(program: OsString, argument: &str) -> io::Result<String> {
    let output = Command::new(program).arg(argument).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The total in callgrind's file. Its only event is `Ir`, an instruction.
fn total(out: &str) -> Option<u64> {
    let total = out.lines().find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok()
}
