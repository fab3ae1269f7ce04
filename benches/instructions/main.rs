//! What the relay costs in instructions, compared with what it did cost: a number that a busy machine does not change.
//!
//! ```text
//! cargo bench --bench instructions                # fails if a case is 5 % off what is expected of it
//! cargo bench --bench instructions -- --bless     # expects from now on what is measured
//! ```
//!
//! Each case ([`cases`]) is run by this program again, as a process of its own under valgrind ([`callgrind`]), and
//! compared with `expected.txt` ([`expected`]). Instructions are no time: what waits for memory, or for the kernel, shows
//! in the other benches. What they do show is work that was not there before, on any machine, to a thousandth.

mod callgrind;
mod cases;
mod expected;
#[path = "../shared/one_shard.rs"]
mod one_shard;
#[path = "../shared/streams.rs"]
mod streams;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use self::callgrind::Valgrind;
use self::cases::{CASES, Case};
use self::expected::{Counts, Expected, Origin, Verdict};

/// The binary's allocator. Its version is the lock file's, where glibc's is the distribution's; callgrind replaces
/// neither, and counts it as it does everything else.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Instruction counts, compared with those that are expected.
#[derive(Debug, Parser)]
struct Args {
    /// Writes what is measured into the file of expected counts.
    #[arg(long, conflicts_with = "only")]
    bless: bool,
    /// Runs only the cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by `cargo test`.
    #[arg(long, hide = true)]
    test: bool,
}

/// The hidden mode, in which the benchmark is what is measured.
#[derive(Debug, clap::Subcommand)]
enum Mode {
    #[command(hide = true)]
    Case { name: String, iterations: usize },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.mode {
        Some(Mode::Case { name, iterations }) => be_measured(name, *iterations),
        None if args.bench && !args.test => bench(&args),
        // `cargo test --benches` runs a build that is not optimised; there is nothing to count here.
        None => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn be_measured(name: &str, iterations: usize) -> io::Result<()> {
    let case = CASES
        .iter()
        .find(|case| case.name == name)
        .ok_or_else(|| io::Error::other(format!("there is no case {name}")))?;
    (case.run)(iterations);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn bench(args: &Args) -> io::Result<()> {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: the expected counts are those of x86-64");
        return Ok(());
    }
    let Some(valgrind) = Valgrind::find()? else {
        return skip_without_valgrind();
    };
    let here = Origin::here(&valgrind)?;
    let file = expected_file();
    let expected = Expected::read(&file)?;
    let is_wanted = |case: &&Case| case.name.contains(&args.only);
    if !CASES.iter().any(|case| is_wanted(&case)) {
        let error = format!("no case has {:?} in its name", args.only);
        return Err(io::Error::other(error));
    }
    let mut counts = Counts::new();
    let mut wrong = Vec::new();
    for case in CASES.iter().filter(is_wanted) {
        let verdict = Verdict {
            name: case.name,
            item: case.item,
            expected: expected.counts.get(case.name).copied(),
            count: measure(&valgrind, case)?,
        };
        println!("{verdict}");
        if !verdict.is_as_expected() {
            wrong.push(verdict.to_string());
        }
        counts.insert(case.name.to_owned(), verdict.count);
    }
    if args.bless {
        return expected::bless(&file, &here, &counts);
    }
    let is_gone = |name: &&String| CASES.iter().all(|case| case.name != **name);
    let gone = expected.counts.keys().filter(is_gone);
    wrong.extend(gone.map(|name| format!("{name}: expected, but there is no such case")));
    let differences = expected.origin.differences(&here);
    if wrong.is_empty() {
        for difference in differences {
            println!("note: {difference}");
        }
        return Ok(());
    }
    wrong.extend(differences);
    Err(io::Error::other(format!(
        "not what benches/instructions/expected.txt says:\n  {}\n\
         If it is meant to be so: cargo bench --bench instructions -- --bless",
        wrong.join("\n  ")
    )))
}

/// Instructions for one item.
///
/// They are the difference of two runs, of n iterations and of 2 n, so that the start of the process, the making of the
/// input and the first use of everything are in both and cancel. Nothing depends on how the linker named a function, or
/// on whether it is still one, as it would if the counter were switched at a symbol.
fn measure(valgrind: &Valgrind, case: &Case) -> io::Result<f64> {
    let once = valgrind.count(case.name, case.iterations)?;
    let twice = valgrind.count(case.name, 2 * case.iterations)?;
    let items = case.iterations * case.items;
    Ok(twice.saturating_sub(once) as f64 / items as f64)
}

/// Whoever has no valgrind can go on without; what must pass everywhere must not pass for lack of a tool.
#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn skip_without_valgrind() -> io::Result<()> {
    if std::env::var_os("CI").is_some() {
        return Err(io::Error::other(
            "valgrind not installed, and CI is set: nothing would be measured",
        ));
    }
    println!("skipped: valgrind not installed");
    Ok(())
}

fn expected_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/expected.txt")
}
