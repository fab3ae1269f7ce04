//! Counts the instructions of the relay's hot paths, and compares them with expected counts. A busy machine does not change
//! them.
//!
//! ```text
//! cargo bench --bench instructions                # fails if a count differs by more than 5 % from the expected one
//! cargo bench --bench instructions -- --bless     # expects the counts of this run from now on
//! ```
//!
//! This program runs itself again for each case ([`cases`]), under valgrind ([`callgrind`]), and compares the count with
//! `expected.txt` ([`expected`]). Instructions are not time: the other benches show time that passes in the kernel or in waits
//! for memory. Instructions show new work, on any machine, to a thousandth.

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

/// The binary's allocator. Its version comes from the lock file, so it is the same everywhere. callgrind does not replace it,
/// and counts its instructions too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares instruction counts with the expected ones.
#[derive(Debug, Parser)]
struct Args {
    /// Makes the counts of this run the expected ones.
    #[arg(long, conflicts_with = "only")]
    bless: bool,
    /// Runs only the cases whose name contains this text.
    #[arg(long, default_value = "")]
    only: String,
    #[command(subcommand)]
    mode: Option<Mode>,
    /// `cargo bench` passes it.
    #[arg(long, hide = true)]
    bench: bool,
    /// `cargo test` passes it.
    #[arg(long, hide = true)]
    test: bool,
}

/// The hidden mode, in which this process runs one case and is measured.
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
        // `cargo test --benches` makes a build that is not optimised. Its counts mean nothing.
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
        println!("skipped: the expected counts are for x86-64");
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
    wrong.extend(
        gone.map(|name| format!("{name}: the file expects a count, but there is no such case")),
    );
    let differences = expected.origin.differences(&here);
    if wrong.is_empty() {
        for difference in differences {
            println!("note: {difference}");
        }
        return Ok(());
    }
    wrong.extend(differences);
    Err(io::Error::other(format!(
        "these counts are not those of benches/instructions/expected.txt:\n  {}\n\
         If it is meant to be so: cargo bench --bench instructions -- --bless",
        wrong.join("\n  ")
    )))
}

/// Instructions for one item.
///
/// It is the difference of two runs, with n iterations and with 2 n. Both start a process, make the input, and use everything for
/// the first time, so these instructions cancel. The counter is not switched on at a function, because the compiler may inline or
/// rename it.
fn measure(valgrind: &Valgrind, case: &Case) -> io::Result<f64> {
    let once = valgrind.count(case.name, case.iterations)?;
    let twice = valgrind.count(case.name, 2 * case.iterations)?;
    let items = case.iterations * case.items;
    Ok(twice.saturating_sub(once) as f64 / items as f64)
}

/// Without valgrind the bench is skipped. In CI it fails, because a missing tool must not pass for success.
#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn skip_without_valgrind() -> io::Result<()> {
    if std::env::var_os("CI").is_some() {
        return Err(io::Error::other(
            "valgrind is not installed, and CI is set: nothing would be measured",
        ));
    }
    println!("skipped: valgrind is not installed");
    Ok(())
}

fn expected_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/expected.txt")
}
