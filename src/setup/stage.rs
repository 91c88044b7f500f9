//! A test instance made for the moment: people with keys, the demo vendor, the server, an approved policy, a prim. The
//! demo plays on it, and `serve --dev` hands it out.
//!
//! Everything is done as users do it: signed requests over HTTP. Nothing but loopback and its own directory is touched.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::SetupError;
use super::server::Server;
use crate::base::random::OsRandom;
use crate::base::time::SystemClock;
use crate::client::{Address, Client, ClientError, KeyFile, Request, approval, secret};
use crate::config::{AdminListen, Config, Rail};
use crate::mock::{MockOptions, MockVendor};
use crate::model::approval::Verdict;
use crate::model::instance::{Instance, Mode};
use crate::model::scope::Name;
use crate::service::init::Init;
use crate::vault::UnsealKey;
use crate::vendor::{self, Manifest};

/// Who is paid in test instances: an address nobody has the key of.
pub const PAY_TO: &str = "0x00000000000000000000000000000000dec0de00";

/// The policy of the demo vendor.
pub const POLICY: &str = include_str!("../../policies/demo-readers.toml");

/// The keys of the people and programs on stage.
pub struct Cast {
    /// Runs the instance.
    pub operator: KeyFile,
    /// Approve together.
    pub approvers: Vec<(Name, KeyFile)>,
    /// Resolves tokens.
    pub prim: KeyFile,
    /// Buys.
    pub agent: KeyFile,
}

/// A test instance that runs.
pub struct Stage {
    /// The server.
    pub server: Server,
    /// The demo vendor.
    pub vendor: MockVendor,
    /// Who plays.
    pub cast: Cast,
    /// Where everything is kept.
    pub data_dir: PathBuf,
}

/// The name of the prim on stage.
pub const PRIM: &str = "prim-echo";

impl Cast {
    /// New keys for everybody.
    ///
    /// # Errors
    /// [`SetupError::Step`].
    pub fn new() -> Result<Self, SetupError> {
        let key = || KeyFile::generate(&OsRandom);
        Ok(Self {
            operator: key(),
            approvers: vec![(name("ada")?, key()), (name("grace")?, key())],
            prim: key(),
            agent: key(),
        })
    }
}

fn name(text: &str) -> Result<Name, SetupError> {
    text.parse().map_err(failed("name"))
}

/// Turns any error into that of a step.
pub(super) fn failed<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> SetupError {
    move |error| SetupError::Step {
        step,
        why: error.to_string(),
    }
}

/// The configuration of a test instance under `dir`, on `listen`.
#[must_use]
pub fn config(dir: &Path, listen: SocketAddr) -> Config {
    let mut config = Config::default_in(dir.to_path_buf());
    config.listen = listen;
    config.admin_listen = AdminListen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.payment.rail = Rail::Sim;
    config.payment.pay_to = Some(PAY_TO.to_owned());
    config
}

/// The database, and in it a vault that `key` opens.
///
/// # Errors
/// [`SetupError`].
pub async fn make(config: &Config, cast: &Cast, key: UnsealKey) -> Result<Instance, SetupError> {
    let init = Init {
        mode: Mode::Test,
        operator: (name("operator")?, cast.operator.public()),
        approvers: cast
            .approvers
            .iter()
            .map(|(name, key)| (name.clone(), key.public()))
            .collect(),
        quorum: 2,
        solo: false,
    };
    super::init(config, init, key).await
}

/// The demo vendor: a server of its own that keeps the truth about its keys.
///
/// # Errors
/// [`SetupError::Step`].
pub async fn start_vendor(truth: Option<PathBuf>) -> Result<MockVendor, SetupError> {
    let text = vendor::shipped()
        .into_iter()
        .find(|(name, _)| name.as_str() == "demo")
        .map(|(_, text)| text);
    let text = text.ok_or_else(|| failed("vendor")("there is no demo manifest"))?;
    let manifest = Manifest::parse(text, "demo").map_err(failed("vendor"))?;
    let options = MockOptions {
        truth_file: truth,
        ..MockOptions::default()
    };
    MockVendor::start(&manifest, options).await.map_err(failed("vendor"))
}

/// A client that signs with a copy of `key`, or with nothing.
///
/// # Errors
/// [`SetupError::Step`].
pub fn client(url: &str, key: Option<&KeyFile>) -> Result<Client, SetupError> {
    let address: Address = url.parse().map_err(failed("client"))?;
    let key = key
        .map(|key| KeyFile::parse(&key.to_text()))
        .transpose()
        .map_err(failed("client"))?;
    let clock = Arc::new(SystemClock::default());
    Client::new(address, key, None, Duration::from_secs(30), clock, Arc::new(OsRandom)).map_err(failed("client"))
}

/// Sends a request that must succeed; answers its JSON.
pub(super) async fn ask(step: &'static str, client: &Client, request: Request) -> Result<Value, SetupError> {
    match client.send(&request).await {
        Ok(reply) => Ok(reply.json()),
        Err(ClientError::Refused(refused)) => Err(failed(step)(format!("{}: {}", refused.code, refused.detail))),
        Err(error) => Err(failed(step)(error)),
    }
}

