//! `dekeys principal`: who is known.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::init::public_key;
use super::output::{Column, Kind};
use super::page::{Page, next, rows, text};
use crate::base::id::PrincipalId;
use crate::client::Request;
use crate::model::scope::Name;

pub(crate) const EXAMPLE: &str = "Example: dekeys principal create prim-infer --kind prim --public-key prim.pub";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Principal {
    /// The newest
    #[command(after_help = "Example: dekeys principal ls")]
    Ls(Page),
    /// Enroll somebody with keys made on their side
    #[command(after_help = EXAMPLE)]
    Create {
        /// The name it will have
        name: Name,
        /// What it is. Operators and approvers are named by `init`
        #[arg(long)]
        kind: Sort,
        /// `ed25519:…`, or a file that holds it. Repeat
        #[arg(long = "public-key", value_name = "FILE")]
        public_keys: Vec<String>,
        /// A wallet, CAIP-10: `eip155:84532:0x…`. Repeat
        #[arg(long = "wallet", value_name = "ACCOUNT")]
        wallets: Vec<String>,
    },
    /// One principal
    #[command(after_help = "Example: dekeys principal show prim-infer")]
    Show {
        /// Name or id
        who: String,
    },
    /// Shut a principal out; its grants and leases end
    #[command(after_help = "Example: dekeys principal disable crawler-7 --reason \"key leaked\" --yes")]
    Disable {
        /// Name or id
        who: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Kinds that can be enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Software that buys or is given grants.
    Agent,
    /// A service that acts for agents and resolves their tokens.
    Prim,
    /// A host that runs many agents.
    Factory,
    /// A person.
    Human,
}

const LIST: &[Column] = &[
    Column("name", "/name", Kind::Plain),
    Column("kind", "/kind", Kind::Plain),
    Column("id", "/id", Kind::Plain),
    Column("approver", "/approver", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("created", "/created", Kind::Time),
];

/// One principal in full.
pub(crate) const FULL: &[Column] = &[
    Column("name", "/name", Kind::Plain),
    Column("kind", "/kind", Kind::Plain),
    Column("id", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("approver", "/approver", Kind::Plain),
    Column("public keys", "/public_keys", Kind::Plain),
    Column("wallets", "/wallets", Kind::Plain),
    Column("created", "/created", Kind::Time),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Principal, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Principal::Ls(page) => context.page(&page.of(&["v1", "principals"]), LIST, "principals").await,
        Principal::Create {
            name,
            kind,
            public_keys,
            wallets,
        } => {
            let keys = public_keys
                .iter()
                .map(|key| public_key(key))
                .collect::<Result<Vec<_>, _>>()?;
            let kind = kind.to_possible_value().map(|value| value.get_name().to_owned());
            let body = json!({ "name": name, "kind": kind, "public_keys": keys, "wallets": wallets });
            let request = Request::post(&["v1", "principals"]).json(&body);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Principal::Show { who } => {
            let id = find(who, context).await?;
            context
                .ask_and_show(&Request::get(&["v1", "principals", &id]), FULL)
                .await
                .map(drop)
        }
        Principal::Disable { who, reason } => {
            let id = find(who, context).await?;
            context.confirm(&format!("Shut out {who}? Its grants and leases end."))?;
            let request = Request::post(&["v1", "principals", &id, "disable"]).json(&json!({ "reason": reason }));
            context.ask_and_show(&request, FULL).await.map(drop)
        }
    }
}

/// The id of a name.
async fn find(who: &str, context: &mut Context<'_>) -> Result<String, Failure> {
    if who.parse::<PrincipalId>().is_ok() {
        return Ok(who.to_owned());
    }
    let mut names = Vec::new();
    let mut page = Page {
        limit: 100,
        after: None,
    };
    loop {
        let answer = context.look_up(&page.of(&["v1", "principals"])).await?.json();
        if let Some(row) = rows(&answer).iter().find(|row| text(row, "/name") == who) {
            return Ok(text(row, "/id"));
        }
        names.extend(rows(&answer).iter().map(|row| text(row, "/name")));
        page.after = next(&answer);
        if page.after.is_none() {
            break;
        }
    }
    let fix = nearest(who, names.into_iter()).map_or_else(
        || "dekeys principal ls".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let what = format!("there is no principal named `{who}`");
    Err(Failure::new("not_found", exit::NOT_FOUND, what, fix))
}

/// The name that was probably meant.
pub(crate) fn nearest(given: &str, names: impl Iterator<Item = String>) -> Option<String> {
    names
        .map(|name| (strsim::damerau_levenshtein(given, &name), name))
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}
