//! The simulated rail: real signatures, pretended money. For test networks only; its transaction hashes begin with
//! the bytes of `test`, so that nobody takes one for a chain's.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::authorization::{Authorization, lower};
use super::error::PaymentError;
use super::exact::{Offered, reread};
use super::ledger::{Entered, Ledger, LedgerError, Transfer};
use super::rail::{Answer, Find, PaymentRail, Settle, Verify};
use super::terms::Terms;
use crate::base::canonical::Canonical;
use crate::base::time::{Clock, Timestamp, Ttl};
use crate::model::payment::Purchase;

/// How long after an authorization's end its absence from the books is final: clocks of instances may differ.
const MARGIN: Ttl = Ttl::from_secs(30);

/// Trouble on demand: each number says how many of the next calls it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Verifications that call the payment invalid.
    pub fail_verify: u32,
    /// Settlements that are refused; nothing moves.
    pub fail_settle: u32,
    /// Settlements whose answer is lost: the money moves, the answer is [`Settle::Unknown`].
    pub lose_answer: u32,
    /// Calls of any kind that do not reach the rail: nothing happens, the answer is unknown.
    pub unreachable: u32,
    /// How long every call takes.
    pub slow: Ttl,
}

/// A rail that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Real money cannot be simulated.
    #[error("the simulated rail takes test networks only, `{0}` is not known as one")]
    RealNetwork(String),
    /// The terms are wrong.
    #[error(transparent)]
    Terms(#[from] PaymentError),
    /// The ledger cannot be used.
    #[error("{0}")]
    Ledger(String),
}

/// A rail whose truth is a file that several instances may share. Clones share their faults.
#[derive(Clone)]
pub struct SimRail {
    books: Arc<Books>,
    faults: Arc<Mutex<Faults>>,
}

struct Books {
    ledger: Ledger,
    terms: Terms,
    clock: Arc<dyn Clock>,
}

impl SimRail {
    /// Opens the ledger at `path`, or begins it, for the token and network of `terms`.
    ///
    /// # Errors
    /// [`SimError::RealNetwork`] unless the network is known to be a test network.
    pub fn open(path: &Path, terms: &Terms, clock: Arc<dyn Clock>) -> Result<Self, SimError> {
        terms.check()?;
        if !terms.is_test_network() {
            return Err(SimError::RealNetwork(terms.network.clone()));
        }
        let asset = lower(&terms.domain()?.contract);
        let ledger = Ledger::open(path, &terms.network, &asset).map_err(|error| SimError::Ledger(error.to_string()))?;
        let terms = terms.clone();
        Ok(Self {
            books: Arc::new(Books { ledger, terms, clock }),
            faults: Arc::default(),
        })
    }

    /// Sets the trouble to come; what was set before is forgotten.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// The trouble still to come.
    pub fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a wallet has, in atomic units. Every wallet begins with 1.00 USDC.
    ///
    /// # Errors
    /// [`SimError::Ledger`] when the file cannot be read.
    pub fn balance(&self, wallet: &str) -> Result<i64, SimError> {
        let balance = self.books.ledger.balance(&wallet.to_ascii_lowercase());
        balance.map_err(|error| SimError::Ledger(error.to_string()))
    }

    /// Waits as long as it is set, then does `work` where it may block.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Books) -> T + Send + 'static) -> Result<T, String> {
        let slow = self.faults().slow;
        if slow > Ttl::default() {
            tokio::time::sleep(slow.to_std()).await;
        }
        if self.befalls(|faults| &mut faults.unreachable) {
            return Err("the rail does not answer".to_owned());
        }
        let books = Arc::clone(&self.books);
        let done = tokio::task::spawn_blocking(move || work(&books)).await;
        done.map_err(|_| "the rail broke off".to_owned())
    }

    /// Takes one of a kind of trouble, if some is left.
    fn befalls(&self, kind: impl FnOnce(&mut Faults) -> &mut u32) -> bool {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let left = kind(&mut faults);
        let any = *left > 0;
        *left = left.saturating_sub(1);
        any
    }
}

