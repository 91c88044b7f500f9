//! `dekeys api`: any request, signed as the caller's; and the OpenAPI document that says which there are.

use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::context::Context;
use super::failure::Failure;
use super::hook;
use super::output::raw;
use super::page::{next, rows};
use super::resolve::hide;
use crate::client::{Reply, Request};
use crate::problem::exit_code;

/// What `api` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys api /v1/leases -f limit=100 --paginate\n\
    Example: dekeys api /v1/policies/explain -X POST -f reference=dk://openai/chat:write")]
pub(crate) struct ApiArgs {
    /// The path: `/v1/offers`
    path: String,
    /// GET, POST or PUT; POST if there are fields or an input
    #[arg(long, short = 'X', value_name = "METHOD")]
    method: Option<String>,
    /// A text: a parameter of GET, else a member of the body. Repeat
    #[arg(long = "field", short = 'f', value_name = "KEY=VALUE", value_parser = super::serve::pair)]
    fields: Vec<(String, String)>,
    /// The body from a file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "fields")]
    input: Option<PathBuf>,
    /// All pages of a list, one line of JSON for each thing
    #[arg(long)]
    paginate: bool,
    /// Send it to the admin address
    #[arg(long)]
    admin: bool,
}

/// Sends the request and prints the answer as it is.
pub(crate) async fn run(args: &ApiArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let method = method(args)?;
    if !args.path.starts_with('/') || args.path.contains(['?', '#', ' ']) {
        return Err(Failure::usage(
            "the path begins with `/` and has no query",
            "dekeys api /v1/leases -f limit=100",
        ));
    }
    let body = match &args.input {
        Some(path) => Some(Zeroizing::new(context.read_text(path)?.into_bytes())),
        None => None,
    };
    let client = if args.admin {
        context.admin()?
    } else {
        context.client()?
    };
    let mut after: Option<String> = None;
    loop {
        let request = request(args, &method, body.clone(), after.as_deref());
        let reply = context.send_as_it_is(&client, &request).await?;
        if !args.paginate {
            print(args, &reply, context)?;
            let good = (200..300).contains(&reply.status);
            return if good {
                Ok(())
            } else {
                Err(Failure::Quiet(exit_code("", reply.status)))
            };
        }
        let answer = reply.json();
        rows(&answer)
            .iter()
            .try_for_each(|row| context.print(&row.to_string()))?;
        after = next(&answer);
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Prints the OpenAPI document.
pub(crate) fn openapi(context: &mut Context<'_>) -> Result<(), Failure> {
    let document = hook::openapi();
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    context.print(&text)
}

fn method(args: &ApiArgs) -> Result<Method, Failure> {
    let implied = if args.fields.is_empty() && args.input.is_none() {
        "GET"
    } else {
        "POST"
    };
    let named = args
        .method
        .as_deref()
        .unwrap_or(if args.paginate { "GET" } else { implied });
    match named.to_ascii_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        other => Err(Failure::usage(
            format!("`{other}` is not a method of this API"),
            "GET, POST or PUT",
        )),
    }
}

fn request(args: &ApiArgs, method: &Method, body: Option<Zeroizing<Vec<u8>>>, after: Option<&str>) -> Request {
    let request = Request::at(method.clone(), args.path.clone());
    if *method == Method::GET {
        let fields = args
            .fields
            .iter()
            .filter(|(name, _)| after.is_none() || name != "starting_after");
        let request = fields.fold(request, |request, (name, value)| request.query(name, Some(value)));
        return request.query("starting_after", after);
    }
    match body {
        Some(body) => request.bytes(body),
        None if args.fields.is_empty() => request,
        None => {
            let members: Map<String, Value> = args
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), Value::String(value.clone())))
                .collect();
            request.json(&Value::Object(members))
        }
    }
}

/// A terminal does not get vendor keys, as with `dekeys resolve`.
fn print(args: &ApiArgs, reply: &Reply, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.path == "/v1/resolve" && context.style.terminal.stdout && !context.globals.yes {
        let mut answer = reply.json();
        hide(&mut answer);
        return context.print(&answer.to_string());
    }
    raw(&mut context.world.stdout, &reply.body)
}
