//! `dekeys inject`: a file made from a template, with keys where `{{ dk://vendor/scope }}` stands. For prims.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind, relative};
use super::page::{list, rows, text};
use super::resolve::own_name;
use super::token;
use super::wanted::{Asked, Found, Wanted, find};
use crate::base::secret::SecretText;
use crate::client::Request;
use crate::client::secret::{self, Piece, Reading, SecretFileError};
use crate::client::token::inspect;

/// What `inject` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys inject --key-file prim.key --token-file token --in-file app.toml.tpl --out-file app.toml\n\
    Example: dekeys inject --in-file app.toml.tpl --out-file app.toml --check\n\n\
    In the template: {{ dk://vendor/scope }}, or {{ dk://vendor/scope#field }} where a key has several fields;\n\
    #base_url is the vendor's address. Everything else stays as it is."
)]
pub(crate) struct InjectArgs {
    /// The template; standard input if absent or `-`
    #[arg(long, short = 'i', value_name = "FILE")]
    in_file: Option<PathBuf>,
    /// Write this file at once or not at all; standard output if absent
    #[arg(long, value_name = "FILE")]
    out_file: Option<PathBuf>,
    /// Its mode, in octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = mode, requires = "out_file")]
    file_mode: u32,
    /// Write nothing: say what is missing or stale in the file, and fail if something is
    #[arg(long, requires = "out_file")]
    check: bool,
    /// The agent's token, in place of --token-file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    agent_token: Option<PathBuf>,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("`{text}` is not a mode such as 0600 or 0640"))
}

/// A template: plain text and references in turn.
struct Template<'a>(Vec<Part<'a>>);

enum Part<'a> {
    Plain(&'a str),
    Key(Wanted),
}

const FOUND: &[Column] = &[
    Column("reference", "/reference", Kind::Plain),
    Column("state", "/state", Kind::Plain),
];

/// Renders or checks.
pub(crate) async fn run(args: &InjectArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.out_file.is_none() && context.style.terminal.stdout && !context.globals.yes {
        let fix = "name a file: --out-file FILE; or add --yes if it may be on the screen";
        return Err(Failure::usage("keys are not printed to a terminal", fix));
    }
    let from_stdin = args.in_file.as_deref().is_none_or(|path| path == Path::new("-"));
    if from_stdin && args.agent_token.as_deref() == Some(Path::new("-")) {
        let fix = "give one of them by --in-file FILE or --agent-token FILE";
        return Err(Failure::usage(
            "template and token cannot both come from standard input",
            fix,
        ));
    }
    context.key()?;
    let source = context.read_text(args.in_file.as_deref().unwrap_or_else(|| Path::new("-")))?;
    let template = Template::parse(&source)?;
    let wanted = template.wanted();
    if wanted.is_empty() {
        let what = "the template names no key";
        return Err(Failure::usage(
            what,
            "write {{ dk://vendor/scope }} where a key belongs",
        ));
    }
    let asked = Asked {
        prim: own_name(context).await?,
        token: args.agent_token.clone(),
    };
    match &args.out_file {
        Some(file) if args.check => check(&template, file, &asked, context).await,
        file => {
            let found = find(&asked, &wanted, context).await?;
            write(&template, file.as_deref(), args.file_mode, &found, context)
        }
    }
}

fn write(
    template: &Template<'_>,
    file: Option<&Path>,
    mode: u32,
    found: &[Found],
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let text = template.render(found)?;
    match file {
        Some(file) => secret::write_over_with(file, &text, mode, context.world.random.as_ref())?,
        None => secret::write_all_to(&mut context.world.stdout, &text)?,
    }
    let first = found.iter().map(|one| one.expires).min().unwrap_or_default();
    let leases: Vec<&str> = found.iter().map(|one| one.lease.as_str()).collect();
    let shown = file.map(|file| file.display().to_string());
    match (context.style.format, shown) {
        (Format::Text, shown) => {
            let place = shown.map_or_else(String::new, |shown| format!("{shown} is written; "));
            let when = relative(first, context.now());
            context.say(&format!("{place}the first key ends {when} ({})", leases.join(", ")))
        }
        (_, Some(shown)) => {
            let facts = json!({ "object": "injected", "file": shown, "leases": leases, "expires": first });
            context.show_value(&facts, &[])
        }
        // Standard output is the file.
        (_, None) => Ok(()),
    }
}