impl PaymentRail for SimRail {
    fn verify<'a>(&'a self, offered: &'a Offered) -> Answer<'a, Verify> {
        Box::pin(async move {
            if self.befalls(|faults| &mut faults.fail_verify) {
                return Verify::Invalid("unexpected_verify_error".to_owned());
            }
            let offered = offered.clone();
            self.work(move |books| books.verify(&offered))
                .await
                .unwrap_or_else(Verify::Unknown)
        })
    }

    fn settle<'a>(&'a self, offered: &'a Offered) -> Answer<'a, Settle> {
        Box::pin(async move {
            if self.befalls(|faults| &mut faults.fail_settle) {
                return Settle::Refused("unexpected_settle_error".to_owned());
            }
            let offered = offered.clone();
            let settled = self
                .work(move |books| books.settle(&offered))
                .await
                .unwrap_or_else(Settle::Unknown);
            if matches!(settled, Settle::Done { .. }) && self.befalls(|faults| &mut faults.lose_answer) {
                return Settle::Unknown("the rail's answer was lost".to_owned());
            }
            settled
        })
    }

    fn find<'a>(&'a self, purchase: &'a Purchase, now: Timestamp) -> Answer<'a, Find> {
        Box::pin(async move {
            let purchase = purchase.clone();
            self.work(move |books| books.find(&purchase, now))
                .await
                .unwrap_or_else(Find::Unknown)
        })
    }

    fn name(&self) -> &'static str {
        "sim"
    }

    fn simulated(&self) -> bool {
        true
    }

    fn sim(&self) -> Option<&SimRail> {
        Some(self)
    }
}

const INVALID_STATE: &str = "invalid_transaction_state";
const TOO_LATE: &str = "invalid_exact_evm_payload_authorization_valid_before";
const TOO_POOR: &str = "insufficient_funds";

impl Books {
    fn verify(&self, offered: &Offered) -> Verify {
        let authorization = match self.authorization(offered) {
            Ok(authorization) => authorization,
            Err(reason) => return Verify::Invalid(reason),
        };
        if !self.in_time(&authorization) {
            return Verify::Invalid(TOO_LATE.to_owned());
        }
        let known = self.ledger.find(&offered.payer, &offered.nonce);
        let known = known.and_then(|found| Ok((found, self.ledger.balance(&offered.payer)?)));
        match known {
            Err(error) => Verify::Unknown(broken(&error)),
            Ok((Some(_), _)) => Verify::Invalid(INVALID_STATE.to_owned()),
            Ok((None, balance)) if balance < offered.amount => Verify::Invalid(TOO_POOR.to_owned()),
            Ok((None, _)) => Verify::Valid {
                payer: offered.payer.clone(),
            },
        }
    }

    fn settle(&self, offered: &Offered) -> Settle {
        let authorization = match self.authorization(offered) {
            Ok(authorization) => authorization,
            Err(reason) => return Settle::Refused(reason),
        };
        match self
            .ledger
            .enter(self.transfer(offered), || self.in_time(&authorization))
        {
            Ok(Entered::Done(transfer)) => Settle::Done {
                transaction: transfer.transaction,
            },
            Ok(Entered::Used) => Settle::Refused(INVALID_STATE.to_owned()),
            Ok(Entered::Late) => Settle::Refused(TOO_LATE.to_owned()),
            Ok(Entered::Poor) => Settle::Refused(TOO_POOR.to_owned()),
            Err(error) => Settle::Unknown(broken(&error)),
        }
    }

