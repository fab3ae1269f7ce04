//! The command line: `loadtest [SCENARIO] --url …`, and its subcommands.
//!
//! An option that belongs to another scenario is refused here: only here it is known whether it was typed or is a
//! default.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum as _};
use serde::Serialize;

use crate::compare::arguments::{self, CompareArguments};
use crate::compare::{rounds, servers};
use crate::report::progress::Bar;
use crate::report::{Comparison, Report, page, screen, table};
use crate::run::{RunError, run};
use crate::scenario::options::{Options, Outputs};
use crate::scenario::scenarios::{PARTICULAR, Scenario};
use crate::secrets;

/// Everything was right.
const PASSED: u8 = 0;
/// A delivery was wrong, or the run failed.
const FAILED: u8 = 1;
/// The command line makes no sense.
const USAGE: u8 = 2;

/// Length of a soak by default.
const SOAK_DURATION: Duration = Duration::from_mins(10);

/// The arguments of `loadtest [SCENARIO]`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The options of the run.
    #[command(flatten)]
    pub options: Options,
    /// The files that its report is written to.
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

/// The command line.
pub fn command() -> Command {
    let command = Command::new("loadtest")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "Exit status: 0 every delivery was right, 1 a delivery was wrong or the run failed, 2 the command line makes no sense.",
        )
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .subcommand(arguments::command().about("Loads several servers in turns and compares them"))
        .subcommand(
            Command::new("schema")
                .about("Prints the JSON schema of a report")
                .arg(
                    Arg::new("compare")
                        .long("compare")
                        .action(ArgAction::SetTrue)
                        .help("Prints the schema of a comparison instead"),
                ),
        );
    // Without these lines the doc comment of the type would be shown as the program's own.
    RunArguments::augment_args(command)
        .about("Loads a WebSocket relay and checks every delivery")
        .long_about(None)
}

/// Does what a command line says, and prints to the standard streams.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = match command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return ExitCode::from(explain(&error, &arguments)),
    };
    let code = match matches.subcommand() {
        Some(("compare", matches)) => finish(compare(matches)),
        Some(("schema", matches)) => {
            let schema = schema(matches.get_flag("compare"));
            finish(print(&(schema + "\n")).map(|()| true))
        }
        _ => match run_arguments(&matches) {
            Ok(arguments) => finish(load(&arguments)),
            Err(error) => finish(Err(RunError::Usage(error))),
        },
    };
    ExitCode::from(code)
}

/// Shows help, or the fault of a command line.
fn explain(error: &clap::Error, arguments: &[OsString]) -> u8 {
    let readable = |argument: &OsString| argument.to_string_lossy().into_owned();
    let arguments: Vec<String> = arguments.iter().map(readable).collect();
    let text = error.to_string();
    let shown = secrets::hide_quoted(&text, &arguments);
    // There is nowhere else to say that the terminal is gone.
    let _ = if shown == text {
        error.print()
    } else {
        write!(io::stderr(), "{shown}")
    };
    if error.use_stderr() { USAGE } else { PASSED }
}

/// The options of a run as they were typed, with the defaults that depend on the scenario.
pub fn run_arguments(matches: &ArgMatches) -> Result<RunArguments, String> {
    let mut arguments = RunArguments::from_arg_matches(matches).map_err(|e| e.to_string())?;
    complete(&mut arguments.options, matches)?;
    Ok(arguments)
}

/// Refuses options that make no sense in the scenario, and fills in defaults that depend on it. The options were read
/// from `matches`.
fn complete(options: &mut Options, matches: &ArgMatches) -> Result<(), String> {
    let was_typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    for id in PARTICULAR {
        if was_typed(id) && !options.scenario.has_option(id) {
            let all = Scenario::value_variants().iter();
            let having = all.filter(|scenario| scenario.has_option(id));
            let names: Vec<String> = having.map(|scenario| scenario.name()).collect();
            return Err(format!(
                "--{} has no meaning in the scenario {}; it belongs to {}",
                id.replace('_', "-"),
                options.scenario.name(),
                names.join(", ")
            ));
        }
    }
    if options.scenario == Scenario::Soak && !was_typed("duration") {
        options.duration = SOAK_DURATION;
    }
    Ok(())
}

/// The JSON schema of a report, or of a comparison.
fn schema(of_comparison: bool) -> String {
    let schema = if of_comparison {
        schemars::schema_for!(Comparison)
    } else {
        schemars::schema_for!(Report)
    };
    serde_json::to_string_pretty(&schema).expect("a schema is JSON")
}

/// Makes a run, shows and writes its report. Returns whether all was right.
fn load(arguments: &RunArguments) -> Result<bool, RunError> {
    let mut files = Files::create(&arguments.outputs)?;
    let bar = Bar::new(arguments.outputs.quiet);
    let result = run(&arguments.options, &bar);
    bar.finish();
    let report = result?;
    files.write(&report, || page::of_run(&report), &screen::summary(&report))?;
    Ok(report.passed)
}