impl<'a> Template<'a> {
    /// Finds `{{ dk://… }}`. Braces around anything else are text.
    fn parse(source: &'a str) -> Result<Self, Failure> {
        let mut parts = Vec::new();
        let (mut rest, mut plain_from) = (source, 0);
        while let Some(open) = rest.find("{{") {
            let (_, inside) = rest.split_at(open + 2);
            let at = source.len() - rest.len() + open;
            let Some((inner, after)) = inside
                .split_once("}}")
                .filter(|(inner, _)| inner.trim().starts_with("dk://"))
            else {
                rest = inside;
                continue;
            };
            let wanted = inner.trim().parse().map_err(|error| {
                let line = source.get(..at).unwrap_or_default().matches('\n').count() + 1;
                Failure::usage(
                    format!("line {line}: {error}"),
                    "write {{ dk://vendor/scope }} or {{ dk://vendor/scope#field }}",
                )
            })?;
            parts.push(Part::Plain(source.get(plain_from..at).unwrap_or_default()));
            parts.push(Part::Key(wanted));
            rest = after;
            plain_from = source.len() - after.len();
        }
        parts.push(Part::Plain(source.get(plain_from..).unwrap_or_default()));
        Ok(Self(parts))
    }

    fn wanted(&self) -> Vec<Wanted> {
        let key = |part: &Part<'_>| match part {
            Part::Key(wanted) => Some(wanted.clone()),
            Part::Plain(_) => None,
        };
        self.0.iter().filter_map(key).collect()
    }

    fn render(&self, found: &[Found]) -> Result<SecretText, Failure> {
        let value = |wanted: Wanted| wanted.of(found);
        let values: Vec<SecretText> = self.wanted().into_iter().map(value).collect::<Result<_, _>>()?;
        let mut values = values.iter();
        let piece = |part: &Part<'a>| match part {
            Part::Plain(text) => Some(Piece::Plain(text)),
            Part::Key(_) => values.next().map(Piece::Secret),
        };
        let pieces: Vec<Piece<'_>> = self.0.iter().filter_map(piece).collect();
        Ok(secret::joined(&pieces))
    }

    /// What stands in `installed` where the template has references, and whether all the rest is as in the template.
    fn compare(&self, installed: &SecretText, found: &[Found]) -> Result<(Vec<&'static str>, bool), Failure> {
        let count = self.wanted().len();
        let (mut states, mut at, mut same) = (Vec::with_capacity(count), Reading::At(0), true);
        for (place, part) in self.0.iter().enumerate() {
            match (part, at) {
                (Part::Plain(text), Reading::At(from)) if secret::continues(installed, from, text) => {
                    at = Reading::At(from + text.len());
                }
                (Part::Plain(_), Reading::At(from) | Reading::Lost(from)) => {
                    same = false;
                    at = Reading::Lost(from);
                }
                (Part::Key(wanted), _) => {
                    let next = match self.0.get(place + 1) {
                        Some(Part::Plain(text)) => text,
                        _ => "",
                    };
                    let last = states.len() + 1 == count;
                    let (state, then) = secret::stands_at(installed, at, &wanted.of(found)?, next, last);
                    states.push(state);
                    at = then;
                }
            }
        }
        Ok((states, same && at == Reading::At(installed.len())))
    }
}

