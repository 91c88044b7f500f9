//! Configuration: which layer wins, where a value came from, and what is refused.

use std::collections::HashMap;
use std::path::PathBuf;

use dekeys::base::time::Ttl;
use dekeys::config::{AdminListen, ConfigErrors, Flags, KEYS, Loaded, LogFormat, Places, Rail, load_from};

const ACCOUNT: &str = "0x857b06519E91e3A54538791bDbb0E22373e36b66";

/// A machine of its own: a file, an environment and default places, all in a temporary directory.
struct Machine {
    dir: tempfile::TempDir,
    env: HashMap<String, String>,
    flags: Flags,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        Self {
            dir,
            env: HashMap::new(),
            flags: Flags::default(),
        }
    }

    fn file(self, text: &str) -> Self {
        std::fs::write(self.path("dekeys.toml"), text).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        let places = Places {
            config: self.path("dekeys.toml"),
            state: self.path("state"),
        };
        load_from(&self.flags, &|name| self.env.get(name).cloned(), &places)
    }

    fn refused(&self) -> Vec<(String, String, String)> {
        let errors = self.load().unwrap_err().0;
        errors
            .into_iter()
            .map(|error| (error.key, error.message, error.fix))
            .collect()
    }
}

fn origin(loaded: &Loaded, key: &str) -> (String, String) {
    let row = loaded.origins.iter().find(|row| row.key == key).unwrap();
    (row.value.clone(), row.origin.clone())
}

