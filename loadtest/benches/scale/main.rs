//! The growth of the relay's cost with clients, topics, shards and the size of messages; fairness between topics; and
//! memory that is given back. All over real sockets, with every delivery checked.
//!
//! ```text
//! cargo build --release --workspace && cargo bench -p loadtest --bench scale
//! ```
//!
//! One server at a time runs on the first processor, and the generator on the others. Servers that are compared take
//! turns for several rounds, and the median counts. Each experiment leaves a table, and a plot if it has a curve, in
//! `target/scale`. A wrong delivery fails the benchmark. A figure never does, since machines vary.

mod curves;
mod fairness;
mod memory;
mod rig;
mod shards;
mod table;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use self::rig::Rig;
use self::table::Table;

/// Measures how the relay's cost grows.
#[derive(Debug, Parser)]
struct Args {
    /// Experiments to make, by name. The default is all.
    #[arg(value_parser = NAMES)]
    names: Vec<String>,
    /// Number of rounds.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Length of each measurement.
    #[arg(long, default_value = "1500ms", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by `cargo test`.
    #[arg(long, hide = true)]
    test: bool,
}

/// All experiments.
const NAMES: [&str; 6] = ["clients", "topics", "size", "shards", "fairness", "memory"];

/// The results of an experiment.
struct Findings {
    tables: Vec<Table>,
    /// Plots: the name of a file and its text.
    plots: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.test {
        return ExitCode::SUCCESS;
    }
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<(), String> {
    let target = target_folder();
    let rig = Rig::new(&target.join("release"), args.repeats, args.duration)?;
    let folder = target.join("scale");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for name in NAMES {
        if !args.names.is_empty() && !args.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("== {name}");
        let findings = match name {
            "clients" => curves::clients(&rig),
            "topics" => curves::topics(&rig),
            "size" => curves::size(&rig),
            "shards" => shards::shards(&rig),
            "fairness" => fairness::fairness(&rig),
            _ => memory::memory(&rig),
        }?;
        keep(&folder, name, &findings)?;
    }
    Ok(())
}

/// Writes the files, and shows the tables.
fn keep(folder: &Path, name: &str, findings: &Findings) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
    };
    let tables: Vec<String> = findings.tables.iter().map(Table::markdown).collect();
    let text = tables.join("\n");
    writeln!(io::stdout(), "{text}").map_err(|error| error.to_string())?;
    write(&format!("{name}.md"), &text)?;
    for (file, svg) in &findings.plots {
        write(file, svg)?;
    }
    Ok(())
}

/// The target folder of cargo: a benchmark lies in its `release/deps`.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.ancestors().nth(3);
    folder.map_or_else(|| PathBuf::from("target"), Path::to_owned)
}
