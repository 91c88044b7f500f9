//! `dekeys credential`: every vendor key ever asked for, and where it stands. Never the key itself.

use clap::Subcommand;

use super::context::Context;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::Page;
use crate::base::id::CredentialId;
use crate::client::Request;

pub(crate) const EXAMPLE: &str = "Example: dekeys credential ls";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Credential {
    /// The newest
    #[command(after_help = "Example: dekeys credential ls --limit 50")]
    Ls(Page),
    /// One credential
    #[command(after_help = "Example: dekeys credential show cred_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Show {
        /// The credential
        id: CredentialId,
    },
}

const LIST: &[Column] = &[
    Column("credential", "/id", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("expires", "/expires", Kind::Time),
    Column("trouble", "/trouble", Kind::Plain),
];

const FULL: &[Column] = &[
    Column("credential", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("name there", "/vendor_name", Kind::Plain),
    Column("id there", "/vendor_key_id", Kind::Plain),
    Column("grant", "/grant", Kind::Plain),
    Column("lease", "/lease", Kind::Plain),
    Column("prim", "/prim", Kind::Plain),
    Column("attempt", "/attempt", Kind::Plain),
    Column("next try", "/next_at", Kind::Time),
    Column("trouble", "/trouble", Kind::Plain),
    Column("created", "/created", Kind::Time),
    Column("expires", "/expires", Kind::Time),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Credential, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Credential::Ls(page) => {
            context
                .page(&page.of(&["v1", "credentials"]), LIST, "credentials")
                .await
        }
        Credential::Show { id } => {
            let request = Request::get(&["v1", "credentials", &id.to_string()]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
    }
}
