//! Rows to keep. Each call makes another one.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use dekeys::base::canonical::Digest;
use dekeys::base::id::{
    ApprovalId, CredentialId, EventId, GrantId, IncarnationId, InstanceId, LeaseId, PrincipalId, PurchaseId, RootId,
};
use dekeys::base::random::{Random, SeededRandom};
use dekeys::base::time::{Timestamp, Ttl};
use dekeys::model::approval::{Approval, ApprovalState, Subject};
use dekeys::model::control::{Mac, Stored};
use dekeys::model::credential::{Credential, CredentialState};
use dekeys::model::credit::Credit;
use dekeys::model::event::Event;
use dekeys::model::grant::{Asked, Grant, GrantItem, GrantState};
use dekeys::model::incarnation::{Cause, Incarnation};
use dekeys::model::instance::{Instance, Mode};
use dekeys::model::lease::{Lease, LeaseState};
use dekeys::model::payment::{Purchase, PurchaseState};
use dekeys::model::policy::{PolicyState, PolicyVersion};
use dekeys::model::principal::{Principal, PrincipalKind, PublicKey};
use dekeys::model::root::{ManifestPin, Root};
use dekeys::model::scope::Name;
use dekeys::store::writer::ResolveAsk;

/// When the tests take place.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_763_668_267_123);

/// `NOW` and so many seconds.
pub(super) fn later(secs: i64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A source of ids that differ from each other and grow with time.
pub(super) struct Ids;

impl Random for Ids {
    fn fill(&self, bytes: &mut [u8]) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        SeededRandom::new(count).fill(bytes);
        // The tail of an id: the count where it decides the order.
        if let Some(id) = bytes.first_chunk_mut::<10>() {
            id[2..].copy_from_slice(&count.to_be_bytes());
            id[..2].fill(0);
        }
    }
}

pub(super) fn stored<T>(unverified: T) -> Stored<T> {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    Stored {
        unverified,
        mac: Mac([COUNT.fetch_add(1, Ordering::Relaxed); 32]),
    }
}

pub(super) fn public_key() -> PublicKey {
    PublicKey::from_bytes(dekeys::base::random::bytes(&Ids))
}

pub(super) fn instance() -> Instance {
    Instance {
        id: InstanceId::new(NOW, &Ids),
        incarnation: IncarnationId::new(NOW, &Ids),
        mode: Mode::Test,
        quorum: 2,
        solo: true,
        created: NOW,
    }
}

pub(super) fn incarnation() -> Stored<Incarnation> {
    stored(Incarnation {
        id: IncarnationId::new(NOW, &Ids),
        cause: Cause::Copied,
        parent: Some(IncarnationId::new(NOW, &Ids)),
        head: (7, [3; 32]),
        begun: NOW,
        reconciled: None,
        payments_from: later(120),
    })
}

pub(super) fn principal(named: &str, kind: PrincipalKind) -> Principal {
    Principal {
        id: PrincipalId::new(NOW, &Ids),
        name: name(named),
        kind,
        keys: vec![public_key(), public_key()],
        wallets: vec![format!("eip155:84532:0x{named}")],
        approver: true,
        disabled: false,
        created: NOW,
    }
}

pub(super) fn pin(vendor: &str) -> ManifestPin {
    ManifestPin {
        vendor: name(vendor),
        text: "name = \"v\" # ünïcode 'quoted' \"\n".to_owned(),
        pinned: NOW,
    }
}

pub(super) fn root(vendor: &str) -> Root {
    Root {
        id: RootId::new(NOW, &Ids),
        vendor: name(vendor),
        manifest: Digest::of(b"manifest"),
        base_url: Some("http://127.0.0.1:1/".to_owned()),
        params: vec![("region".to_owned(), "eu".to_owned())],
        current: true,
        created: NOW,
    }
}

pub(super) fn policy(named: &str, version: i64) -> PolicyVersion {
    PolicyVersion {
        name: name(named),
        version,
        text: format!("name = \"{named}\""),
        manifest: Digest::of(b"manifest"),
        prim_keys: vec![(name("prim"), vec![public_key()])],
        state: PolicyState::Active,
        approval: ApprovalId::new(NOW, &Ids),
        activated: NOW,
    }
}

pub(super) fn approval() -> Approval {
    Approval {
        id: ApprovalId::new(NOW, &Ids),
        subject: Subject::Grant {
            grant: GrantId::new(NOW, &Ids),
            summary: "one hour of chat".to_owned(),
            terms: Digest::of(b"terms"),
        },
        requester: PrincipalId::new(NOW, &Ids),
        reason: "because".to_owned(),
        approvers: vec![name("ada"), name("grace")],
        quorum: 2,
        state: ApprovalState::Pending,
        created: NOW,
        expires: later(3_600),
    }
}