#[test]
fn without_anything_the_defaults_hold() {
    let machine = Machine::new();
    let loaded = machine.load().unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:8402");
    assert_eq!(config.admin_listen, AdminListen::Tcp("127.0.0.1:8403".parse().unwrap()));
    assert_eq!(config.data_dir, machine.path("state"));
    assert_eq!(
        config.database_url,
        format!("sqlite://{}", machine.path("state/dekeys.db").display())
    );
    assert_eq!((config.log.format, config.payment.rail), (LogFormat::Auto, Rail::Off));
    assert_eq!(
        (config.limits.body, config.limits.header_timeout),
        (262_144, Ttl::from_secs(10))
    );
    assert_eq!(loaded.origins.len(), KEYS.len());
    assert!(loaded.origins.iter().all(|row| row.origin == "default"));
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_default() {
    let listen = ["127.0.0.1:1001", "127.0.0.1:1002", "127.0.0.1:1003"];
    let places = ["default", "file", "environment DEKEYS_LISTEN", "flag --listen"];
    for given in 0..8u8 {
        let mut machine = Machine::new();
        let mut expected = (3, "127.0.0.1:8402");
        if given & 1 != 0 {
            machine = machine.file(&format!("workers = 2\nlisten = \"{}\"\n", listen[0]));
            expected = (0, listen[0]);
        }
        if given & 2 != 0 {
            machine = machine.env("DEKEYS_LISTEN", listen[1]);
            expected = (1, listen[1]);
        }
        if given & 4 != 0 {
            machine.flags.listen = Some(listen[2].to_owned());
            expected = (2, listen[2]);
        }
        let loaded = machine.load().unwrap();
        let place = match expected.0 {
            0 => format!("file {}:2", machine.path("dekeys.toml").display()),
            3 => places[0].to_owned(),
            other => places[other + 1].to_owned(),
        };
        assert_eq!(loaded.config.listen.to_string(), expected.1, "{given}");
        assert_eq!(origin(&loaded, "listen"), (expected.1.to_owned(), place), "{given}");
    }
}

#[test]
fn every_key_is_read_from_the_file_the_environment_and_flags() {
    let values: HashMap<&str, &str> = HashMap::from([
        ("data_dir", "/tmp/dekeys-data"),
        ("listen", "[::1]:9000"),
        ("admin_listen", "unix:/run/dekeys.sock"),
        ("database_url", "postgres://u:s3cret@db/dekeys"),
        ("unseal_key_file", "/k"),
        ("unseal_passphrase_file", "/p"),
        ("public_url", "https://dekeys.example.org/"),
        ("checkpoint_copy", "/c"),
        ("mark_file", "/m"),
        ("egress_private", "10.1.0.0/16,fd00::/8"),
        ("reap_interval", "2m"),
        ("workers", "3"),
        ("log.format", "json"),
        ("log.level", "info,dekeys=debug"),
        ("payment.rail", "sim"),
        ("payment.network", "eip155:1"),
        ("payment.asset", ACCOUNT),
        ("payment.asset_name", "USD Coin"),
        ("payment.asset_version", "1"),
        ("payment.pay_to", ACCOUNT),
        ("payment.max_timeout", "5m"),
        ("payment.ledger", "/l"),
        ("payment.facilitator_url", "https://facilitator.example.org/x402"),
        ("payment.facilitator_key_file", "/f"),
        ("payment.rpc_url", "https://rpc.example.org/s3cret"),
        ("payment.pay_within", "3h"),
        ("payment.trusted_after", "3"),
        ("payment.strike", "2m"),
        ("payment.held_keys", "7"),
        ("backup.folder", "/b"),
        ("backup.every", "1h"),
        ("backup.verify_every", "2m"),
        ("backup.keep", "3"),
        ("limits.body", "1 MiB"),
        ("limits.header", "8 KiB"),
        ("limits.header_timeout", "5s"),
        ("limits.body_timeout", "6s"),
        ("limits.send_timeout", "6m"),
        ("limits.request_timeout", "7s"),
        ("limits.forward_timeout", "8m"),
        ("limits.forward_idle", "11m"),
        ("rotation.every", "7days"),
        ("rotation.grace", "16m"),
        ("limits.max_connections", "9"),
    ]);
    for key in KEYS.iter().filter(|key| key.name != "database_url_file") {
        let value = values
            .get(key.name)
            .unwrap_or_else(|| panic!("no value for {}", key.name));
        let shown = value.replace("s3cret", "***");
        let in_file = match key.name.split_once('.') {
            Some((table, name)) => format!("[{table}]\n{name} = \"{value}\""),
            None => format!("{} = \"{value}\"", key.name),
        };
        let mut by_flag = Machine::new();
        by_flag.flags.set = vec![(key.name.to_owned(), (*value).to_owned())];
        let machines = [
            Machine::new().file(&in_file),
            Machine::new().env(&key.env(), value),
            by_flag,
        ];
        for mut machine in machines {
            // The one pair that must come together.
            if key.name == "payment.rail" {
                machine = machine.env("DEKEYS_PAYMENT_PAY_TO", ACCOUNT);
            }
            let loaded = machine.load().unwrap();
            let (value, origin) = origin(&loaded, key.name);
            assert_eq!(value, shown, "{}", key.name);
            assert_ne!(origin, "default", "{}", key.name);
        }
    }
}

#[test]
fn passwords_are_never_shown() {
    let machine = Machine::new().env("DEKEYS_DATABASE_URL", "postgres://dekeys:s3cret@db/dekeys");
    let loaded = machine.load().unwrap();
    assert!(loaded.config.database_url.contains("s3cret"), "the store needs it");
    assert_eq!(origin(&loaded, "database_url").0, "postgres://dekeys:***@db/dekeys");
    assert!(!format!("{loaded:?}").contains("s3cret"));
    let machine = Machine::new().env("DEKEYS_DATABASE_URL", "mysql://dekeys:s3cret@db/dekeys");
    assert!(!machine.load().unwrap_err().to_string().contains("s3cret"));
}

#[test]
fn an_address_with_a_password_may_stand_in_a_file() {
    let machine = Machine::new();
    std::fs::write(machine.path("url"), "postgres://u:s3cret@db/dekeys\n").unwrap();
    let path = machine.path("url").display().to_string();
    let machine = machine.env("DEKEYS_DATABASE_URL_FILE", &path);
    assert_eq!(
        machine.load().unwrap().config.database_url,
        "postgres://u:s3cret@db/dekeys"
    );
    let both = machine.env("DEKEYS_DATABASE_URL", "postgres://u@db/other");
    assert_eq!(both.refused()[0].0, "database_url_file");
    let missing = Machine::new().env("DEKEYS_DATABASE_URL_FILE", "/does/not/exist");
    assert_eq!(missing.refused()[0].0, "database_url_file");
}

#[test]
fn unknown_keys_are_told_with_the_nearest_one_and_their_line() {
    let machine = Machine::new().file("listne = \"127.0.0.1:1\"\n\n[payment]\nrial = \"sim\"\n[bananas]\nx = 1\n");
    let errors = machine.load().unwrap_err();
    let told: Vec<(&str, &str)> = errors
        .0
        .iter()
        .map(|error| (error.key.as_str(), error.fix.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("bananas", "remove it; `dekeys config show` lists every key"),
            ("listne", "did you mean `listen`?"),
            ("payment.rial", "did you mean `payment.rail`?"),
        ]
    );
    assert!(errors.0[1].origin.ends_with("dekeys.toml:1") && errors.0[2].origin.ends_with("dekeys.toml:4"));
    let mut machine = Machine::new();
    machine.flags.set = vec![("payment.rial".to_owned(), "sim".to_owned())];
    assert_eq!(machine.refused()[0].2, "did you mean `payment.rail`?");
}

#[test]
fn a_secret_as_a_value_is_refused_with_the_file_key_and_not_repeated() {
    let machine = Machine::new().file("unseal_passphrase = \"correct horse\"\n");
    let (key, _, fix) = machine.refused().remove(0);
    assert_eq!(key, "unseal_passphrase");
    assert!(fix.contains("`unseal_passphrase_file`"), "{fix}");
    assert!(!machine.load().unwrap_err().to_string().contains("horse"));
}

#[test]
fn several_mistakes_are_told_at_once() {
    let machine = Machine::new()
        .file("workers = -1\negress_private = [1]\n[limits]\nbody = \"1 GiB\"\n[log]\nlevel = \"loud\"\n")
        .env("DEKEYS_ADMIN_LISTEN", "0.0.0.0:8403")
        .env("DEKEYS_PAYMENT_RAIL", "sim");
    let keys: Vec<String> = machine.refused().into_iter().map(|(key, _, _)| key).collect();
    assert_eq!(
        keys,
        [
            "egress_private",
            "admin_listen",
            "workers",
            "log.level",
            "limits.body",
            "payment.pay_to"
        ]
    );
    assert!(
        machine
            .refused()
            .iter()
            .all(|(_, message, fix)| !message.is_empty() && !fix.is_empty())
    );
}

#[test]
fn a_named_file_must_be_there_and_a_default_one_need_not() {
    let mut machine = Machine::new();
    assert!(machine.load().is_ok());
    machine.flags.config = Some(machine.path("none.toml"));
    assert!(machine.refused()[0].1.contains("none.toml"));
    let machine = Machine::new().env("DEKEYS_CONFIG", "/does/not/exist.toml");
    assert_eq!(machine.load().unwrap_err().0[0].origin, "environment DEKEYS_CONFIG");
    let machine = Machine::new().file("listen = ");
    let error = machine.load().unwrap_err().0.remove(0);
    assert!(
        error.message.starts_with("not TOML") && error.origin.ends_with("dekeys.toml:1"),
        "{error:?}"
    );
}

#[test]
fn the_data_directory_is_the_users_where_there_is_no_service_directory() {
    let machine = Machine::new().env("HOME", "/home/ada");
    std::fs::remove_dir(machine.path("state")).unwrap();
    assert_eq!(
        machine.load().unwrap().config.data_dir,
        PathBuf::from("/home/ada/.local/share/dekeys")
    );
    let relative = machine.env("XDG_DATA_HOME", "share");
    assert_eq!(
        relative.load().unwrap().config.data_dir,
        PathBuf::from("/home/ada/.local/share/dekeys")
    );
    let xdg = relative.env("XDG_DATA_HOME", "/data");
    assert_eq!(xdg.load().unwrap().config.data_dir, PathBuf::from("/data/dekeys"));
    let homeless = Machine::new();
    std::fs::remove_dir(homeless.path("state")).unwrap();
    assert_eq!(homeless.refused()[0].0, "data_dir");
    let told = homeless.env("DEKEYS_DATA_DIR", "/srv/dekeys").load().unwrap().config;
    assert_eq!(told.database_url, "sqlite:///srv/dekeys/dekeys.db");
}

#[test]
fn the_unseal_key_may_come_from_systemd() {
    let machine = Machine::new();
    let dir = machine.dir.path().display().to_string();
    let machine = machine.env("CREDENTIALS_DIRECTORY", &dir);
    assert_eq!(
        machine.load().unwrap().config.unseal_key_file,
        None,
        "there is no such credential"
    );
    std::fs::write(machine.path("unseal-key"), "x").unwrap();
    let loaded = machine.load().unwrap();
    assert_eq!(loaded.config.unseal_key_file, Some(machine.path("unseal-key")));
    assert_eq!(origin(&loaded, "unseal_key_file").1, "systemd credential");
    let named = machine.env("DEKEYS_UNSEAL_KEY_FILE", "/k");
    assert_eq!(named.load().unwrap().config.unseal_key_file, Some(PathBuf::from("/k")));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let loaded = Machine::new().env("DEKEYS_PUBLIC_URL", "").load().unwrap();
    assert_eq!(loaded.config.public_url, None);
    assert_eq!(origin(&loaded, "public_url").1, "default");
}

#[test]
fn the_default_that_is_told_is_the_one_that_holds() {
    let defaults = Machine::new().load().unwrap();
    for key in KEYS {
        let (shown, _) = origin(&defaults, key.name);
        let default = key.default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        if let Some(default) = default.filter(|default| !default.contains('`')) {
            assert_eq!(shown, default, "{}", key.name);
        }
    }
}
