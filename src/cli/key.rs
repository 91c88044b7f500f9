//! `dekeys key`: key files, made on the side of whoever they prove.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::Format;
use crate::client::KeyFile;
use crate::client::secret;
use crate::model::principal::PublicKey;

pub(crate) const EXAMPLE: &str = "Example: dekeys key new prim.key --name prim-infer";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key file (mode 0600) and print its public key
    #[command(after_help = "Example: dekeys key new ada.key --name ada > ada.pub")]
    New {
        /// Where; never overwritten
        file: PathBuf,
        /// A name for people, kept as a comment
        #[arg(long)]
        name: Option<String>,
    },
    /// Print a key file's public key
    #[command(after_help = "Example: dekeys key public ada.key > ada.pub")]
    Public {
        /// The key file
        file: PathBuf,
    },
}

/// Runs a verb.
pub(crate) fn run(verb: &Key, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Key::New { file, name } => {
            let key = KeyFile::generate(context.world.random.as_ref()).named(name.as_deref().unwrap_or_default());
            secret::write_new(file, &key.to_text())?;
            context.say(&format!("made {}; keep it safe, it is the only copy", file.display()))?;
            print(context, key.public())
        }
        Key::Public { file } => {
            let key = context.read_key(file)?;
            print(context, key.public())
        }
    }
}

fn print(context: &mut Context<'_>, key: PublicKey) -> Result<(), Failure> {
    if context.style.format == Format::Text {
        return context.print(&key.to_string());
    }
    context.show_value(&json!({ "object": "public_key", "public_key": key }), &[])
}
