//! The alert rules that come with dekeys: they fire on what they are for, name what is there, and each says what to do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use dekeys::metrics::catalogue::CATALOGUE;

use crate::skip::skipped;

const RULES: &str = include_str!("../../deploy/prometheus/alerts.yaml");
const TESTS: &str = include_str!("../../deploy/prometheus/alerts_test.yaml");
const PAGE: &str = include_str!("../../docs/operations.md");

/// The values of a key, in order.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    let found = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    found.collect()
}

#[test]
fn each_rule_fires_on_what_it_is_for_and_on_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let ran = Command::new("promtool").args(arguments).current_dir(&folder).output();
        let Ok(ran) = ran else {
            return skipped("the alert rules: promtool (Debian package prometheus) is not there");
        };
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    }
    for alert in values(RULES, "alert") {
        let quiet = format!("eval_time: 26h, alertname: {alert} }}");
        assert!(TESTS.contains(&quiet), "{alert} is not seen to keep quiet");
        assert!(
            values(TESTS, "alertname").contains(&alert),
            "{alert} is not seen to fire"
        );
    }
}

#[test]
fn each_rule_says_what_to_do() {
    let headings: BTreeSet<String> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let (alerts, pages) = (values(RULES, "alert"), values(RULES, "runbook"));
    assert!(!alerts.is_empty() && alerts.len() == pages.len());
    for (alert, page) in alerts.iter().zip(pages) {
        if page.starts_with("docs/how-to/") {
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page));
            // The page and the rule name each other.
            assert!(text.is_ok_and(|text| text.contains(alert)), "{alert}: {page}");
            continue;
        }
        let heading = page.strip_prefix("docs/operations.md#").unwrap();
        assert!(headings.contains(heading), "{alert}: no heading `{heading}`");
    }
}

#[test]
fn the_rules_name_metrics_and_events_that_exist() {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = RULES.split(|c| !letter(c));
    let named: BTreeSet<&str> = words
        .filter(|word| word.starts_with("dekeys_") || word.starts_with("http_server_request"))
        .collect();
    assert!(named.len() > 15);
    for word in named {
        let base = word.trim_end_matches("_bucket").trim_end_matches("_count");
        assert!(CATALOGUE.iter().any(|metric| metric.name == base), "{word}");
    }
    for kind in ["security.forged_row", "audit.verification_failed"] {
        assert!(RULES.contains(kind));
    }
}
