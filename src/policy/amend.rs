//! A policy file with the smallest changes that would allow a request: a draft for whoever was refused, to be proposed and
//! decided by people like any other. It widens nothing by itself.

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::decide::{Ask, Decision, RULES, decide_unpaid};
use super::parse;

/// `text` with what `ask` lacks: scopes, kinds, names or wallets, time, resolves, prims. Comments and order stay. `None`
/// when no such change helps, or the file is not one.
#[must_use]
pub fn amend(text: &str, name: &str, ask: &Ask<'_>) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    // Each round gets past one rule at least.
    for _ in 0..=RULES.len() {
        let text = document.to_string();
        let policy = parse(&text, name).ok()?;
        match decide_unpaid(&policy, ask) {
            Decision::Allow(_) => return Some(text),
            Decision::Deny(denial) => widen(&mut document, &denial.rule, ask)?,
        }
    }
    None
}

fn widen(document: &mut DocumentMut, rule: &str, ask: &Ask<'_>) -> Option<()> {
    match rule {
        "scopes" => list(document.as_table_mut(), "scopes")?.push(ask.scope.to_string()),
        "who.kinds" => list(table(document, "who")?, "kinds")?.push(ask.kind.as_str()),
        "who.wallets" => match (ask.name.filter(|_| ask.known), ask.wallets.first()) {
            (Some(name), _) => list(table(document, "who")?, "principals")?.push(name.as_str()),
            (None, Some(wallet)) => list(table(document, "who")?, "wallets")?.push(wallet.as_str()),
            // Nobody is asked to let in just anybody.
            (None, None) => return None,
        },
        "grant.max_ttl" => set(document, "max_ttl", value(ask.ttl.to_string()))?,
        "grant.max_resolves" => set(document, "max_resolves", value(ask.max_resolves))?,
        "reveal.prims" => {
            let reveal = table(document, "reveal")?;
            if !reveal.contains_key("max_lease") {
                reveal.insert("max_lease", value("5m"));
            }
            let prims = list(reveal, "prims")?;
            for prim in ask.audience {
                if !prims.iter().any(|known| known.as_str() == Some(prim.as_str())) {
                    prims.push(prim.as_str());
                }
            }
        }
        _ => return None,
    }
    Some(())
}

fn table<'d>(document: &'d mut DocumentMut, name: &str) -> Option<&'d mut Table> {
    document
        .entry(name)
        .or_insert_with(|| Item::Table(Table::new()))
        .as_table_mut()
}

fn list<'t>(table: &'t mut Table, name: &str) -> Option<&'t mut Array> {
    let item = table
        .entry(name)
        .or_insert_with(|| Item::Value(Value::Array(Array::new())));
    item.as_array_mut()
}

fn set(document: &mut DocumentMut, name: &str, to: Item) -> Option<()> {
    table(document, "grant")?.insert(name, to);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Ttl;
    use crate::model::principal::PrincipalKind;
    use crate::model::scope::Name;

    const TEXT: &str = r#"name = "readers"
vendor = "demo"
scopes = ["echo:read"] # what it is for

[who]
kinds = ["prim"]
wallets = ["eip155:84532:0x857b06519e91e3a54538791bdbb0e22373e36b66"]

[grant]
max_ttl = "15m"
max_resolves = 10

[reveal]
prims = ["prim-echo"]
max_lease = "5m"

[approval]
grants = "none"

[approvers]
from = ["ada"]
quorum = 1
"#;

    #[test]
    fn the_draft_allows_what_was_refused_and_changes_nothing_else() {
        let (name, prim): (Name, Name) = ("crawler".parse().unwrap(), "prim-infer".parse().unwrap());
        let (vendor, scope) = ("demo".parse().unwrap(), "echo:write".parse().unwrap());
        let ask = Ask {
            kind: PrincipalKind::Agent,
            name: Some(&name),
            known: true,
            wallets: &[],
            vendor: &vendor,
            scope: &scope,
            ttl: Ttl::from_mins(30),
            max_resolves: 50,
            audience: std::slice::from_ref(&prim),
        };
        let draft = amend(TEXT, "readers", &ask).unwrap();
        for line in [
            r#"scopes = ["echo:read", "echo:write"] # what it is for"#,
            r#"kinds = ["prim", "agent"]"#,
            r#"principals = ["crawler"]"#,
            r#"max_ttl = "30m""#,
            "max_resolves = 50",
            r#"prims = ["prim-echo", "prim-infer"]"#,
            "quorum = 1",
        ] {
            assert!(draft.contains(line), "{line}\n{draft}");
        }
        let stranger = Ask {
            name: None,
            known: false,
            ..ask
        };
        assert_eq!(
            amend(TEXT, "readers", &stranger),
            None,
            "nobody is let in without a name"
        );
        let other = "other".parse().unwrap();
        assert_eq!(amend(TEXT, "readers", &Ask { vendor: &other, ..ask }), None);
    }
}
