//! Which module may import which: `base` ← `model` ← engines and `store` ← `service` ← surfaces; `setup` composes.

use super::source::{Source, idents, skip_space};

/// Each module under `src/`, and what it may import besides itself. A module that is not here may not exist.
pub(super) const ALLOWED: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("model", &["base"]),
    // Engines: none knows another.
    ("audit", &["base", "model"]),
    ("httpsig", &["base", "model"]),
    ("payment", &["base", "model"]),
    ("policy", &["base", "model"]),
    ("token", &["base", "model"]),
    ("vault", &["base", "model"]),
    ("vendor", &["base", "model"]),
    // What is counted; the verbs and surfaces count.
    ("metrics", &["base", "model"]),
    ("store", &["base", "model"]),
    (
        "service",
        &[
            "audit", "base", "httpsig", "metrics", "model", "payment", "policy", "store", "token", "vault", "vendor",
        ],
    ),
    // What the surfaces share.
    ("config", &["base", "model"]),
    ("problem", &["base", "model", "service"]),
    ("operations", &["base", "model", "problem", "service"]),
    // What is logged and how is part of the configuration.
    ("telemetry", &["base", "config", "model"]),
    // Surfaces.
    (
        "http",
        &["base", "metrics", "model", "operations", "problem", "service"],
    ),
    ("mcp", &["base", "model", "operations", "problem", "service"]),
    ("proxy", &["base", "model", "problem", "service"]),
    ("web", &["base", "model", "problem", "service"]),
    ("worker", &["base", "model", "problem", "service"]),
    ("client", &["audit", "base", "httpsig", "model", "token"]),
    ("mock", &["base", "model", "vendor"]),
    (
        "setup",
        &[
            "audit",
            "base",
            "client",
            "config",
            "http",
            "httpsig",
            "mcp",
            "mock",
            "model",
            "operations",
            "payment",
            "policy",
            "problem",
            "proxy",
            "service",
            "store",
            "telemetry",
            "token",
            "vault",
            "vendor",
            "web",
            "worker",
        ],
    ),
    (
        "cli",
        &[
            "base",
            "client",
            "config",
            "http",
            "mcp",
            "mock",
            "model",
            "operations",
            "problem",
            "proxy",
            "service",
            "setup",
            "telemetry",
            "web",
            "worker",
        ],
    ),
];

/// The library's root declares modules and imports none; the binary calls the command line.
const ROOTS: &[(&str, &[&str])] = &[("src/lib.rs", &[]), ("src/main.rs", &["cli"])];

/// Imports that the layer does not allow, and modules without a layer.
pub(super) fn layers(source: &Source) -> Vec<String> {
    let module = source.module();
    let root = ROOTS.iter().find(|(path, _)| *path == source.path);
    let known = module
        .first()
        .and_then(|top| ALLOWED.iter().find(|(name, _)| name == top));
    let Some((name, allowed)) = root.or(known) else {
        return vec![source.complain(
            0,
            "this module has no layer: add it to the table in tests/it/architecture",
        )];
    };
    let wrong = |(_, used): &(usize, &str)| used != name && !allowed.contains(used);
    imports(source)
        .into_iter()
        .filter(wrong)
        .map(|(at, used)| source.complain(at, &format!("`{name}` may not use `{used}`")))
        .collect()
}

/// The top-level modules that a file names: by `crate::`, by `super::` up to the root, by `dekeys::` in the binary.
fn imports(source: &Source) -> Vec<(usize, &str)> {
    let depth = source.module().len();
    let mut found = Vec::new();
    let from_root = if source.path == "src/main.rs" {
        "dekeys"
    } else {
        "crate"
    };
    for (at, word) in idents(&source.code) {
        if word == from_root {
            found.extend(named(&source.code, at + word.len()));
        }
    }
    for (at, word) in idents(&source.product) {
        let chain = at + supers(&source.product, at) * "super::".len();
        if word == "super" && depth > 0 && supers(&source.product, at) == depth && !follows_path(&source.product, at) {
            found.extend(named(&source.product, chain - "::".len()));
        }
    }
    found
}

/// How many `super::` begin at `at`, one after the other.
fn supers(code: &[u8], at: usize) -> usize {
    code.get(at..)
        .unwrap_or_default()
        .chunks(7)
        .take_while(|chunk| *chunk == b"super::")
        .count()
}

fn follows_path(code: &[u8], at: usize) -> bool {
    code.get(..at).is_some_and(|before| before.ends_with(b"::"))
}

/// The first names of the path or group after `::` at `at`; `self` and `*` are not names.
fn named(code: &[u8], at: usize) -> Vec<(usize, &str)> {
    let at = skip_space(code, at);
    if !code.get(at..).is_some_and(|rest| rest.starts_with(b"::")) {
        return Vec::new();
    }
    let at = skip_space(code, at + 2);
    let starts = if code.get(at) == Some(&b'{') {
        group(code, at)
    } else {
        vec![at]
    };
    let first = |at: usize| {
        idents(code.get(at..)?)
            .next()
            .filter(|(offset, _)| *offset == 0)
            .map(|(_, name)| (at, name))
    };
    starts
        .into_iter()
        .filter_map(first)
        .filter(|(_, name)| *name != "self")
        .collect()
}

/// Where the members of the group that opens at `open` begin.
fn group(code: &[u8], open: usize) -> Vec<usize> {
    let mut starts = vec![skip_space(code, open + 1)];
    let mut depth = 0usize;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 1 => starts.push(skip_space(code, at + 1)),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    starts
}
