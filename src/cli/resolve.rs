//! `dekeys resolve`: as a prim, swaps an agent's token for the key of a lease. The key itself is printed only when it
//! is asked for by name, and not to a terminal, where it would stay on the screen and in records of it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind, raw};
use super::page::rows;
use super::token;
use crate::base::time::Ttl;
use crate::client::token::{Narrowing, attenuate};
use crate::client::{Refused, Request, secret};
use crate::model::scope::{Name, Reference};

/// How long a token that the prim pins to itself is good for.
pub(super) const PIN: Ttl = Ttl::from_mins(5);

/// What `resolve` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys resolve dk://openai/chat:write --token-file token --key-file prim.key\n\
    Example: OPENAI_API_KEY=$(dekeys resolve dk://openai/chat:write --token-file token --key-file prim.key --reveal)"
)]
pub(crate) struct ResolveArgs {
    /// What: `dk://vendor/scope`, up to 20
    #[arg(required = true, num_args = 1..=20)]
    references: Vec<Reference>,
    /// Print the key: to a pipe or file, or with --yes to a terminal
    #[arg(long)]
    reveal: bool,
    /// Which field of the key; needed if it has several
    #[arg(long, value_name = "NAME", requires = "reveal")]
    field: Option<String>,
    /// Pin the token to yourself first, for 5 minutes; agents should do it before they hand it out
    #[arg(long)]
    pin: bool,
    /// The agent's token, in place of --token-file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    agent_token: Option<PathBuf>,
}

const COLUMNS: &[Column] = &[
    Column("reference", "/reference", Kind::Plain),
    Column("lease", "/lease_id", Kind::Plain),
    Column("seconds", "/lease_duration", Kind::Plain),
    Column("version", "/credential/version", Kind::Plain),
    Column("base url", "/credential/inject/base_url", Kind::Plain),
    Column("problem", "/problem/code", Kind::Plain),
];

/// Resolves.
pub(crate) async fn run(args: &ResolveArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.reveal && context.style.terminal.stdout && !context.globals.yes {
        let fix = "send it to a pipe or a file; or add --yes if it may be on the screen";
        return Err(Failure::usage("a key is not printed to a terminal", fix));
    }
    context.key()?;
    let mut unverified = token::read(args.agent_token.as_deref(), context)?;
    token::refuse_expired(&unverified, context)?;
    if args.pin {
        let narrowing = Narrowing {
            prims: vec![own_name(context).await?],
            until: Some(context.now().plus(PIN)),
            ..Narrowing::default()
        };
        unverified = attenuate(&unverified, &narrowing)?;
    }
    let items: Vec<Value> = args
        .references
        .iter()
        .map(|reference| json!({ "reference": reference }))
        .collect();
    let request = Request::post(&["v1", "resolve"])
        .json(&json!({ "items": items }))
        .bearer(unverified);
    let reply = context.ask(&request).await?;
    let mut answer = reply.json();
    match (args.reveal, context.style.format) {
        (true, Format::Text) => reveal(args, &answer, context)?,
        (true, _) => raw(&mut context.world.stdout, &reply.body)?,
        (false, _) => {
            hide(&mut answer);
            context.show_value(&answer, COLUMNS)?;
        }
    }
    first_problem(&answer)
}

pub(super) async fn own_name(context: &mut Context<'_>) -> Result<Name, Failure> {
    let answer = context.look_up(&Request::get(&["v1", "whoami"])).await?.json();
    let name = answer
        .get("name")
        .and_then(Value::as_str)
        .and_then(|name| name.parse().ok());
    name.ok_or_else(|| {
        Failure::new(
            "not_dekeys",
            exit::FAILED,
            "the server does not say who you are",
            "dekeys whoami",
        )
    })
}

/// Takes the keys out of an answer.
pub(crate) fn hide(answer: &mut Value) {
    let rows = answer.get_mut("data").and_then(Value::as_array_mut);
    for row in rows.into_iter().flatten() {
        let credential = row.get_mut("credential").and_then(Value::as_object_mut);
        if let Some(members) = credential {
            members.remove("fields");
        }
    }
}

/// Prints the keys, one a line, in the order of the references.
fn reveal(args: &ResolveArgs, answer: &Value, context: &mut Context<'_>) -> Result<(), Failure> {
    for row in rows(answer) {
        let Some(fields) = row.pointer("/credential/fields").and_then(Value::as_object) else {
            continue;
        };
        let name = match &args.field {
            Some(name) => Some(name),
            None if fields.len() == 1 => fields.keys().next(),
            None => None,
        };
        let key = name.and_then(|name| secret::at(&Value::Object(fields.clone()), &format!("/{}", pointer(name))));
        let key = key.ok_or_else(|| {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            Failure::usage(
                "it is not clear which field of the key is wanted",
                format!("--field {}", names.join(" or ")),
            )
        })?;
        secret::write_to(&mut context.world.stdout, &key)?;
    }
    Ok(std::io::Write::flush(&mut context.world.stdout)?)
}

/// RFC 6901.
pub(super) fn pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// One item refused is a command that failed, whatever the others got.
pub(super) fn first_problem(answer: &Value) -> Result<(), Failure> {
    let problem = rows(answer).iter().find_map(|row| row.get("problem").cloned());
    let Some(body) = problem else { return Ok(()) };
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = body
        .get("status")
        .and_then(Value::as_u64)
        .and_then(|status| u16::try_from(status).ok());
    let refused = Refused {
        status: status.unwrap_or(500),
        code: text("code"),
        title: text("title"),
        detail: text("detail"),
        fix: text("fix"),
        request_id: body.get("request_id").and_then(Value::as_str).map(str::to_owned),
        retry_after: None,
        body: body.clone(),
    };
    Err(refused.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_answer_holds_no_key() {
        let mut answer = json!({ "object": "list", "data": [
            { "reference": "dk://a/b:c", "credential": { "fields": { "api_key": "CANARY" }, "version": 1 } },
            { "reference": "dk://a/b:d", "problem": { "code": "used_up" } },
        ] });
        hide(&mut answer);
        assert!(!answer.to_string().contains("CANARY"));
        assert_eq!(answer["data"][0]["credential"]["version"], 1);
    }
}
