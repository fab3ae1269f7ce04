//! The documents and the code agree: what the README says of the metrics is what the catalogue holds, and what it shows
//! of a configuration is one.

use std::path::Path;

use fanwire::config::{Config, ProxySource};
use fanwire::metrics::catalogue;

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).expect("README.md is readable")
}

/// What stands in the README between two HTML comments of this name.
fn readme_section(name: &str) -> String {
    let readme = readme();
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

/// The first configuration that a section of the README shows.
fn example_in(section: &str) -> Config {
    let readme = readme();
    let (_, section) = readme
        .split_once(&format!("\n## {section}\n"))
        .expect("the section is there");
    let (_, example) = section.split_once("```yaml\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    Config::from_yaml(example, "README.md").expect("a valid configuration")
}

#[test]
fn the_readmes_rules_on_access_are_a_valid_configuration() {
    let config = example_in("Who may connect and publish");
    assert_eq!(config.server.allowed_origins.len(), 3);
}

#[test]
fn the_readmes_relay_behind_a_load_balancer_is_a_valid_configuration() {
    let config = example_in("Behind a load balancer");
    assert_eq!(config.server.proxy_protocol.from, [ProxySource::Unix]);
    assert_eq!(config.server.max_connections_per_ip, 100);
}
