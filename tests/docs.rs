//! The documents and the code agree: what the README says of the metrics is what the catalogue holds.

use std::path::Path;

use fanwire::metrics::catalogue;

/// What stands in the README between two HTML comments of this name.
fn readme_section(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).expect("README.md is readable");
    let begin = format!("<!-- {name}:begin -->\n");
    let end = format!("<!-- {name}:end -->");
    let (_, after) = readme
        .split_once(&begin)
        .unwrap_or_else(|| panic!("README.md lacks {begin}"));
    let (section, _) = after
        .split_once(&end)
        .unwrap_or_else(|| panic!("README.md lacks {end}"));
    section.trim().to_owned()
}

#[test]
fn the_readme_has_the_table_of_all_metrics() {
    let table = catalogue::markdown_table();
    let readme = readme_section("metrics");
    assert!(
        readme == table.trim(),
        "between its metrics markers, README.md should have exactly:\n\n{table}"
    );
}
