//! What a running command works with: who it is, whom it talks to, how it prints.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::failure::Failure;
use super::output::{self, Column, Format, Style};
use super::page::{next, rows};
use super::progress::watched;
use super::prompt;
use super::settings::{self, ADDR, ADMIN, Setting, TIMEOUT};
use super::world::World;
use super::{Colour, Globals, curl, exit};
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::client::secret::{self, SecretFileError};
use crate::client::{Address, Client, ClientError, KeyFile, Refused, Reply, Request};

/// What a running command works with.
pub(crate) struct Context<'w> {
    pub world: &'w mut World,
    pub globals: Globals,
    pub style: Style,
    /// Where each value of `globals` comes from.
    pub settings: Vec<Setting>,
    /// The file of the login that was kept, when that is what proves the caller.
    kept_login: Option<PathBuf>,
}

impl<'w> Context<'w> {
    /// Takes environment and profile into account, and says whether that makes sense.
    pub(crate) fn new(globals: &Globals, world: &'w mut World) -> (Self, Result<(), Failure>) {
        let (laid, fit) = settings::lay(globals, world);
        let env = |name: &str| (world.env)(name).filter(|value| !value.is_empty());
        let dumb = env("TERM").is_some_and(|term| term == "dumb");
        let plain = dumb || env("NO_COLOR").is_some();
        let style = Style {
            format: laid.format,
            terminal: world.terminal,
            colour: match laid.globals.color {
                Colour::Always => true,
                Colour::Never => false,
                Colour::Auto => world.terminal.stderr && !plain,
            },
            quiet: laid.globals.quiet,
            still: dumb,
            now: world.clock.now(),
        };
        let context = Self {
            world,
            globals: laid.globals,
            settings: laid.list,
            style,
            kept_login: None,
        };
        (context, fit)
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Tells a failure and gives its exit code.
    pub(crate) fn fail(self, failure: &Failure) -> u8 {
        if let Failure::Told(told) = failure {
            // Nobody reads it: the exit code still says it.
            let _ = output::failure(&mut self.world.stderr, self.style, told);
        }
        failure.exit()
    }

    /// The client of the public address, proving itself as far as it can.
    pub(crate) fn client(&mut self) -> Result<Client, Failure> {
        let address = self.globals.addr.clone();
        self.client_of(address.as_deref().unwrap_or(ADDR))
    }

    /// The client of the admin address.
    pub(crate) fn admin(&mut self) -> Result<Client, Failure> {
        let address = self.globals.admin_addr.clone();
        self.client_of(address.as_deref().unwrap_or(ADMIN))
    }

    fn client_of(&mut self, address: &str) -> Result<Client, Failure> {
        let address = parse_address(address)?;
        let signer = match self.globals.key_file.clone() {
            Some(path) => Some(self.read_key(&path)?),
            None => None,
        };
        // A login in this user's files is for the public address it was made at, and gives way to whatever is named.
        let login = match (&self.globals.token_file, &signer) {
            (Some(path), _) => Some(secret::read_file(path)?),
            (None, Some(_)) => None,
            (None, None) => self.stored_login()?,
        };
        let kept = signer.is_none() && self.globals.token_file.is_none() && login.is_some();
        self.kept_login = if kept { self.login_file().ok() } else { None };
        self.client_with(address, signer, login)
    }

    /// A client that proves nothing.
    pub(crate) fn stranger(&mut self) -> Result<Client, Failure> {
        let address = self.globals.addr.clone();
        self.client_with(parse_address(address.as_deref().unwrap_or(ADDR))?, None, None)
    }

    /// A client of the admin address that proves nothing.
    pub(crate) fn admin_stranger(&mut self) -> Result<Client, Failure> {
        let address = self.globals.admin_addr.clone();
        self.client_with(parse_address(address.as_deref().unwrap_or(ADMIN))?, None, None)
    }

    /// A client of the public address that proves itself with this login alone.
    pub(crate) fn with_login(&mut self, login: SecretText) -> Result<Client, Failure> {
        let address = self.globals.addr.clone();
        self.kept_login = self.login_file().ok();
        self.client_with(parse_address(address.as_deref().unwrap_or(ADDR))?, None, Some(login))
    }

    pub(super) fn client_with(
        &mut self,
        address: Address,
        signer: Option<KeyFile>,
        login: Option<SecretText>,
    ) -> Result<Client, Failure> {
        if address.is_readable_on_the_way() {
            self.say("warning: plain http to another machine: tokens and keys can be read on the way; use https")?;
        }
        let (clock, random) = (Arc::clone(&self.world.clock), Arc::clone(&self.world.random));
        Ok(Client::new(
            address,
            signer,
            login,
            self.globals.timeout.unwrap_or(TIMEOUT).to_std(),
            clock,
            random,
        )?)
    }

    /// Sends a request whose good answer is JSON.
    pub(crate) async fn send(&mut self, client: &Client, request: &Request) -> Result<Reply, Failure> {
        let reply = self.send_for_any(client, request).await?;
        if serde_json::from_slice::<serde::de::IgnoredAny>(&reply.body).is_ok() {
            return Ok(reply);
        }
        let (address, status) = (client.address().clone(), reply.status);
        Err(ClientError::Foreign { address, status }.into())
    }

    /// Sends a request; every answer that is no refusal is a good one.
    pub(crate) async fn send_for_any(&mut self, client: &Client, request: &Request) -> Result<Reply, Failure> {
        let reply = self.exchange(client, request).await?;
        let reply = reply.and_then(|reply| client.check(reply));
        reply.map_err(|error| {
            let failure = Failure::from(error);
            if self.kept_login.is_some() && failure.exit() == exit::UNAUTHENTICATED {
                let code = failure.code().to_owned();
                return failure.or_fix(&code, || "your login is over: dekeys login --key-file FILE".to_owned());
            }
            failure
        })
    }

    /// Sends a request whose answer is JSON, whatever its status, and no refusal: `/readyz` says so with 503.
    pub(crate) async fn send_as_it_is(&mut self, client: &Client, request: &Request) -> Result<Reply, Failure> {
        let reply = self.exchange(client, request).await??;
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&reply.body).is_ok();
        let refused = Refused::read(reply.status, &reply.headers, &reply.body).is_some();
        if json && !refused || (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        Ok(client.check(reply)?)
    }

    /// Sends a request, and says so with `--verbose`; with `--curl` says how to send it, and ends.
    pub(crate) async fn exchange(
        &mut self,
        client: &Client,
        request: &Request,
    ) -> Result<Result<Reply, ClientError>, Failure> {
        if self.globals.curl {
            self.print_curl(client, request)?;
            return Err(Failure::Quiet(0));
        }
        self.trace(&format!("> {} {}{}", request.method, client.address(), request.path()))?;
        let what = format!("{} {}", request.method, request.path());
        let reply = watched(self.style, &what, client.send_any(request)).await;
        match &reply {
            Ok(reply) => {
                let id = reply.header("request-id").unwrap_or_default().to_owned();
                self.trace(&format!("< {} {id}", reply.status))?;
            }
            Err(error) => self.trace(&format!("< {error}"))?,
        }
        Ok(reply)
    }

    /// Says how to send a request with curl.
    pub(crate) fn print_curl(&mut self, client: &Client, request: &Request) -> Result<(), Failure> {
        let mut prepared = client.prepared(request)?;
        if request.hides_body() {
            // The digest of a secret that can be guessed is no secret's keeper.
            for name in ["signature", "signature-input", "content-digest"] {
                prepared.headers.remove(name);
            }
            self.say(&format!(
                "put the body into {}; it is not shown, since it may be secret",
                curl::BODY_FILE
            ))?;
        }
        if client.signs() && request.hides_body() {
            self.say(
                "it must be signed (RFC 9421, Ed25519), which curl cannot: dekeys api PATH --input FILE --key-file KEY",
            )?;
        } else if client.signs() {
            self.say("signed (RFC 9421, Ed25519): it works once, within 60 s; --curl again gives a fresh signature")?;
        }
        let token = self.globals.token_file.as_ref().or(self.kept_login.as_ref());
        let line = curl::line(request, &prepared, client.address(), token.map(PathBuf::as_path));
        self.print(&line)
    }

    /// Sends a request that only finds out what the command's own request needs; `--curl` sends it too.
    pub(crate) async fn look_up(&mut self, request: &Request) -> Result<Reply, Failure> {
        let curl = std::mem::take(&mut self.globals.curl);
        let reply = self.ask(request).await;
        self.globals.curl = curl;
        reply
    }

    /// Waits between two looks at something; `what` is waited for.
    pub(crate) async fn pause(&self, what: &str, time: std::time::Duration) {
        watched(self.style, what, tokio::time::sleep(time)).await;
    }

    /// Sends a request to the public address.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let client = self.client()?;
        self.send(&client, request).await
    }