/// Says what is missing or stale in an installed file; prints no value.
async fn check(template: &Template<'_>, file: &Path, asked: &Asked, context: &mut Context<'_>) -> Result<(), Failure> {
    let wanted = template.wanted();
    let installed = match secret::read_whole(file) {
        Ok(installed) => Some(installed),
        Err(SecretFileError::Read { .. }) if !file.exists() => None,
        Err(error) => return Err(error.into()),
    };
    let (states, same) = match installed {
        None => (vec!["missing"; wanted.len()], true),
        Some(_) if !all_leases_live(&wanted, asked, context).await? => (vec!["stale"; wanted.len()], true),
        Some(installed) => {
            let found = find(asked, &wanted, context).await?;
            template.compare(&installed, &found)?
        }
    };
    let rows: Vec<Value> = wanted
        .iter()
        .zip(&states)
        .map(|(wanted, state)| json!({ "reference": wanted.to_string(), "state": state }))
        .collect();
    context.show_value(&json!({ "object": "list", "has_more": false, "data": rows }), FOUND)?;
    let wrong = states.iter().filter(|state| **state != "current").count();
    let shown = file.display();
    match (wrong, same) {
        (0, true) => Ok(()),
        (0, false) => Err(Failure::new(
            "file_differs",
            exit::FAILED,
            format!("the keys in `{shown}` are current, its text is not that of the template"),
            "write it anew: dekeys inject",
        )),
        (wrong, _) => Err(Failure::new(
            "file_stale",
            exit::FAILED,
            format!(
                "{wrong} of {} references in `{shown}` are missing or stale",
                states.len()
            ),
            "write it anew: dekeys inject",
        )),
    }
}

/// Whether this prim has a live lease at every vendor that is named. Without one no installed key can be good, and
/// asking for the key would make a new one.
async fn all_leases_live(wanted: &[Wanted], asked: &Asked, context: &mut Context<'_>) -> Result<bool, Failure> {
    let unverified = token::read(asked.token.as_deref(), context)?;
    let grant = inspect(&unverified, None)?.grant.to_string();
    let request = Request::get(&["v1", "leases"]).query("limit", Some(100));
    let leases = context.ask(&request).await?.json();
    let live = |vendor: &str| {
        rows(&leases).iter().any(|lease| {
            text(lease, "/grant") == grant && text(lease, "/vendor") == vendor && text(lease, "/state") == "active"
        })
    };
    // More than a page of newer leases: nothing can be said without asking for the keys.
    let more = leases.get("has_more") == Some(&Value::Bool(true)) && !list(&leases, "/data").is_empty();
    Ok(more || wanted.iter().all(|wanted| live(wanted.reference.vendor.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(source: &str) -> Vec<String> {
        let template = Template::parse(source).unwrap();
        let shown = |part: &Part<'_>| match part {
            Part::Plain(text) => format!("[{text}]"),
            Part::Key(wanted) => format!("<{wanted}>"),
        };
        template.0.iter().map(shown).collect()
    }

    #[test]
    fn references_are_found_and_other_braces_are_text() {
        assert_eq!(parts("a={{ dk://x/b:c }}\n"), ["[a=]", "<dk://x/b:c>", "[\n]"]);
        assert_eq!(
            parts("{{dk://x/b:c#sid}}{{ dk://x/b:c }}"),
            ["[]", "<dk://x/b:c#sid>", "[]", "<dk://x/b:c>", "[]"]
        );
        assert_eq!(parts("{{ .Values.x }} {{{{ é"), ["[{{ .Values.x }} {{{{ é]"]);
        assert_eq!(parts("{{{ dk://x/b:c }}}"), ["[{{{ dk://x/b:c }}}]"]);
        assert_eq!(parts("{{ a }}{{ dk://x/b:c }}"), ["[{{ a }}]", "<dk://x/b:c>", "[]"]);
    }

    #[test]
    fn a_wrong_reference_names_its_line() {
        let failure = Template::parse("a\nb {{ dk://x/nothing }}").err().unwrap();
        assert!(failure.words().starts_with("line 2:"), "{}", failure.words());
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("0640"), Ok(0o640));
        assert_eq!(mode("0o600"), Ok(0o600));
        assert!(mode("888").is_err() && mode("1777").is_err() && mode("").is_err());
    }
}