pub(super) fn grant(policy: &str) -> Grant {
    Grant {
        id: GrantId::new(NOW, &Ids),
        principal: PrincipalId::new(NOW, &Ids),
        holder: Some(public_key()),
        payer: Some("eip155:84532:0xabc".to_owned()),
        items: vec![GrantItem {
            vendor: name("openai"),
            scopes: vec!["chat:write".parse().unwrap()],
            policy: name(policy),
            policy_version: 3,
            policy_digest: Digest::of(b"policy"),
        }],
        audience: vec![name("prim-infer")],
        max_resolves: 100,
        state: GrantState::Active,
        created: NOW,
        expires: later(3_600),
        reason: "to work".to_owned(),
        asked: Some(Asked {
            approval: ApprovalId::new(NOW, &Ids),
            life: Ttl::from_secs(900),
            price: Some("0.01 USDC".parse().unwrap()),
            request: Digest::of(b"request"),
            pay_by: Some(later(60)),
        }),
    }
}

pub(super) fn credential(grant: GrantId, state: CredentialState) -> Credential {
    Credential {
        id: CredentialId::new(NOW, &Ids),
        vendor: name("openai"),
        root: RootId::new(NOW, &Ids),
        grant,
        item: 0,
        name: "dk-aaaaaaaa-key-1".to_owned(),
        scopes: vec!["chat:write".parse().unwrap()],
        prim: None,
        lease: None,
        state,
        attempt: 1,
        vendor_key_id: None,
        vendor_expires: None,
        expires: later(900),
        next_at: Some(later(60)),
        first_failed: None,
        last_error: None,
        version: 1,
        created: NOW,
    }
}

pub(super) fn lease(grant: &Grant, state: LeaseState) -> Lease {
    Lease {
        id: LeaseId::new(NOW, &Ids),
        grant: grant.id,
        item: 0,
        prim: PrincipalId::new(NOW, &Ids),
        vendor: name("openai"),
        policy: grant.items[0].policy.clone(),
        credential: CredentialId::new(NOW, &Ids),
        state,
        resolves: 1,
        created: NOW,
        expires: later(900),
    }
}

pub(super) fn purchase(payer: &str, amount: i64) -> Purchase {
    let id = PurchaseId::new(NOW, &Ids);
    Purchase {
        id,
        network: "eip155:84532".to_owned(),
        asset: "0xusdc".to_owned(),
        payer: payer.to_owned(),
        nonce: format!("0x{id}"),
        pay_to: "0xme".to_owned(),
        amount,
        valid_before: later(300),
        request: Digest::of(b"request"),
        payload: "{}".to_owned(),
        state: PurchaseState::Claimed,
        grant: GrantId::new(NOW, &Ids),
        transaction: None,
        last_error: None,
        next_at: Some(later(60)),
        created: NOW,
        settle_first: false,
    }
}

pub(super) fn event(kind: &str, object: &str) -> Event {
    Event {
        id: EventId::new(NOW, &Ids),
        kind: kind.to_owned(),
        timestamp: NOW,
        livemode: false,
        actor: "pri_ada".to_owned(),
        object: object.to_owned(),
        data: serde_json::json!({ "note": "ä \u{0} 'x' \"y\" \\", "n": 1 }),
        request_id: None,
    }
}

/// A resolve of the grant's first item by `prim`.
pub(super) fn ask(grant: &Grant, prim: PrincipalId) -> ResolveAsk {
    ResolveAsk {
        grant: grant.id,
        item: 0,
        prim,
        vendor: name("openai"),
        policy: grant.items[0].policy.clone(),
        root: RootId::new(NOW, &Ids),
        scopes: grant.items[0].scopes.clone(),
        now: NOW,
        grant_expires: grant.expires,
        max_resolves: grant.max_resolves,
        lease_until: later(900),
        payers: vec![grant.principal.to_string()],
        rate: None,
        live_leases: None,
        known: None,
        nonce: None,
        revocation_ids: vec!["00".to_owned()],
        new_lease: LeaseId::new(NOW, &Ids),
        new_credential: CredentialId::new(NOW, &Ids),
        new_name: "dk-aaaaaaaa-key-1".to_owned(),
        event: EventId::new(NOW, &Ids),
        actor: prim.to_string(),
        livemode: false,
        request_id: None,
        forward: None,
    }
}

pub(super) fn credit(payer: &str, amount: i64) -> Credit {
    Credit {
        purchase: PurchaseId::new(NOW, &Ids),
        payer: payer.to_owned(),
        amount,
        remaining: amount,
        reason: "no key".to_owned(),
        created: NOW,
    }
}