/// Makes a comparison, shows and writes it. Returns whether all was right.
fn compare(matches: &ArgMatches) -> Result<bool, RunError> {
    let usage = |error: clap::Error| RunError::Usage(error.to_string());
    let mut arguments = CompareArguments::from_arg_matches(matches).map_err(usage)?;
    if arguments.list {
        return print(&servers::list(&arguments)?).map(|()| true);
    }
    complete(&mut arguments.options, matches).map_err(RunError::Usage)?;
    arguments::check(|id| matches.value_source(id) == Some(ValueSource::CommandLine))?;
    let mut files = Files::create(&arguments.outputs)?;
    let markdown = arguments.markdown.as_deref();
    let mut markdown = markdown
        .map(|path| create("--markdown", path))
        .transpose()?;
    let comparison = rounds::compare(&arguments)?;
    if let Some(file) = &mut markdown {
        let table = table::markdown(&comparison);
        fill("--markdown", file, &table)?;
    }
    let table = table::text(&comparison);
    files.write(&comparison, || page::of_comparison(&comparison), &table)?;
    Ok(comparison.passed)
}

/// The files that a report is written to. They are created before the run, which may be long.
#[derive(Debug)]
struct Files {
    json: Option<fs::File>,
    html: Option<fs::File>,
    /// Whether the JSON goes to standard output.
    prints_json: bool,
}

/// A file that an option names.
fn create(option: &str, path: &Path) -> Result<fs::File, RunError> {
    let failed = |error| RunError::Usage(format!("{option} {}: {error}", path.display()));
    fs::File::create(path).map_err(failed)
}

/// Writes the file that an option names.
fn fill(option: &str, file: &mut fs::File, text: &str) -> Result<(), RunError> {
    let failed = |error| RunError::Failed(format!("{option}: {error}"));
    file.write_all(text.as_bytes()).map_err(failed)
}

impl Files {
    fn create(outputs: &Outputs) -> Result<Files, RunError> {
        let (json, html) = (outputs.json.as_deref(), outputs.html.as_deref());
        let is_output = |path: &&Path| *path == Path::new("-");
        Ok(Files {
            prints_json: json.as_ref().is_some_and(is_output),
            json: json
                .filter(|path| !is_output(path))
                .map(|path| create("--json", path))
                .transpose()?,
            html: html.map(|path| create("--html", path)).transpose()?,
        })
    }

    /// Writes the document as JSON and as a page if that was asked for. Shows the text, or the JSON in its place.
    fn write(
        &mut self,
        document: &impl Serialize,
        page: impl FnOnce() -> String,
        text: &str,
    ) -> Result<(), RunError> {
        let json = serde_json::to_string_pretty(document);
        let json = json.map_err(|error| RunError::Failed(format!("--json: {error}")))? + "\n";
        if let Some(file) = &mut self.json {
            fill("--json", file, &json)?;
        }
        if let Some(file) = &mut self.html {
            fill("--html", file, &page())?;
        }
        print(if self.prints_json { &json } else { text })
    }
}

fn print(text: &str) -> Result<(), RunError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(RunError::Failed(error.to_string()))
        }
        _ => Ok(()),
    }
}

fn finish(result: Result<bool, RunError>) -> u8 {
    let error = match result {
        Ok(true) => return PASSED,
        Ok(false) => return FAILED,
        Err(error) => error,
    };
    // There is nowhere else to say that the terminal is gone.
    let _ = writeln!(io::stderr(), "loadtest: {error}");
    match error {
        RunError::Usage(_) => USAGE,
        RunError::Failed(_) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RunArguments, String> {
        let words = std::iter::once("loadtest").chain(line.split_whitespace());
        let matches = command()
            .try_get_matches_from(words)
            .map_err(|error| error.to_string())?;
        run_arguments(&matches)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn options_of_another_scenario_are_refused_by_name() {
        for (line, option) in [
            ("chat --url ws://a --publishers 2", "--publishers"),
            ("idle --url ws://a --rate 5", "--rate"),
            ("idle --url ws://a --text", "--text"),
            ("burst --url ws://a --window 5", "--window"),
            ("fanout --url ws://a --churn-rate 5", "--churn-rate"),
            ("soak --url ws://a --stall 1s", "--stall"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(
                error.contains(option) && error.contains("no meaning"),
                "{error}"
            );
        }
        assert!(parse("slow --url ws://a --stall 1s --slow-share 0.5").is_ok());
    }

    #[test]
    fn the_scenario_may_be_left_out_and_a_soak_is_long() {
        let arguments = parse("--url ws://a").unwrap();
        assert_eq!(arguments.options.scenario, Scenario::Fanout);
        let duration = |line| parse(line).unwrap().options.duration;
        assert_eq!(duration("soak --url ws://a"), SOAK_DURATION);
        assert_eq!(
            duration("soak --url ws://a --duration 3s"),
            Duration::from_secs(3)
        );
    }

    #[test]
    fn every_particular_option_exists() {
        let command = command();
        for id in PARTICULAR {
            assert!(
                command
                    .get_arguments()
                    .any(|argument| argument.get_id() == id),
                "{id}"
            );
        }
    }
}