    fn find(&self, purchase: &Purchase, now: Timestamp) -> Find {
        if purchase.network != self.terms.network || !purchase.asset.eq_ignore_ascii_case(&self.terms.asset) {
            return Find::Unknown("the purchase is of another network or token".to_owned());
        }
        match self.ledger.find(&purchase.payer, &purchase.nonce) {
            Err(error) => Find::Unknown(broken(&error)),
            // A nonce pays once: if it paid for something else, it will not pay for this.
            Ok(Some(found)) if found.pay_to != purchase.pay_to || found.amount != purchase.amount => Find::NotSettled,
            Ok(Some(found)) => Find::Settled {
                transaction: found.transaction,
            },
            Ok(None) if now >= purchase.valid_before.plus(MARGIN) => Find::NotSettled,
            Ok(None) => Find::Unknown("it is not in the ledger, and may still be entered".to_owned()),
        }
    }

    /// What was signed; the offer's own words count only where they agree.
    fn authorization(&self, offered: &Offered) -> Result<Authorization, String> {
        let signed = reread(&offered.payload, &self.terms).map_err(|error| error.reason().to_owned())?;
        let agrees = lower(&signed.from) == offered.payer
            && lower(&signed.to) == offered.pay_to
            && signed.nonce.to_string() == offered.nonce
            && i64::try_from(signed.value) == Ok(offered.amount);
        agrees.then_some(signed).ok_or_else(|| "invalid_payload".to_owned())
    }

    fn in_time(&self, authorization: &Authorization) -> bool {
        self.clock.now().as_secs().unsigned_abs() < authorization.valid_before
    }

    fn transfer(&self, offered: &Offered) -> Transfer {
        Transfer {
            network: offered.network.clone(),
            asset: offered.asset.clone(),
            payer: offered.payer.clone(),
            nonce: offered.nonce.clone(),
            pay_to: offered.pay_to.clone(),
            amount: offered.amount,
            transaction: transaction(offered),
            at: self.clock.now(),
        }
    }
}

/// `0x`, the bytes of `test`, and 28 bytes of the digest of what is settled: the same payment, the same hash.
fn transaction(offered: &Offered) -> String {
    let digest = Canonical::new("dekeys.sim.transaction.v1")
        .text(&offered.network)
        .text(&offered.asset)
        .text(&offered.payer)
        .text(&offered.nonce)
        .digest();
    let digits = data_encoding::HEXLOWER.encode(digest.as_bytes());
    format!("0x74657374{}", digits.get(..56).unwrap_or(&digits))
}