impl Stage {
    /// The operator enters the demo vendor's root credential.
    ///
    /// # Errors
    /// [`SetupError::Step`].
    pub async fn connect_vendor(&self) -> Result<Value, SetupError> {
        let operator = client(&self.server.url, Some(&self.cast.operator))?;
        let fields: serde_json::Map<String, Value> = self
            .vendor
            .root_fields()
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let body = json!({ "fields": fields, "base_url": self.vendor.url().as_str() });
        ask(
            "vendor",
            &operator,
            Request::put(&["v1", "vendors", "demo", "root-credential"]).json(&body),
        )
        .await
    }

    /// The operator enrolls the prim with the key it made.
    ///
    /// # Errors
    /// [`SetupError::Step`].
    pub async fn enroll_prim(&self) -> Result<Value, SetupError> {
        let operator = client(&self.server.url, Some(&self.cast.operator))?;
        let body = json!({ "name": PRIM, "kind": "prim", "public_keys": [self.cast.prim.public()] });
        ask("policy", &operator, Request::post(&["v1", "principals"]).json(&body)).await
    }

    /// The operator proposes the demo policy, both approvers sign.
    ///
    /// # Errors
    /// [`SetupError::Step`].
    pub async fn approve_policy(&self) -> Result<Value, SetupError> {
        self.put_in_force(POLICY).await
    }

    /// The operator proposes a policy file, both approvers sign.
    ///
    /// # Errors
    /// [`SetupError::Step`].
    pub async fn put_in_force(&self, text: &str) -> Result<Value, SetupError> {
        let operator = client(&self.server.url, Some(&self.cast.operator))?;
        let name = crate::service::propose::name_of(text).map_err(failed("policy"))?;
        let body = json!({ "text": text, "reason": "to try dekeys" });
        let proposal = ask(
            "policy",
            &operator,
            Request::put(&["v1", "policies", name.as_str()]).json(&body),
        )
        .await?;
        let text = |pointer: &str| {
            proposal
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let id = text("/approval");
        let digest = text("/digest").parse().map_err(failed("policy"))?;
        for (_, key) in &self.cast.approvers {
            let approver = client(&self.server.url, Some(key))?;
            let approval = id.parse().map_err(failed("policy"))?;
            let review = approval::review(key, approval, digest, Verdict::Approve, "fine for the demo");
            ask(
                "policy",
                &approver,
                Request::post(&["v1", "approvals", &id, "reviews"]).json(&review),
            )
            .await?;
        }
        Ok(proposal)
    }

    /// Everything at once, for `serve --dev` and for tests: an instance that is ready to sell and to resolve.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn ready(data_dir: PathBuf, listen: SocketAddr) -> Result<Self, SetupError> {
        Self::ready_with(&config(&data_dir, listen), POLICY).await
    }

    /// The same with another configuration (a database of its own, say) and policy.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn ready_with(config: &Config, policy: &str) -> Result<Self, SetupError> {
        let cast = Cast::new()?;
        let data_dir = config.data_dir.clone();
        super::prepare_data_dir(&data_dir)?;
        let key = UnsealKey::generate_key_file(&OsRandom);
        secret::write_new(&data_dir.join("unseal-key"), &key).map_err(failed("vault"))?;
        make(config, &cast, UnsealKey::parse_key_file(&key)?).await?;
        let server = Server::start_near(config).await?;
        crate::service::unseal::unseal(&server.app, UnsealKey::parse_key_file(&key)?).await?;
        let vendor = start_vendor(None).await?;
        let stage = Self {
            server,
            vendor,
            cast,
            data_dir,
        };
        stage.keep_keys()?;
        stage.connect_vendor().await?;
        stage.enroll_prim().await?;
        stage.put_in_force(policy).await?;
        Ok(stage)
    }

    /// A login token of the operator, for tools that cannot sign.
    ///
    /// # Errors
    /// [`SetupError::Step`].
    pub fn login(&self) -> Result<String, SetupError> {
        let session = crate::service::session::open_for_test_instance(&self.server.app, self.cast.operator.public());
        let session = session.ok_or_else(|| failed("login")("not a test instance"))?;
        Ok(secret::shown(&session.secret))
    }

    /// Writes the keys where a developer's programs find them.
    ///
    /// # Errors
    /// [`SetupError::Step`].
    pub fn keep_keys(&self) -> Result<(), SetupError> {
        let mut keys = vec![
            ("operator", &self.cast.operator),
            (PRIM, &self.cast.prim),
            ("agent", &self.cast.agent),
        ];
        keys.extend(self.cast.approvers.iter().map(|(name, key)| (name.as_str(), key)));
        for (name, key) in keys {
            let path = self.key_file(name);
            secret::write_new(&path, &key.to_text()).map_err(failed("keys"))?;
        }
        Ok(())
    }

    /// Where the key file of somebody on stage is.
    #[must_use]
    pub fn key_file(&self, name: &str) -> PathBuf {
        self.data_dir.join(format!("{name}.key"))
    }
}

/// A new directory under the system's temporary one; nobody else can read it.
#[must_use]
pub fn temporary_dir() -> PathBuf {
    let tail = crate::base::id::base32_lower(&crate::base::random::bytes::<8>(&OsRandom));
    std::env::temp_dir().join(format!("dekeys-{tail}"))
}