    /// Sends a request and prints the answer.
    pub(crate) async fn ask_and_show(&mut self, request: &Request, columns: &[Column]) -> Result<Value, Failure> {
        let reply = self.ask(request).await?;
        self.show(&reply, columns)
    }

    /// Prints an answer.
    pub(crate) fn show(&mut self, reply: &Reply, columns: &[Column]) -> Result<Value, Failure> {
        output::answer(&mut self.world.stdout, self.style, &reply.body, columns)?;
        Ok(reply.json())
    }

    /// Prints something that no answer was.
    pub(crate) fn show_value(&mut self, value: &Value, columns: &[Column]) -> Result<(), Failure> {
        output::answer(
            &mut self.world.stdout,
            self.style,
            value.to_string().as_bytes(),
            columns,
        )
    }

    /// Prints a page of a list, and says how it goes on.
    pub(crate) async fn page(&mut self, request: &Request, columns: &[Column], noun: &str) -> Result<(), Failure> {
        let answer = self.ask_and_show(request, columns).await?;
        if self.style.format != Format::Text {
            return Ok(());
        }
        match (rows(&answer).len(), next(&answer)) {
            (0, _) => self.say(&format!("no {noun}")),
            (_, Some(after)) => self.say(&format!("more follow: --after {after}")),
            (_, None) => Ok(()),
        }
    }