fn broken(error: &LedgerError) -> String {
    tracing::error!(%error, "the simulated rail's ledger cannot be used");
    "the ledger cannot be used".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::canonical::Digest;
    use crate::base::id::{GrantId, PurchaseId};
    use crate::base::money::{Currency, Money};
    use crate::base::random::SeededRandom;
    use crate::base::secret::SecretBytes;
    use crate::base::time::ManualClock;
    use crate::model::payment::PurchaseState;
    use crate::payment::{Extras, Resource, read, required, sign_exact};

    const NOW: Timestamp = Timestamp::from_secs(1_763_668_267);

    struct Scene {
        folder: tempfile::TempDir,
        clock: Arc<ManualClock>,
        rail: SimRail,
        random: SeededRandom,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at(NOW));
            let rail = SimRail::open(
                &folder.path().join("ledger"),
                &terms(),
                Arc::<ManualClock>::clone(&clock),
            )
            .unwrap();
            Self {
                folder,
                clock,
                rail,
                random: SeededRandom::new(7),
            }
        }

        fn pay(&self, atomic: i64) -> Offered {
            let price = Money::new(atomic, Currency::Usdc);
            let resource = Resource {
                url: "http://127.0.0.1/".to_owned(),
                description: String::new(),
            };
            let asked = required(&terms(), price, &resource, None, &Extras::default()).body;
            let key = SecretBytes::new(vec![0x11; 32]);
            let header = sign_exact(&key, &asked, price, None, self.clock.now(), &self.random).unwrap();
            read(&[&header], &terms(), price, self.clock.now()).unwrap()
        }

        fn purchase(&self, offered: &Offered) -> Purchase {
            Purchase {
                id: PurchaseId::new(NOW, &self.random),
                network: offered.network.clone(),
                asset: offered.asset.clone(),
                payer: offered.payer.clone(),
                nonce: offered.nonce.clone(),
                pay_to: offered.pay_to.clone(),
                amount: offered.amount,
                valid_before: offered.valid_before,
                request: Digest::of(b""),
                payload: offered.payload.clone(),
                state: PurchaseState::Settling,
                grant: GrantId::new(NOW, &self.random),
                transaction: None,
                last_error: None,
                next_at: None,
                created: NOW,
                settle_first: false,
            }
        }
    }

    fn terms() -> Terms {
        Terms::base_sepolia("0x90F79bf6EB2c4f870365E785982E1f101E93b906")
    }

    fn done(settled: Settle) -> String {
        match settled {
            Settle::Done { transaction } => transaction,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn real_networks_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        for network in ["eip155:1", "eip155:8453", "eip155:999999999"] {
            let terms = Terms {
                network: network.to_owned(),
                ..terms()
            };
            let opened = SimRail::open(&folder.path().join("ledger"), &terms, Arc::clone(&clock));
            assert!(matches!(opened, Err(SimError::RealNetwork(named)) if named == network));
        }
        assert!(!folder.path().join("ledger").exists());
    }

    #[tokio::test]
    async fn settling_twice_moves_the_money_once_also_through_another_instance() {
        let scene = Scene::new();
        let offered = scene.pay(10_000);
        assert_eq!(
            scene.rail.verify(&offered).await,
            Verify::Valid {
                payer: offered.payer.clone()
            }
        );
        let transaction = done(scene.rail.settle(&offered).await);
        assert!(
            transaction.starts_with("0x74657374") && transaction.len() == 66,
            "{transaction}"
        );
        let clock = Arc::<ManualClock>::clone(&scene.clock);
        let other = SimRail::open(&scene.folder.path().join("ledger"), &terms(), clock).unwrap();
        assert_eq!(done(other.settle(&offered).await), transaction);
        assert_eq!(other.balance(&offered.payer).unwrap(), 990_000);
        assert_eq!(other.balance(&offered.pay_to).unwrap(), 1_010_000);
        assert!(
            matches!(other.verify(&offered).await, Verify::Invalid(_)),
            "a used nonce does not verify"
        );
    }

    #[tokio::test]
    async fn who_has_too_little_is_refused() {
        let scene = Scene::new();
        done(scene.rail.settle(&scene.pay(600_000)).await);
        let second = scene.pay(600_000);
        assert_eq!(scene.rail.verify(&second).await, Verify::Invalid(TOO_POOR.to_owned()));
        assert_eq!(scene.rail.settle(&second).await, Settle::Refused(TOO_POOR.to_owned()));
        assert_eq!(scene.rail.balance(&second.payer).unwrap(), 400_000);
    }

    #[tokio::test]
    async fn an_offer_that_says_other_than_what_was_signed_is_refused() {
        let scene = Scene::new();
        let good = scene.pay(10_000);
        let others = [
            Offered {
                payer: good.pay_to.clone(),
                ..good.clone()
            },
            Offered {
                amount: 9_999,
                ..good.clone()
            },
            Offered {
                nonce: good.nonce.replace(['1', '2'], "3"),
                ..good.clone()
            },
            Offered {
                pay_to: good.payer.clone(),
                ..good.clone()
            },
            Offered {
                payload: "{}".to_owned(),
                ..good.clone()
            },
        ];
        for other in others {
            assert!(
                matches!(scene.rail.verify(&other).await, Verify::Invalid(_)),
                "{other:?}"
            );
            assert!(
                matches!(scene.rail.settle(&other).await, Settle::Refused(_)),
                "{other:?}"
            );
        }
        assert_eq!(scene.rail.balance(&good.payer).unwrap(), 1_000_000);
    }

    #[tokio::test]
    async fn a_lost_answer_is_found_in_the_ledger() {
        let scene = Scene::new();
        let offered = scene.pay(10_000);
        scene.rail.set_faults(Faults {
            lose_answer: 1,
            ..Faults::default()
        });
        assert!(matches!(scene.rail.settle(&offered).await, Settle::Unknown(_)));
        let found = scene.rail.find(&scene.purchase(&offered), scene.clock.now()).await;
        assert_eq!(
            found,
            Find::Settled {
                transaction: done(scene.rail.settle(&offered).await)
            }
        );
        assert_eq!(scene.rail.balance(&offered.payer).unwrap(), 990_000);
    }

    #[tokio::test]
    async fn what_was_not_settled_is_unknown_until_its_end_and_then_never_settles() {
        let scene = Scene::new();
        let offered = scene.pay(10_000);
        let purchase = scene.purchase(&offered);
        scene.clock.advance(Ttl::from_secs(120));
        assert!(matches!(
            scene.rail.find(&purchase, scene.clock.now()).await,
            Find::Unknown(_)
        ));
        assert_eq!(scene.rail.settle(&offered).await, Settle::Refused(TOO_LATE.to_owned()));
        assert_eq!(scene.rail.verify(&offered).await, Verify::Invalid(TOO_LATE.to_owned()));
        scene.clock.advance(MARGIN);
        assert_eq!(scene.rail.find(&purchase, scene.clock.now()).await, Find::NotSettled);
    }

    #[tokio::test]
    async fn a_nonce_that_paid_for_something_else_pays_for_nothing_more() {
        let scene = Scene::new();
        let offered = scene.pay(10_000);
        done(scene.rail.settle(&offered).await);
        let other = Purchase {
            amount: 20_000,
            ..scene.purchase(&offered)
        };
        assert_eq!(scene.rail.find(&other, scene.clock.now()).await, Find::NotSettled);
        let elsewhere = Purchase {
            network: "eip155:31337".to_owned(),
            ..scene.purchase(&offered)
        };
        assert!(matches!(
            scene.rail.find(&elsewhere, scene.clock.now()).await,
            Find::Unknown(_)
        ));
    }

    #[tokio::test]
    async fn faults_befall_as_many_calls_as_they_say() {
        let scene = Scene::new();
        let offered = scene.pay(10_000);
        let slow = Ttl::from_millis(20);
        scene.rail.set_faults(Faults {
            fail_verify: 1,
            fail_settle: 1,
            unreachable: 1,
            slow,
            ..Faults::default()
        });
        assert!(matches!(scene.rail.verify(&offered).await, Verify::Invalid(_)));
        let began = std::time::Instant::now();
        assert!(matches!(scene.rail.verify(&offered).await, Verify::Unknown(_)));
        assert!(began.elapsed() >= slow.to_std());
        assert!(matches!(scene.rail.settle(&offered).await, Settle::Refused(_)));
        assert_eq!(scene.rail.balance(&offered.payer).unwrap(), 1_000_000);
        assert_eq!(
            scene.rail.faults(),
            Faults {
                slow,
                ..Faults::default()
            }
        );
        done(scene.rail.settle(&offered).await);
    }

    #[tokio::test]
    async fn without_its_ledger_the_rail_knows_nothing() {
        let scene = Scene::new();
        let offered = scene.pay(10_000);
        let purchase = scene.purchase(&offered);
        std::fs::remove_file(scene.folder.path().join("ledger")).unwrap();
        assert!(matches!(scene.rail.verify(&offered).await, Verify::Unknown(_)));
        assert!(matches!(scene.rail.settle(&offered).await, Settle::Unknown(_)));
        let late = purchase.valid_before.plus(Ttl::from_mins(60));
        assert!(matches!(scene.rail.find(&purchase, late).await, Find::Unknown(_)));
    }
}
