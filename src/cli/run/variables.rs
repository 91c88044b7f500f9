//! The variables of the environment by which programs find a vendor and its key.
//!
//! Two come from the vendor's name alone: `<NAME>_BASE_URL` and `<NAME>_API_KEY`. Vendors whose own libraries or tools
//! read others are in [`KNOWN`], each with whose they are. Whatever else a program reads is said with `--env`.

use std::str::FromStr;

use crate::cli::failure::Failure;
use crate::model::scope::Name;

/// What a variable is filled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filling {
    /// The loopback address of the vendor, with this path after it.
    BaseUrl(String),
    /// The stand-in that goes where a key would.
    Key,
}

/// One variable of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name.
    pub name: String,
    /// The vendor.
    pub vendor: Name,
    /// What stands in it.
    pub filling: Filling,
}

/// How the programs of one vendor are told.
struct Known {
    /// The vendor's name in dekeys.
    vendor: &'static str,
    /// What `<NAME>` is.
    name: &'static str,
    /// The path that its libraries expect in a base URL.
    path: &'static str,
    /// Variables for the base URL, besides `<NAME>_BASE_URL`.
    base_urls: &'static [&'static str],
    /// Variables for the key, besides `<NAME>_API_KEY`.
    keys: &'static [&'static str],
}

const fn known(vendor: &'static str, name: &'static str, path: &'static str) -> Known {
    Known {
        vendor,
        name,
        path,
        base_urls: &[],
        keys: &[],
    }
}

/// As the vendors' own libraries and command lines name them.
const KNOWN: &[Known] = &[
    // openai (PyPI, npm): the base URL ends with `/v1`.
    known("openai", "OPENAI", "/v1"),
    known("openai-project", "OPENAI", "/v1"),
    // anthropic (PyPI), @anthropic-ai/sdk (npm): without a path.
    known("anthropic", "ANTHROPIC", ""),
    // groq (PyPI, npm): the library puts `/openai/v1` after it.
    known("groq", "GROQ", ""),
    // Used with OpenAI's libraries.
    known("openrouter", "OPENROUTER", "/api/v1"),
    Known {
        base_urls: &["REPLICATE_API_BASE_URL"],
        keys: &["REPLICATE_API_TOKEN"],
        ..known("replicate", "REPLICATE", "")
    },
    Known {
        keys: &["CLOUDFLARE_API_TOKEN"],
        ..known("cloudflare", "CLOUDFLARE", "/client/v4")
    },
    // The hcloud command line.
    Known {
        base_urls: &["HCLOUD_ENDPOINT"],
        keys: &["HCLOUD_TOKEN"],
        ..known("hetzner", "HETZNER", "/v1")
    },
    // flyctl.
    Known {
        base_urls: &["FLY_API_BASE_URL"],
        keys: &["FLY_API_TOKEN"],
        ..known("fly", "FLY", "")
    },
    Known {
        keys: &["STRIPE_SECRET_KEY"],
        ..known("stripe", "STRIPE", "")
    },
    Known {
        keys: &["VAULT_TOKEN"],
        base_urls: &["VAULT_ADDR"],
        ..known("vault", "VAULT", "")
    },
    Known {
        keys: &["VERCEL_TOKEN"],
        ..known("vercel", "VERCEL", "")
    },
    Known {
        keys: &["NETLIFY_AUTH_TOKEN"],
        ..known("netlify", "NETLIFY", "/api/v1")
    },
    Known {
        keys: &["GITLAB_TOKEN"],
        ..known("gitlab", "GITLAB", "")
    },
];

/// The variables of a vendor.
pub(crate) fn of(vendor: &Name) -> Vec<Variable> {
    let found = KNOWN.iter().find(|known| known.vendor == vendor.as_str());
    let own = vendor.as_str().to_ascii_uppercase().replace('-', "_");
    let (name, path) = found.map_or((own.as_str(), ""), |known| (known.name, known.path));
    let (more_urls, more_keys) = found.map_or((&[][..], &[][..]), |known| (known.base_urls, known.keys));
    let base_url = |name: String| Variable {
        name,
        vendor: vendor.clone(),
        filling: Filling::BaseUrl(path.to_owned()),
    };
    let key = |name: String| Variable {
        name,
        vendor: vendor.clone(),
        filling: Filling::Key,
    };
    let named = |names: &'static [&'static str]| names.iter().map(|name| (*name).to_owned());
    std::iter::once(format!("{name}_BASE_URL"))
        .chain(named(more_urls))
        .map(base_url)
        .chain(
            std::iter::once(format!("{name}_API_KEY"))
                .chain(named(more_keys))
                .map(key),
        )
        .collect()
}