    /// Prints text that is a result: a file, a document.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        output::raw(&mut self.world.stdout, text.as_bytes())
    }

    /// Talks.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), Failure> {
        if self.style.quiet {
            return Ok(());
        }
        writeln!(self.world.stderr, "{}", output::visible_lines(text))?;
        Ok(self.world.stderr.flush()?)
    }

    fn trace(&mut self, text: &str) -> Result<(), Failure> {
        if self.globals.verbose { self.say(text) } else { Ok(()) }
    }

    /// Whether results are lines of text, on a terminal or not.
    pub(crate) fn in_text(&self) -> bool {
        self.style.format == Format::Text
    }

    /// Whether results are for people.
    pub(crate) fn for_people(&self) -> bool {
        self.style.format == Format::Text && self.style.terminal.stdout
    }

    /// The key file that was named.
    pub(crate) fn key(&mut self) -> Result<KeyFile, Failure> {
        let path = self.globals.key_file.clone().ok_or_else(|| {
            Failure::new(
                "signature_required",
                exit::UNAUTHENTICATED,
                "this needs your key file",
                "name it: --key-file FILE, or DEKEYS_KEY_FILE; make one: dekeys key new FILE",
            )
        })?;
        self.read_key(&path)
    }

    /// Reads a key file; says so when others may read it too.
    pub(crate) fn read_key(&mut self, path: &Path) -> Result<KeyFile, Failure> {
        let key = KeyFile::parse(&secret::read_file(path)?)?;
        if secret::is_loose(path) {
            let shown = path.display();
            self.say(&format!(
                "warning: others may read the key file {shown}: chmod 600 {shown}"
            ))?;
        }
        Ok(key)
    }

    /// A file of text; `-` is standard input.
    pub(crate) fn read_text(&mut self, path: &Path) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let most = 4 * 1024 * 1024;
        if path == Path::new("-") {
            self.world.stdin.by_ref().take(most).read_to_end(&mut bytes)?;
        } else {
            let unreadable = |error: std::io::Error| SecretFileError::Read {
                path: path.display().to_string(),
                why: error.kind().to_string(),
            };
            let file = std::fs::File::open(path).map_err(unreadable)?;
            file.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
        }
        String::from_utf8(bytes).map_err(|_| {
            let what = format!("`{}` is not text", path.display());
            Failure::new("file", exit::FAILED, what, "check that this is the file you mean")
        })
    }

    /// A secret from a file; `-` is standard input.
    pub(crate) fn read_secret(&mut self, path: &Path) -> Result<SecretText, Failure> {
        if path == Path::new("-") {
            return Ok(secret::read_from(&mut self.world.stdin, "standard input")?);
        }
        Ok(secret::read_file(path)?)
    }

    /// A secret typed without echo; `flag` is what to use where nobody can type.
    pub(crate) fn type_secret(&mut self, question: &str, flag: &str) -> Result<SecretText, Failure> {
        self.may_ask(flag)?;
        prompt::secret(self.world, question)
    }

    /// Fails where nobody can answer a question.
    pub(crate) fn may_ask(&self, flag: &str) -> Result<(), Failure> {
        if self.world.terminal.stdin && !self.globals.no_input {
            return Ok(());
        }
        Err(Failure::usage(
            format!("{flag} is missing, and nobody can be asked"),
            format!("give {flag}"),
        ))
    }

    /// Asks before something that cannot be undone.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<(), Failure> {
        if self.globals.yes || self.globals.curl {
            return Ok(());
        }
        self.may_ask("--yes")?;
        if prompt::yes(self.world, question)? {
            return Ok(());
        }
        self.say("nothing was done")?;
        Err(Failure::Quiet(exit::FAILED))
    }

    /// Asks for a number to be typed before something that ends many things.
    pub(crate) fn confirm_count(&mut self, what: &str, count: i64) -> Result<(), Failure> {
        if self.globals.yes {
            return Ok(());
        }
        self.may_ask("--yes")?;
        let typed = prompt::line(self.world, &format!("{what} Type {count} to go on:"))?;
        if typed == count.to_string() {
            return Ok(());
        }
        self.say("nothing was done")?;
        Err(Failure::Quiet(exit::FAILED))
    }

    /// Where the login for an address is kept.
    pub(crate) fn login_file(&self) -> Result<PathBuf, Failure> {
        let address = parse_address(self.globals.addr.as_deref().unwrap_or(ADDR))?.to_string();
        let name: String = address
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() || letter == '.' {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        let profile = self.world.profile().ok_or_else(|| {
            let fix = "set HOME or XDG_CONFIG_HOME, or use --key-file or --token-file";
            Failure::new("no_profile", exit::FAILED, "there is no place for your files", fix)
        })?;
        Ok(profile.join(format!("login-{name}")))
    }

    fn stored_login(&self) -> Result<Option<SecretText>, Failure> {
        let Ok(path) = self.login_file() else { return Ok(None) };
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(secret::read_file(&path)?))
    }
}

pub(super) fn parse_address(text: &str) -> Result<Address, Failure> {
    text.parse()
        .map_err(|error| Failure::usage(format!("{error}"), "correct --addr, --admin-addr or DEKEYS_ADDR"))
}
