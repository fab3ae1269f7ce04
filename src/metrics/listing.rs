//! The catalogue as text: for `--list-metrics`, and as the table of `docs/metrics.md`.

use std::fmt::Write as _;
use std::io;

use super::catalogue::{Metric, Source, all};
use super::engines::LOSSES;
use super::labels::RELOADS;

/// Prints the catalogue for people: a line with name, labels and kind, and a line with the meaning.
///
/// # Errors
/// Those of the writer, such as a pipe whose reader has gone.
pub fn print(out: &mut impl io::Write) -> io::Result<()> {
    for metric in all() {
        writeln!(
            out,
            "{}{}  {}",
            metric.name,
            braces(&metric.labels()),
            metric.kind.as_str()
        )?;
        writeln!(out, "    {}", metric.help)?;
    }
    Ok(())
}

fn braces(labels: &[&str]) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    }
}

/// The catalogue as the table of `docs/metrics.md`. Each line ends with `\n`.
pub fn markdown_table() -> String {
    let mut table = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in all() {
        let labels: Vec<String> = metric
            .labels()
            .iter()
            .map(|label| label_cell(metric, label))
            .collect();
        let (name, kind, help) = (metric.name, metric.kind.as_str(), metric.help);
        writeln!(
            table,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        )
        .expect("writing to a String cannot fail");
    }
    table
}

/// A label and its values, if they are known in advance.
fn label_cell(metric: &Metric, label: &str) -> String {
    let values: Vec<&str> = match metric.source {
        Source::Cases(_, cases) => cases.iter().map(|&(value, _)| value).collect(),
        Source::TlsReloads | Source::KeyReloads | Source::ConfigReloads => RELOADS.to_vec(),
        Source::EngineLosses if label == "reason" => LOSSES.to_vec(),
        Source::ClusterCases(_, cases) => cases.iter().map(|&(value, _)| value).collect(),
        Source::Total(_)
        | Source::PerShard(_)
        | Source::PerShardSeconds(_)
        | Source::InboxEnvelopes
        | Source::InboxBytes
        | Source::MaxConnections
        | Source::FanoutLatency
        | Source::TlsExpiry
        | Source::ConfigSuccess
        | Source::Engine(_)
        | Source::EngineSeconds(_)
        | Source::EngineLosses
        | Source::Cluster(_)
        | Source::BuildInfo
        | Source::CpuTime
        | Source::Process => return format!("`{label}`"),
    };
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    format!("`{label}`: {}", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_list_has_name_labels_kind_and_meaning_of_every_metric() {
        let mut printed = Vec::new();
        print(&mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert_eq!(printed.lines().count(), 2 * all().count());
        assert!(printed.contains(
            "fanwire_disconnections_total{reason}  counter\n    Clients that have disconnected, by"
        ));
        assert!(printed.contains("process_threads  gauge\n"));
    }

    #[test]
    fn the_table_names_the_cases_of_a_closed_label() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), 2 + all().count());
        assert!(table.contains("| `result`: `full`, `partial`, `would_block`, `error` |"));
    }
}