/// `NAME=VENDOR.key` or `NAME=VENDOR.base_url[/path]`, as `--env` has it.
impl FromStr for Variable {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither `NAME=VENDOR.key` nor `NAME=VENDOR.base_url` with a path after it");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (vendor, what) = rest.split_once('.').ok_or_else(wrong)?;
        let filling = match what.strip_prefix("base_url") {
            Some(path) if path.is_empty() || path.starts_with('/') => Filling::BaseUrl(path.to_owned()),
            None if what == "key" => Filling::Key,
            _ => return Err(wrong()),
        };
        if !is_variable(name) {
            return Err(format!("`{name}` is not the name of a variable"));
        }
        Ok(Self {
            name: name.to_owned(),
            vendor: vendor.parse().map_err(|error| format!("{error}"))?,
            filling,
        })
    }
}

/// Letters, digits and `_`, not beginning with a digit.
pub(crate) fn is_variable(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(letter) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// The variables of all vendors, those said with `--env` last and strongest.
///
/// # Errors
/// `--env` names a vendor that is not among them, or two vendors want one variable.
pub(crate) fn all(vendors: &[Name], said: &[Variable]) -> Result<Vec<Variable>, Failure> {
    let foreign = said.iter().find(|variable| !vendors.contains(&variable.vendor));
    if let Some(foreign) = foreign {
        let what = format!("the program is not to use {}, which --env names", foreign.vendor);
        return Err(Failure::usage(
            what,
            "name a vendor that the token allows, and with --vendor if you use that",
        ));
    }
    let taken = |variable: &Variable| said.iter().any(|one| one.name == variable.name);
    let all: Vec<Variable> = vendors
        .iter()
        .flat_map(of)
        .filter(|one| !taken(one))
        .chain(said.iter().cloned())
        .collect();
    let twice = all
        .iter()
        .find(|one| all.iter().any(|other| other.name == one.name && other != *one));
    match twice {
        None => Ok(all),
        Some(one) => Err(Failure::usage(
            format!("two vendors want the variable {}", one.name),
            format!("say which: --env {}=VENDOR.key, or choose with --vendor", one.name),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(vendor: &str) -> Vec<String> {
        of(&vendor.parse().unwrap())
            .into_iter()
            .map(|variable| variable.name)
            .collect()
    }

    #[test]
    fn each_vendor_has_a_base_url_and_a_key() {
        assert_eq!(names("demo"), ["DEMO_BASE_URL", "DEMO_API_KEY"]);
        assert_eq!(names("auth0-token"), ["AUTH0_TOKEN_BASE_URL", "AUTH0_TOKEN_API_KEY"]);
        assert_eq!(names("openai-project"), ["OPENAI_BASE_URL", "OPENAI_API_KEY"]);
        assert!(names("hetzner").contains(&"HCLOUD_TOKEN".to_owned()));
    }

    #[test]
    fn what_is_said_goes_before_what_is_known() {
        let demo: Name = "demo".parse().unwrap();
        let said: Variable = "DEMO_API_KEY=demo.base_url/v2".parse().unwrap();
        let all = all(std::slice::from_ref(&demo), &[said]).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].filling, Filling::BaseUrl("/v2".to_owned()));
        for wrong in [
            "X",
            "X=demo",
            "X=demo.kex",
            "X=demo.base_urlx",
            "1X=demo.key",
            "X=De.key",
            "=demo.key",
        ] {
            assert!(wrong.parse::<Variable>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_vendors_do_not_share_a_variable_silently() {
        let vendors: Vec<Name> = ["openai", "openai-project"].map(|name| name.parse().unwrap()).into();
        assert!(all(&vendors, &[]).is_err());
        let said: Vec<Variable> = ["OPENAI_BASE_URL=openai.base_url/v1", "OPENAI_API_KEY=openai.key"]
            .map(|text| text.parse().unwrap())
            .into();
        assert!(all(&vendors, &said).is_ok());
        assert!(all(&vendors[..1], &["X=demo.key".parse().unwrap()]).is_err());
    }
}
