//! The store's conformance suite: one list of checks, run on SQLite always and on PostgreSQL when
//! `DEKEYS_TEST_POSTGRES` names a server. Each check gets a database of its own.

mod catalog;
mod durable;
mod lost_answers;
mod orphans;
mod reseal;
mod resolves;
mod rotations;
mod rows;
mod samples;
mod webhooks;
mod whole;

use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use dekeys::store::Store;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

macro_rules! conformance {
    ($($area:ident: $($check:ident)*;)*) => {
        mod on_sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    let place = tempfile::tempdir().unwrap();
                    let store = super::sqlite(&place).await;
                    super::$area::$check(store.clone()).await;
                    store.close().await;
                }
            )*)*
        }
        mod on_postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    let Some(database) = super::Database::create().await else { return };
                    let store = database.store().await;
                    super::$area::$check(store.clone()).await;
                    store.close().await;
                    database.drop().await;
                }
            )*)*
        }
    };
}

conformance! {
    rows:
        an_instance_is_fixed_once
        the_keyring_is_replaced_and_wraps_are_promised_once
        signing_keys_are_kept_in_order
        the_clock_never_goes_back
        principals_are_found_by_everything_they_have
        manifests_are_pinned_and_one_root_is_current
        one_version_of_a_policy_is_active
        a_decided_approval_stays_decided_and_nobody_votes_twice
        grants_come_back_as_they_went_in
        grants_keep_to_their_states grants_nobody_makes_any_more_are_found
        a_grant_that_waits_is_found_by_its_request
        credentials_keep_to_their_states
        keys_that_should_be_dead_are_found
        leases_are_counted
        a_purchase_is_claimed_once
        payers_are_counted
        keys_held_unpaid_are_counted
        the_ledger_is_summed_and_never_changed
        what_keys_may_cost_is_set_aside_but_for_those_never_made
        what_was_purchased_and_credited_is_summed
        a_payer_finds_what_it_paid_for
        credit_is_owed_once_and_taken_for_a_grant
        nonces_keys_and_tokens_once
        receipts_and_counts
        text_with_a_nul_is_refused;
    rotations:
        a_key_has_one_rotation_until_it_has_a_successor
        rotations_keep_to_their_states_and_come_due
        shared_keys_are_found_by_their_leases
        keys_that_are_not_dead_are_handed_over;
    orphans:
        an_orphan_is_kept_once
        a_listed_key_is_claimed_by_name_or_id_of_its_incarnation
        comparisons_are_taken_by_one_instance_at_a_time
        a_key_without_a_name_has_its_turn
        what_waits_for_a_vendor_is_woken_together
        leases_are_chosen_and_ended_together;
    reseal:
        values_of_older_keys_are_found_and_replaced_once;
    durable:
        events_hang_on_one_chain
        a_release_needs_its_event
        what_is_not_committed_is_undone
        events_are_listed_by_what_they_are_about
        what_ended_early_is_read_by_place_and_time
        the_tree_grows_by_compare_and_set
        a_reader_sees_one_moment_and_does_not_wait
        writers_take_turns
        followers_hear_of_every_commit
        migrations_run_once;
    whole:
        histories_are_kept_and_the_epoch_rises
        what_is_dumped_is_loaded_whole
        a_whole_database_is_copied_into_an_empty_one;
    webhooks:
        a_webhook_has_one_holder
        deliveries_are_queued_once_and_in_the_order_of_the_log;
    resolves:
        a_key_is_made_awaited_and_released
        a_held_key_is_adopted
        limits_hold_among_many_at_once
        a_revoked_grant_is_over_for_those_who_wait
        a_revoked_lease_ends_alone
        what_ends_by_time_is_called_expired
        an_expired_lease_is_replaced
        refusals_are_on_record
        one_bad_ask_does_not_fail_the_batch
        a_full_lane_is_busy_and_a_stopped_writer_says_so
        a_clock_far_behind_refuses;
}

async fn sqlite(place: &tempfile::TempDir) -> Store {
    let store = Store::open(&sqlite_url(place)).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn sqlite_url(place: &tempfile::TempDir) -> String {
    format!("sqlite://{}/dekeys.db", place.path().display())
}

/// A PostgreSQL database of one check.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// `None`, said loudly, when no server is given.
    pub(crate) async fn create() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(server) = std::env::var_os("DEKEYS_TEST_POSTGRES") else {
            static SAID: Once = Once::new();
            // Past the test harness, which keeps what passing tests print.
            SAID.call_once(|| {
                let words = "SKIPPED all of PostgreSQL: set DEKEYS_TEST_POSTGRES=postgres://USER@HOST/DATABASE";
                writeln!(std::io::stderr(), "{words}").unwrap();
            });
            return None;
        };
        let server = server.into_string().unwrap();
        let name = format!(
            "dekeys_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let database = Self { server, name };
        database.on_server(format!("CREATE DATABASE {}", database.name)).await;
        Some(database)
    }

    async fn store(&self) -> Store {
        let store = Store::open(&self.url()).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    pub(crate) fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    async fn on_server(&self, text: String) {
        let mut server = PgConnection::connect(&self.server).await.unwrap();
        sqlx::query(AssertSqlSafe(text)).execute(&mut server).await.unwrap();
    }

    pub(crate) async fn drop(self) {
        self.on_server(format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await;
    }
}
