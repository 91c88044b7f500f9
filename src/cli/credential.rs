//! `dekeys credential`: every vendor key ever asked for, and where it stands. Never the key itself.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::Page;
use crate::base::id::{CredentialId, OrphanId};
use crate::base::time::Ttl;
use crate::client::Request;
use crate::model::scope::Name;

pub(crate) const EXAMPLE: &str = "Example: dekeys credential ls";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Credential {
    /// The newest; or keys that are rotated from time to time, and when
    #[command(after_help = "Example: dekeys credential ls --limit 50\nExample: dekeys credential ls --due")]
    Ls {
        #[command(flatten)]
        page: Page,
        /// Keys that are rotated, the most overdue first
        #[arg(long)]
        due: bool,
    },
    /// One credential
    #[command(after_help = "Example: dekeys credential show cred_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Show {
        /// The credential
        id: CredentialId,
    },
    /// Give the key that a policy's grants share its successor; nothing stops meanwhile
    #[command(after_help = "Example: dekeys credential rotate openrouter-readers\n\
        Example: dekeys credential rotate openrouter-readers --grace 1h\n\
        Example: dekeys credential rotate openrouter-readers --revoke-previous      the key leaked")]
    Rotate {
        /// The policy, or a credential's id
        name: String,
        /// How long requests may go on with the key before, at most 24h [default: as configured]
        #[arg(long, value_name = "SPAN", conflicts_with = "revoke_previous")]
        grace: Option<Ttl>,
        /// End the keys before at once
        #[arg(long)]
        revoke_previous: bool,
    },
    /// Keys that a vendor lists and that nobody here accounts for
    #[command(after_help = "Example: dekeys credential orphans --vendor openai\n\
        Those that wait for you are `reported`. What to do: docs/how-to/orphans.md")]
    Orphans {
        /// Which page
        #[command(flatten)]
        page: Page,
        /// At this vendor only
        #[arg(long, value_name = "VENDOR")]
        vendor: Option<Name>,
        /// In this state; open ones otherwise
        #[arg(long, value_name = "STATE", value_parser = ["revoking", "reported", "gone", "dismissed"])]
        state: Option<String>,
    },
    /// Decide about an orphan that was reported
    #[command(
        after_help = "Example: dekeys credential decide orp_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --revoke --reason \"of the old copy\""
    )]
    #[command(group(clap::ArgGroup::new("decision").required(true).args(["revoke", "dismiss"])))]
    Decide {
        /// The orphan
        id: OrphanId,
        /// Have it ended at the vendor
        #[arg(long)]
        revoke: bool,
        /// It is somebody's, and stays
        #[arg(long)]
        dismiss: bool,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

const ORPHANS: &[Column] = &[
    Column("orphan", "/id", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("id there", "/vendor_key_id", Kind::Plain),
    Column("name there", "/vendor_name", Kind::Plain),
    Column("reason", "/reason", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("found", "/found", Kind::Time),
    Column("trouble", "/trouble", Kind::Plain),
];

const LIST: &[Column] = &[
    Column("credential", "/id", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("expires", "/expires", Kind::Time),
    Column("trouble", "/trouble", Kind::Plain),
];

const DUE: &[Column] = &[
    Column("name", "/name", Kind::Plain),
    Column("kind", "/kind", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("made", "/created", Kind::Time),
    Column("due", "/due", Kind::Time),
    Column("how", "/mode", Kind::Plain),
    Column("last", "/state", Kind::Plain),
    Column("trouble", "/trouble", Kind::Plain),
];

pub(super) const ROTATION: &[Column] = &[
    Column("rotation", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("policy", "/policy", Kind::Plain),
    Column("how", "/mode", Kind::Plain),
    Column("key", "/new", Kind::Plain),
    Column("key before", "/old", Kind::Plain),
    Column("before until", "/previous_until", Kind::Time),
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
        Credential::Ls { due: true, .. } => {
            let request = Request::get(&["v1", "rotations"]);
            context.page(&request, DUE, "keys that are rotated").await
        }
        Credential::Ls { page, .. } => {
            context
                .page(&page.of(&["v1", "credentials"]), LIST, "credentials")
                .await
        }
        Credential::Show { id } => {
            let request = Request::get(&["v1", "credentials", &id.to_string()]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Credential::Rotate {
            name,
            grace,
            revoke_previous,
        } => {
            let mut body = json!({ "revoke_previous": revoke_previous });
            if let (Some(grace), Some(fields)) = (grace, body.as_object_mut()) {
                fields.insert("grace".to_owned(), json!(grace));
            }
            let request = Request::post(&["v1", "credentials", name, "rotate"]).json(&body);
            context.ask_and_show(&request, ROTATION).await.map(drop)
        }
        Credential::Orphans { page, vendor, state } => {
            let request = page
                .of(&["v1", "orphans"])
                .query("vendor", vendor.as_ref())
                .query("state", state.as_ref());
            context.page(&request, ORPHANS, "orphans").await
        }
        Credential::Decide { id, revoke, reason, .. } => {
            let (word, what) = if *revoke {
                ("revoke", "End this key at the vendor?")
            } else {
                ("dismiss", "Let this key stay at the vendor?")
            };
            context.confirm(&format!("{id}: {what}"))?;
            let request = Request::post(&["v1", "orphans", &id.to_string(), "decide"])
                .json(&json!({ "decision": word, "reason": reason }));
            context.ask_and_show(&request, ORPHANS).await.map(drop)
        }
    }
}
