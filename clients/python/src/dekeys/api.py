# Generated from docs/openapi.json by tests/clients/generate.sh. Do not edit.

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

ApprovalId: TypeAlias = str


ApprovalState: TypeAlias = Literal['pending', 'approved', 'denied', 'expired', 'cancelled']
"""
Where a request stands.
"""


Cause: TypeAlias = Literal['init', 'copied', 'rolled_back', 'restored']
"""
Why a history began.
"""


class CheckpointView(TypedDict):
    """
    The signed state of the log.
    """

    note: str
    """
    The C2SP signed note.
    """
    object: str
    """
    Always `checkpoint`.
    """
    public_key: str
    """
    The public key that checks it, as C2SP writes verifier keys.
    """
    size: int
    """
    How many leaves it covers.
    """


CredentialId: TypeAlias = str


Decision: TypeAlias = Literal['revoke', 'dismiss']
"""
What an operator decides about an orphan.
"""


DeliveryId: TypeAlias = str


DeliveryState: TypeAlias = Literal['pending', 'delivered', 'failed']
"""
Where a delivery stands.
"""


class Difference(TypedDict):
    """
    What the ledger says, and what is on record elsewhere.
    """

    ledger: int
    """
    The ledger, in atomic units.
    """
    of: str
    """
    Of what: `received`, `owed` or `marks`.
    """
    records: int
    """
    The purchases, or the credits.
    """


Digest: TypeAlias = str


class Directory(TypedDict):
    """
    What is said of this server at the address where x402 crawlers look.
    """

    discovery: str
    """
    Where the list of what they sell is.
    """
    resources: list[str]
    """
    Addresses that answer 402.
    """
    version: int
    """
    The version of this document's form, 1.
    """
    x402Version: int
    """
    Always 2.
    """


class DoneAsk(TypedDict, closed=True):
    """
    That the database agrees with the vendors.
    """

    accept_unreachable: NotRequired[bool]
    """
    Go on although a vendor could not be listed: keys there stay unknown.
    """


Effect: TypeAlias = Literal['wider', 'narrower', 'other']
"""
What a change does to what is possible.
"""


class EndAsk(TypedDict, closed=True):
    """
    Why something is ended.
    """

    reason: NotRequired[str | None]
    """
    For the record.
    """


class Ended(TypedDict):
    """
    Ends a grant: no token of it works any more, its keys are ended at their vendors.
    """

    confirmed: bool
    """
    Whether every key is dead at its vendor.
    """
    credentials: int
    """
    How many keys it had.
    """
    id: str
    """
    What was ended: a grant's or lease's id.
    """
    object: str
    """
    `grant` or `lease`.
    """
    state: str
    """
    `revoked`, or `revoking` while a vendor has still to confirm.
    """


Ended2: TypeAlias = Literal['token', 'grant', 'lease']
"""
What kind of thing ended.
"""


EventId: TypeAlias = str


class EventView(TypedDict):
    """
    One event as people read it.
    """

    event: Any
    """
    The event, as stored.
    """
    leaf: NotRequired[int | None]
    """
    Its leaf in the tree, from 0, once numbered.
    """
    sequence: int
    """
    Its place in the chain, from 1.
    """


class EventsAsk(TypedDict, closed=True):
    """
    Which events.
    """

    actor: NotRequired[str | None]
    """
    By this actor.
    """
    before: NotRequired[int | None]
    """
    Older than this sequence.
    """
    limit: NotRequired[int | None]
    """
    1 to 100; 20 if absent.
    """
    object: NotRequired[str | None]
    """
    About this id.
    """
    type: NotRequired[str | None]
    """
    Kinds beginning with this: `lease.` or `grant.created`.
    """


class FeedAsk(TypedDict, closed=True):
    """
    Where to begin, and how much to read.
    """

    after: NotRequired[int | None]
    """
    After this place: the `next` of the page before. From the beginning if absent.
    """
    limit: NotRequired[int | None]
    """
    At most so many, 1 to 1000.
    """


class Finding(TypedDict):
    """
    One thing that is wrong.
    """

    column: NotRequired[int | None]
    """
    Column in characters, from 1.
    """
    fix: str
    """
    What to write instead.
    """
    line: NotRequired[int | None]
    """
    Line, from 1; absent when the policy was judged without its text.
    """
    message: str
    """
    What is wrong.
    """
    pointer: str
    """
    JSON Pointer (RFC 6901) of the value in the file, `/grant/max_ttl`; a missing one is named too.
    """


class FollowAsk(TypedDict, closed=True):
    """
    Which events.
    """

    limit: NotRequired[int | None]
    """
    1 to 100; 20 if absent. Not for a stream.
    """
    object: NotRequired[str | None]
    """
    Only about this id.
    """
    since: NotRequired[str | None]
    """
    Only what happened since: a time (RFC 3339), or a span before now such as `1h`.
    """
    starting_after: NotRequired[str | None]
    """
    The id of the event after which to go on: backwards in a list, forwards in a stream.
    """
    types: NotRequired[str | None]
    """
    Types, separated by commas: `lease.created`, `lease.*`; all if absent.
    """


GrantId: TypeAlias = str


class GrantLimits(TypedDict):
    """
    The limits of a grant.
    """

    max_resolves: int
    """
    Most resolves.
    """
    remaining_resolves: int
    """
    What is left of them.
    """


GrantState: TypeAlias = Literal['pending_approval', 'payment_required', 'provisioning', 'payment_unknown', 'active', 'expired', 'revoked', 'failed']
"""
Where a grant stands.
"""


IncarnationId: TypeAlias = str


InstanceId: TypeAlias = str


class Jwk(TypedDict):
    """
    An Ed25519 key (RFC 8037).
    """

    alg: str
    """
    Always `EdDSA`.
    """
    crv: str
    """
    Always `Ed25519`.
    """
    kid: str
    """
    Its thumbprint (RFC 7638).
    """
    kty: str
    """
    Always `OKP`.
    """
    use: str
    """
    Always `sig`.
    """
    x: str
    """
    The key in base64url.
    """


KeyKind: TypeAlias = Literal['kek', 'token', 'log']
"""
Which key is to be changed.
"""


class KeySet(TypedDict):
    """
    A set of keys as JOSE libraries read it (RFC 7517).
    """

    keys: list[Jwk]
    """
    The keys.
    """


LeaseId: TypeAlias = str


class LedgerCheck(TypedDict):
    """
    Whether the ledger agrees with what it tells of.
    """

    agrees: bool
    """
    Whether all of it agrees.
    """
    differences: list[Difference]
    """
    What does not agree.
    """
    entries: int
    """
    How many entries there are; each has its mark.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    object: str
    """
    Always `ledger_check`.
    """
    owed: int
    """
    What is owed to payers, in atomic units.
    """
    received: int
    """
    What was received, in atomic units: what the chain must say too.
    """


Level: TypeAlias = Literal['ok', 'warn', 'fail']
"""
How a check ended.
"""


class List13(TypedDict):
    """
    A page of a list.
    """

    data: list[EventView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


LogPublic: TypeAlias = str


Mode: TypeAlias = Literal['test', 'live']
"""
Whether this instance may touch the world.
"""


Money: TypeAlias = str


Name: TypeAlias = str


OrphanId: TypeAlias = str


OrphanState: TypeAlias = Literal['revoking', 'reported', 'gone', 'dismissed']
"""
Where an orphan stands.
"""


class OrphansAsk(TypedDict, closed=True):
    """
    Which orphans.
    """

    limit: NotRequired[int | None]
    """
    1 to 100; 20 if absent.
    """
    starting_after: NotRequired[str | None]
    """
    The id after which to go on.
    """
    state: NotRequired[OrphanState | None]
    """
    In this state only; those that are open if absent.
    """
    vendor: NotRequired[Name | None]
    """
    At this vendor only.
    """


Outcome: TypeAlias = Literal['alive', 'replaced', 'ended', 'unknown']
"""
What dekeys found and did.
"""


Outcome2: TypeAlias = Literal['settled', 'not_settled']
"""
What became of a payment.
"""


class PageAsk(TypedDict, closed=True):
    """
    Which page of a list.
    """

    limit: NotRequired[int | None]
    """
    1 to 100; 20 if absent.
    """
    starting_after: NotRequired[str | None]
    """
    The id after which to go on.
    """


class Pagination(TypedDict):
    """
    Where in the whole a page is.
    """

    limit: int
    """
    Most items in this answer.
    """
    offset: int
    """
    How many were passed over.
    """
    total: int
    """
    How many there are.
    """


PolicyState: TypeAlias = Literal['active', 'replaced']
"""
Where a version stands. A version that waits for approval exists only in its approval request.
"""


class PriceParts(TypedDict):
    """
    The prices of one offer.
    """

    amount: NotRequired[Money | None]
    """
    For each grant item.
    """
    per_minute: NotRequired[Money | None]
    """
    For each minute that is asked for and begun.
    """
    per_resolve: NotRequired[Money | None]
    """
    For each resolve that is asked for.
    """
    scope: NotRequired[Money | None]
    """
    For this scope, beside it.
    """


PrincipalId: TypeAlias = str


PrincipalKind: TypeAlias = Literal['agent', 'prim', 'factory', 'human', 'operator']
"""
What a principal is.
"""


class Way(TypedDict):
    way: Literal['pay', 'ask', 'narrow', 'wait']
    words: str


class Problem(TypedDict):
    """
    RFC 9457
    """

    code: str
    detail: str
    doc_url: NotRequired[str]
    errors: NotRequired[list[dict[str, Any]]]
    fix: str
    instance: NotRequired[str]
    param: NotRequired[str]
    request_id: str
    retryable: bool
    status: int
    title: str
    type: str
    ways: NotRequired[list[Way]]
    """
    ways forward, each ready to be taken: `pay`, `ask` (a request to send), `narrow`, `wait`
    """


class Progress(TypedDict):
    """
    How far the shares go.
    """

    given: int
    """
    Shares that were brought.
    """
    threshold: int
    """
    Shares that are needed.
    """


class ProofView(TypedDict):
    """
    The proof that an event is in the log.
    """

    checkpoint: str
    """
    The C2SP signed note over that tree.
    """
    event: EventId
    """
    The event.
    """
    leaf: int
    """
    Its leaf.
    """
    object: str
    """
    Always `inclusion_proof`.
    """
    proof: list[str]
    """
    The hashes, base64, lowest first.
    """
    size: int
    """
    The tree's size.
    """


class ProposeAsk(TypedDict, closed=True):
    """
    A file to look at or to propose.
    """

    reason: NotRequired[str]
    """
    Why, for the approvers.
    """
    text: str
    """
    The policy file, TOML.
    """


PublicKey: TypeAlias = str


PurchaseId: TypeAlias = str


PurchaseState: TypeAlias = Literal['claimed', 'settling', 'paid', 'provisioning', 'settled', 'credited', 'released', 'refused']
"""
Where a purchase stands.
"""


Reason: TypeAlias = Literal['double', 'still_listed', 'unknown_name', 'other_incarnation', 'appeared']
"""
Why a key is an orphan.
"""


ReceiptId: TypeAlias = str


Reference: TypeAlias = str


class ReportAsk(TypedDict, closed=True):
    """
    What the vendor answered.
    """

    status: int
    """
    The status: 401 or 403.
    """
    version: NotRequired[int | None]
    """
    The version of the key that was refused; the lease's present one if absent.
    """


RequestId: TypeAlias = str


class ResolveAsk(TypedDict, closed=True):
    """
    What people found out about a payment whose outcome is not known.
    """

    outcome: Outcome2
    """
    What became of it.
    """
    reason: NotRequired[str | None]
    """
    For the record.
    """
    transaction: NotRequired[str | None]
    """
    The transaction that moved the money; needed for `settled`.
    """


class Resource(TypedDict):
    """
    A resource that is sold.
    """

    accepts: list[Any]
    """
    How it can be paid, x402 `PaymentRequirements`.
    """
    description: str
    """
    What it is.
    """
    extensions: Any
    """
    `bazaar`: the request that buys it, and what comes back.
    """
    lastUpdated: str
    """
    When the policy that sells it came into force, RFC 3339.
    """
    mimeType: str
    """
    Of the answer.
    """
    resource: str
    """
    Where to send the request and its payment.
    """
    type: str
    """
    Always `http`.
    """
    x402Version: int
    """
    Always 2.
    """


class Resources(TypedDict):
    """
    A page of what is sold.
    """

    items: list[Resource]
    """
    One for each priced offer.
    """
    pagination: Pagination
    """
    Where in the whole this is.
    """
    x402Version: int
    """
    Always 2.
    """


class ResourcesAsk(TypedDict, closed=True):
    """
    Which resources.
    """

    limit: NotRequired[int | None]
    """
    1 to 100; 20 if absent.
    """
    network: NotRequired[str | None]
    """
    Only this network, CAIP-2.
    """
    offset: NotRequired[int | None]
    """
    How many are passed over.
    """
    payTo: NotRequired[str | None]
    """
    Only those that pay this account.
    """
    scheme: NotRequired[str | None]
    """
    Only this scheme; all here are `exact`.
    """
    type: NotRequired[str | None]
    """
    Only of this kind; all here are `http`.
    """


class RevokeLeasesAsk(TypedDict, closed=True):
    """
    Which leases to end. At least one; several must all hold.
    """

    expected_count: NotRequired[int | None]
    """
    How many they are, as the answer without this said. Without it nothing is ended.
    """
    grant: NotRequired[GrantId | None]
    """
    Those of a grant.
    """
    prefix: NotRequired[str | None]
    """
    Those whose vendor, or `vendor/scope`, begins so: `open`, `openai/chat:`.
    """
    principal: NotRequired[str | None]
    """
    Those that a principal holds as a prim, and those under its grants: its id or name.
    """
    reason: NotRequired[str | None]
    """
    Why, for the record.
    """
    vendor: NotRequired[Name | None]
    """
    Those at a vendor.
    """


class RevokedLeases(TypedDict):
    """
    How many leases that are, and whether they were ended.
    """

    confirmed: bool
    """
    All keys are known to be dead.
    """
    count: int
    """
    How many leases.
    """
    credentials: int
    """
    Keys to be ended at their vendors.
    """
    object: str
    """
    Always `lease_revocation`.
    """
    state: str
    """
    `counted`: nothing was ended. `revoking`: ended here, not all keys are known to be dead at their vendors.
    `revoked`: all are.
    """
    vendors: dict[str, int]
    """
    How many at each vendor.
    """


RootId: TypeAlias = str


class RotateAsk2(TypedDict, closed=True):
    """
    A request for a new key.
    """

    kind: KeyKind
    """
    Which.
    """


RotateMode: TypeAlias = Literal['create_then_revoke', 'two_slot', 'vendor_overlap', 'in_place']
"""
How a vendor lets a key in use be replaced.
"""


RotationId: TypeAlias = str


RotationKind: TypeAlias = Literal['credential', 'root']
"""
What is rotated.
"""


RotationState: TypeAlias = Literal['pending_intent', 'pending_created', 'pending_tested', 'promoted', 'overlap', 'old_revoking', 'done', 'failed']
"""
Where a rotation stands.
"""


Scope: TypeAlias = str


class SealStatus(TypedDict):
    """
    Whether keys can be used.
    """

    instance: str
    """
    The instance.
    """
    mode: str
    """
    `test` or `live`.
    """
    progress: NotRequired[Progress | None]
    """
    How far the shares go that were brought, while the vault waits for more.
    """
    sealed: bool
    """
    Nothing that needs a key works.
    """


class SessionClosed(TypedDict):
    """
    A session that is over.
    """

    closed: bool
    """
    Always true.
    """
    object: str
    """
    Always `session`.
    """


SessionUse: TypeAlias = Literal['sign', 'login']
"""
What kind of session to open.
"""


Timestamp: TypeAlias = str


class TokenAsk(TypedDict, closed=True):
    """
    A token to look at or to end. Without `Debug`: it is a secret.
    """

    token: str
    """
    The token.
    """
    token_type_hint: NotRequired[str | None]
    """
    `access_token`, or what OAuth clients send; there is one kind, so it does not matter.
    """


class TokenRoot(TypedDict):
    """
    One key that signs tokens.
    """

    id: int
    """
    `rootKeyId` of tokens.
    """
    public_key: PublicKey
    """
    The key.
    """


Ttl: TypeAlias = str


class UnknownKey(TypedDict):
    """
    A key that nobody here knows.
    """

    name: str
    """
    Its name there.
    """
    vendor_key_id: str
    """
    The vendor's id of it.
    """


UsageBy: TypeAlias = Literal['day', 'principal', 'grant', 'wallet', 'vendor', 'lease']
"""
By what usage is summed.
"""


class UsageRow(TypedDict):
    """
    The sums of one key.
    """

    key: str
    """
    The day (`2026-12-01`), id, wallet or name.
    """
    owed: Money
    """
    What became owed to payers. Less what was taken of it, this is what is owed.
    """
    payments: int
    """
    How many payments settled.
    """
    received: Money
    """
    What they moved.
    """
    redeemed: Money
    """
    What of it became grants.
    """
    sold: Money
    """
    What was sold, for payments and for credit; without what came to nothing.
    """
    taken_back: Money
    """
    What the chain took back of it.
    """
    vendor_cost: Money
    """
    What keys may cost at their vendors, by the caps that these keep.
    """


class VendorTest(TypedDict):
    """
    Whether a connected vendor answers as it should.
    """

    code: NotRequired[str | None]
    """
    `vendor_not_connected` when there is nothing to ask it with.
    """
    object: str
    """
    Always `vendor_test`.
    """
    ok: bool
    """
    The root credential was accepted.
    """
    trouble: NotRequired[str | None]
    """
    What went wrong, in safe words.
    """
    vendor: Name
    """
    The vendor.
    """


Verdict: TypeAlias = Literal['approve', 'deny']
"""
Yes or no.
"""


class Verification(TypedDict):
    """
    The outcome of checking the whole log.
    """

    events: int
    """
    Events that were read.
    """
    leaves: int
    """
    Leaves whose root was recomputed.
    """
    object: str
    """
    Always `audit_verification`.
    """
    ok: bool
    """
    Nothing is missing or changed.
    """
    root: str
    """
    The recomputed root, `sha256:` and hexadecimal as in receipts.
    """
    trouble: NotRequired[str | None]
    """
    What is wrong, and where.
    """


WebhookFormat: TypeAlias = Literal['event', 'slack']
"""
How the body is written.
"""


WebhookId: TypeAlias = str


class WebhookView(TypedDict):
    """
    A webhook as operators see it. Never its secret; of a Slack address, which is a secret, only the host.
    """

    created: Timestamp
    """
    When it was made.
    """
    description: str
    """
    What it is for.
    """
    format: WebhookFormat
    """
    How the body is written.
    """
    id: WebhookId
    """
    The id.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    object: str
    """
    Always `webhook`.
    """
    previous_secret_until: NotRequired[Timestamp | None]
    """
    Until when the secret before signs too.
    """
    public_key: str
    """
    Checks `v1a` signatures: `whpk_` and base64.
    """
    state: str
    """
    `enabled` or `disabled`.
    """
    types: list[str]
    """
    Of which events.
    """
    url: str
    """
    Where to, without a query.
    """


class V1PoliciesExplainPostResponse(TypedDict):
    pass


class V1ReceiptsIdGetResponse(TypedDict):
    pass


class Credential(TypedDict):
    base_url: NotRequired[str]
    fields: NotRequired[dict[str, str]]
    inject: NotRequired[dict[str, Any]]
    kind: NotRequired[str]
    version: NotRequired[int]


class Datum(TypedDict):
    credential: NotRequired[Credential]
    event: NotRequired[str]
    lease_duration: NotRequired[int]
    lease_id: NotRequired[str]
    object: Literal['resolution', 'problem']
    problem: NotRequired[Problem]
    reference: str
    renewable: NotRequired[bool]
    unchanged: NotRequired[bool]


class V1ResolvePostResponse(TypedDict):
    data: list[Datum]
    has_more: bool
    object: Literal['list']


class V1SessionsPostResponse(TypedDict):
    expires: str
    object: Literal['session']
    secret: str
    """
    HMAC key (base64url), or a login token
    """
    session_id: NotRequired[str | None]
    """
    keyid of signatures
    """


class V1SysRekeyPostRequest(TypedDict, closed=True):
    key: NotRequired[str | None]
    """
    the content of a key file, base64url
    """
    passphrase: NotRequired[str | None]
    share: NotRequired[str | None]
    """
    one share; the last that is needed opens the vault
    """
    shares: NotRequired[str | None]
    """
    enough shares, one a line
    """


class V1SysRekeyConfirmPostRequest(TypedDict, closed=True):
    key: NotRequired[str | None]
    """
    the content of a key file, base64url
    """
    passphrase: NotRequired[str | None]
    share: NotRequired[str | None]
    """
    one share; the last that is needed opens the vault
    """
    shares: NotRequired[str | None]
    """
    enough shares, one a line
    """


class V1SysUnsealPostRequest(TypedDict, closed=True):
    key: NotRequired[str | None]
    """
    the content of a key file, base64url
    """
    passphrase: NotRequired[str | None]
    share: NotRequired[str | None]
    """
    one share; the last that is needed opens the vault
    """
    shares: NotRequired[str | None]
    """
    enough shares, one a line
    """


class V1SysUnsealCancelPostRequest(TypedDict, closed=True):
    key: NotRequired[str | None]
    """
    the content of a key file, base64url
    """
    passphrase: NotRequired[str | None]
    share: NotRequired[str | None]
    """
    one share; the last that is needed opens the vault
    """
    shares: NotRequired[str | None]
    """
    enough shares, one a line
    """


class V1TokenIntrospectPostRequest(TypedDict):
    """
    A token to look at or to end. Without `Debug`: it is a secret.
    """

    token: str
    """
    The token.
    """
    token_type_hint: NotRequired[str | None]
    """
    `access_token`, or what OAuth clients send; there is one kind, so it does not matter.
    """


class V1TokenRevokePostRequest(TypedDict):
    """
    A token to look at or to end. Without `Debug`: it is a secret.
    """

    token: str
    """
    The token.
    """
    token_type_hint: NotRequired[str | None]
    """
    `access_token`, or what OAuth clients send; there is one kind, so it does not matter.
    """


class V1TokenRevokePostResponse(TypedDict):
    pass


class V1VendorsNameRootCredentialPutRequest(TypedDict, closed=True):
    base_url: NotRequired[str]
    """
    test instances only
    """
    fields: dict[str, str]
    manifest: NotRequired[str]
    """
    a manifest of your own instead of the one that comes with dekeys
    """
    params: NotRequired[dict[str, str]]


class V1VendorsNameRotateRootPostRequest(TypedDict, closed=True):
    fields: NotRequired[dict[str, Any] | None]
    """
    one that somebody made at the vendor; without it the vendor's API is asked
    """
    grace: NotRequired[str | None]
    """
    how long the one before may be used, such as `1h`; at least a minute, at most 24 h
    """


class V1WebhooksPostResponse(WebhookView):
    secret: str


class V1WebhooksIdRotateSecretPostResponse(WebhookView):
    secret: str


class BackupVerified(TypedDict):
    """
    A backup that was restored to be tried.
    """

    age: int
    """
    How old it is, in seconds: what happened since is not in it.
    """
    created: Timestamp
    """
    When it was begun.
    """
    events: int
    """
    Events whose chain, tree and checkpoint are sound.
    """
    name: str
    """
    The file's name.
    """
    object: str
    """
    Always `backup_verification`.
    """
    rows: int
    """
    Rows of all tables.
    """
    secrets: int
    """
    Sealed values that opened.
    """


class BackupView(TypedDict):
    """
    A backup in the folder.
    """

    bytes: int
    """
    Bytes of the file.
    """
    created: NotRequired[Timestamp | None]
    """
    When it was begun; `None` for a file whose head cannot be read.
    """
    instance: NotRequired[str | None]
    """
    The instance.
    """
    migration: NotRequired[int | None]
    """
    The state of the tables.
    """
    name: str
    """
    The file's name.
    """
    object: str
    """
    Always `backup`.
    """
    trouble: NotRequired[str | None]
    """
    Why the file is none.
    """


class BreakerView(TypedDict):
    """
    A breaker as operators see it.
    """

    failures: int
    """
    Calls in a row that failed.
    """
    since: NotRequired[Timestamp | None]
    """
    Since when it is left alone.
    """
    state: str
    """
    `closed`: the vendor is called. `open`: it is left alone. `trial`: one call finds out.
    """
    trouble: NotRequired[str | None]
    """
    What it did last.
    """
    until: NotRequired[Timestamp | None]
    """
    When it is called again.
    """


class BuyAsk(TypedDict, closed=True):
    """
    A request for a grant.
    """

    audience: NotRequired[list[Name]]
    """
    Prims the tokens are for; any that the policy names if absent.
    """
    bearer: NotRequired[bool]
    """
    Asks for tokens without a holder's key although the request is signed: bearer class. Whoever has such a token
    can use it: unsigned through the proxy, where a policy says `bearer`, and nowhere else.
    """
    max_resolves: NotRequired[int | None]
    """
    How many resolves; the policy's most if absent.
    """
    public_key: NotRequired[PublicKey | None]
    """
    The key the holder will sign with; who signs this request, if absent.
    """
    reason: NotRequired[str]
    """
    Why, for the record and for approvers.
    """
    reference: NotRequired[Reference | None]
    """
    What is wanted, when it is one thing.
    """
    references: NotRequired[list[Reference]]
    """
    What is wanted, when it is several: one quote, one settlement, all or nothing.
    """
    ttl: NotRequired[Ttl | None]
    """
    For how long; the policy's longest if absent.
    """


class Change(TypedDict):
    """
    One change.
    """

    effect: Effect
    """
    Whether more becomes possible.
    """
    field: str
    """
    The line of the file: `grant.max_ttl`.
    """
    words: str
    """
    In words: `+ scopes embeddings:write`, `grant.max_ttl 15m -> 1h`.
    """


class Check(TypedDict):
    """
    One check.
    """

    detail: str
    """
    What was seen.
    """
    fix: NotRequired[str | None]
    """
    What to do; on the admin address only.
    """
    level: NotRequired[Level | None]
    """
    How it ended; on the admin address only.
    """
    name: str
    """
    The name, the same wherever it is shown.
    """
    ok: bool
    """
    Whether it holds.
    """


class CredentialView(TypedDict):
    """
    A credential as operators see it. It never holds the key.
    """

    attempt: int
    """
    Tries of the present step.
    """
    created: Timestamp
    """
    When it was intended.
    """
    expires: Timestamp
    """
    When dekeys ends it.
    """
    grant: GrantId
    """
    The grant.
    """
    id: CredentialId
    """
    The id.
    """
    lease: NotRequired[LeaseId | None]
    """
    The lease.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    next_at: NotRequired[Timestamp | None]
    """
    When dekeys looks at it next.
    """
    object: str
    """
    Always `credential`.
    """
    prim: NotRequired[PrincipalId | None]
    """
    The prim.
    """
    state: str
    """
    Where it stands; a key whose revocation the vendor does not confirm is `revocation_failed`.
    """
    trouble: NotRequired[str | None]
    """
    The last trouble.
    """
    vendor: Name
    """
    The vendor.
    """
    vendor_key_id: NotRequired[str | None]
    """
    Its id there.
    """
    vendor_name: str
    """
    Its name there; empty where keys have none.
    """


class DecideAsk(TypedDict, closed=True):
    """
    A decision about an orphan.
    """

    decision: Decision
    """
    What becomes of it.
    """
    reason: NotRequired[str | None]
    """
    Why, for the record.
    """


class DeliveryView(TypedDict):
    """
    One event for one webhook, and what became of it.
    """

    attempts: int
    """
    How often it was tried.
    """
    created: Timestamp
    """
    When it was queued.
    """
    error: NotRequired[str | None]
    """
    Why the last try failed.
    """
    event: EventId
    """
    The event; also the message's `webhook-id`.
    """
    id: DeliveryId
    """
    The id.
    """
    next_attempt: NotRequired[Timestamp | None]
    """
    When it is tried next.
    """
    object: str
    """
    Always `delivery`.
    """
    sequence: int
    """
    The event's place in the log.
    """
    state: DeliveryState
    """
    Where it stands.
    """
    status: NotRequired[int | None]
    """
    The status of the last answer.
    """
    type: str
    """
    What happened.
    """
    webhook: WebhookId
    """
    The webhook.
    """


class Diff(TypedDict):
    """
    A comparison of two policy texts.
    """

    changes: list[Change]
    """
    Each change; empty when nothing but comments and layout changed, or when a text cannot be read.
    """
    unified: str
    """
    The unified diff of the texts, three lines of context; empty when they are equal.
    """


class DueView(TypedDict):
    """
    A key that is rotated from time to time, and when.
    """

    created: Timestamp
    """
    When it was made.
    """
    due: Timestamp
    """
    When it is due.
    """
    id: str
    """
    The current key: a credential, or a root credential.
    """
    kind: RotationKind
    """
    What it is.
    """
    late_seconds: int
    """
    How many seconds ago that was; 0 when the time is still to come.
    """
    mode: NotRequired[RotateMode | None]
    """
    How it is rotated; absent where people do it.
    """
    name: Name
    """
    What it is called: the policy whose grants share it, or the vendor.
    """
    object: str
    """
    Always `due_rotation`.
    """
    state: NotRequired[RotationState | None]
    """
    Where its last rotation stands.
    """
    trouble: NotRequired[str | None]
    """
    The last trouble with it.
    """
    vendor: Name
    """
    The vendor.
    """


class EnrollAsk(TypedDict, closed=True):
    """
    A principal to be made.
    """

    kind: PrincipalKind
    """
    What it is. Operators and approvers are enrolled by `dekeys init`; humans here cannot approve.
    """
    name: Name
    """
    The name it will have.
    """
    public_keys: list[PublicKey]
    """
    Its public keys.
    """
    wallets: NotRequired[list[str]]
    """
    Its wallets, CAIP-10.
    """


class EventNotice(TypedDict):
    """
    An event as others are told.
    """

    actor: NotRequired[str | None]
    """
    Who did it: a principal's id, a wallet or `dekeys`. Absent where that is somebody else's affair.
    """
    data: dict[str, Any]
    """
    The thing it happened to as `id` and `object`, and facts. Never a secret.
    """
    id: EventId
    """
    The id: the same wherever and however often it is told.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    request_id: NotRequired[RequestId | None]
    """
    The request that caused it.
    """
    sequence: int
    """
    Its place in the log, from 1 without gaps: its leaf in the tree, and one. Others see only theirs.
    """
    timestamp: Timestamp
    """
    When.
    """
    type: str
    """
    What happened: `lease.created`.
    """


class ExplainAsk(TypedDict, closed=True):
    """
    Whom and what to explain.
    """

    max_resolves: NotRequired[int | None]
    """
    How many resolves; 1 if absent.
    """
    principal: NotRequired[Name | None]
    """
    Which principal would ask; the caller if absent.
    """
    reference: Reference
    """
    What would be asked for.
    """
    ttl: NotRequired[Ttl | None]
    """
    For how long; 15 minutes if absent.
    """
    wallet: NotRequired[str | None]
    """
    Which wallet would pay, CAIP-10.
    """


class GoneKey(TypedDict):
    """
    A key that is gone at the vendor.
    """

    credential: CredentialId
    """
    The credential.
    """
    expires: Timestamp
    """
    When it would have been ended.
    """
    vendor_key_id: str
    """
    The vendor's id of it.
    """


class GrantItem(TypedDict):
    """
    One thing a grant allows: scopes at a vendor, under the grant's policy version.
    """

    policy: Name
    """
    The policy that allows it.
    """
    policy_digest: Digest
    """
    That version's digest.
    """
    policy_version: int
    """
    The version in force when it was granted.
    """
    scopes: list[Scope]
    """
    The scopes.
    """
    vendor: Name
    """
    The vendor.
    """


GrantView = TypedDict(
    'GrantView',
    {
        'audience': list[Name],
        'class': str,
        'created': Timestamp,
        'expires': Timestamp,
        'holder': NotRequired[PublicKey | None],
        'id': GrantId,
        'items': list[GrantItem],
        'limits': GrantLimits,
        'livemode': bool,
        'object': str,
        'price': NotRequired[Money | None],
        'principal': PrincipalId,
        'promise': str,
        'receipt': NotRequired[ReceiptId | None],
        'state': GrantState,
    },
)


class Introspection(TypedDict):
    """
    What RFC 7662 §2.2 answers. A token that is not active has no member but `active`, whatever the reason.
    """

    active: bool
    """
    Whether the caller may use it now.
    """
    aud: NotRequired[list[Name] | None]
    """
    The prims it was minted for; absent is any that the policy names.
    """
    exp: NotRequired[int | None]
    """
    When it ends, all blocks considered: seconds since 1970.
    """
    grant: NotRequired[GrantId | None]
    """
    The grant.
    """
    holder: NotRequired[PublicKey | None]
    """
    The key its holder signs with; absent for a bearer token.
    """
    iss: NotRequired[str | None]
    """
    The address of this instance.
    """
    jti: NotRequired[str | None]
    """
    The revocation id of its last block: what `POST /v1/token/revoke` would end.
    """
    livemode: NotRequired[bool | None]
    """
    Whether real vendors are behind it.
    """
    scope: NotRequired[str | None]
    """
    The references it still allows, separated by spaces.
    """
    sub: NotRequired[PrincipalId | None]
    """
    The grant's owner.
    """
    token_type: NotRequired[str | None]
    """
    Always `Bearer`.
    """
    username: NotRequired[Name | None]
    """
    The owner's name.
    """
    uses: NotRequired[list[str] | None]
    """
    The uses it still allows: `resolve`, `forward`, `manage`.
    """


class KeysView(TypedDict):
    """
    How it stands with the keys at a vendor.
    """

    breaker: BreakerView
    """
    Whether the vendor is called, or left alone for a while. As this process has it.
    """
    compared: NotRequired[Timestamp | None]
    """
    When the vendor's list was last compared with what is on record.
    """
    compared_next: NotRequired[Timestamp | None]
    """
    When the next one is due.
    """
    listed: int
    """
    How many keys of this instance it held.
    """
    orphans: int
    """
    Keys that nobody accounts for, and that wait for somebody's decision.
    """
    trouble: NotRequired[str | None]
    """
    Why the last comparison failed, if it did.
    """


class Known(TypedDict, closed=True):
    """
    A key the prim holds already.
    """

    lease_id: LeaseId
    """
    Its lease.
    """
    version: int
    """
    Its version.
    """


class LeaseView(TypedDict):
    """
    A lease as people see it. It never holds the key.
    """

    created: Timestamp
    """
    When it was made.
    """
    credential: CredentialId
    """
    The credential.
    """
    expires: Timestamp
    """
    When it ends.
    """
    grant: GrantId
    """
    The grant.
    """
    id: LeaseId
    """
    The id.
    """
    lease_duration: int
    """
    Seconds until then.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    object: str
    """
    Always `lease`.
    """
    prim: PrincipalId
    """
    The prim that holds the key.
    """
    renewable: bool
    """
    Whether it can be prolonged.
    """
    resolves: int
    """
    How often it was resolved.
    """
    state: str
    """
    `pending`, `active`, `expired`, `revoked` or `revocation_failed`.
    """
    vendor: Name
    """
    The vendor.
    """


class List(TypedDict):
    """
    A page of a list.
    """

    data: list[BackupView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List11(TypedDict):
    """
    A page of a list.
    """

    data: list[DueView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List14(TypedDict):
    """
    A page of a list.
    """

    data: list[WebhookView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List15(TypedDict):
    """
    A page of a list.
    """

    data: list[DeliveryView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List3(TypedDict):
    """
    A page of a list.
    """

    data: list[GrantView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List4(TypedDict):
    """
    A page of a list.
    """

    data: list[LeaseView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List5(TypedDict):
    """
    A page of a list.
    """

    data: list[CredentialView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


LogTerm = TypedDict(
    'LogTerm',
    {
        'endorsed': NotRequired[str | None],
        'from': Timestamp,
        'public_key': LogPublic,
        'until': NotRequired[Timestamp | None],
    },
)


class Offer(TypedDict):
    """
    One thing that can be had.
    """

    approval: str
    """
    Whether people approve each grant: `none`, `first` or `always`.
    """
    bearer: NotRequired[Ttl | None]
    """
    For how long from its making an unsigned token may be used through the proxy; absent when only signed requests
    are taken. Whoever has such a token can use it: a lesser promise than a token that is bound to a holder's key.
    """
    max_resolves: int
    """
    The most resolves one grant may have.
    """
    max_ttl: Ttl
    """
    The longest a grant may live.
    """
    policy: Name
    """
    The policy that offers it.
    """
    policy_version: int
    """
    Its version.
    """
    price: NotRequired[Money | None]
    """
    What a grant of it costs for its longest life and with its most resolves, which is what a request gets that says
    nothing of them; absent when it is free.
    """
    prices: NotRequired[PriceParts | None]
    """
    What that is made of; absent when it is free.
    """
    prims: list[Name]
    """
    Prims that may receive a key under it.
    """
    reference: Reference
    """
    What to ask for.
    """


class OrphanView(TypedDict):
    """
    A key at a vendor that nobody here accounts for. It never holds the key.
    """

    attempt: int
    """
    Tries to end it.
    """
    credential: NotRequired[CredentialId | None]
    """
    The credential whose name it bears, or in whose making it appeared.
    """
    found: Timestamp
    """
    When it was found.
    """
    id: OrphanId
    """
    The id.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    next_at: NotRequired[Timestamp | None]
    """
    When it is tried next.
    """
    object: str
    """
    Always `orphan`.
    """
    reason: Reason
    """
    Why it is one.
    """
    seen: Timestamp
    """
    When the vendor listed it last.
    """
    state: OrphanState
    """
    Whether dekeys ends it, people decide, or it is over.
    """
    trouble: NotRequired[str | None]
    """
    The last trouble.
    """
    vendor: Name
    """
    The vendor that lists it.
    """
    vendor_key_id: str
    """
    Its id there.
    """
    vendor_name: str
    """
    Its name there; empty where keys have none.
    """


class PathRule(TypedDict, closed=True):
    """
    A method and a path that may, or may not, be forwarded. `*` is one segment, `**` any number; no method is every one.
    """

    method: NotRequired[str | None]
    """
    The method; absent is every method.
    """
    path: str
    """
    The path, from the root of the host.
    """
    scope: NotRequired[Scope | None]
    """
    The scope a request needs; absent where the vendor has only one, or where any of them will do.
    """
    websocket: NotRequired[bool]
    """
    Whether the request may become a `WebSocket` (RFC 6455).
    """


class PaymentView(TypedDict):
    """
    A payment: one authorization, from its claim to its end.
    """

    amount: str
    """
    Atomic units.
    """
    asset: str
    """
    The token's contract.
    """
    created: Timestamp
    """
    When it was claimed.
    """
    grant: GrantId
    """
    The grant it pays for.
    """
    id: PurchaseId
    """
    The id.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    next_look: NotRequired[Timestamp | None]
    """
    When dekeys looks again.
    """
    nonce: str
    """
    The authorization's nonce: what to look for on the chain.
    """
    object: str
    """
    Always `payment`.
    """
    pay_to: str
    """
    The account that is paid.
    """
    payer: str
    """
    CAIP-10 account that pays.
    """
    state: PurchaseState
    """
    Where it stands; `settling` is the one whose outcome is not known.
    """
    transaction: NotRequired[str | None]
    """
    The settlement's transaction.
    """
    trouble: NotRequired[str | None]
    """
    The last trouble.
    """
    valid_before: Timestamp
    """
    When the authorization ends.
    """


class PaymentsAsk(TypedDict, closed=True):
    """
    Which payments.
    """

    limit: NotRequired[int | None]
    """
    1 to 100; 20 if absent.
    """
    starting_after: NotRequired[str | None]
    """
    The id after which to go on.
    """
    state: NotRequired[PurchaseState | None]
    """
    Only those in this state.
    """


class PolicyView(TypedDict):
    """
    A policy as people see it.
    """

    activated: Timestamp
    """
    When.
    """
    approval: ApprovalId
    """
    The approval that put it in force.
    """
    digest: Digest
    """
    What approvers signed.
    """
    name: Name
    """
    The name.
    """
    object: str
    """
    Always `policy`.
    """
    state: PolicyState
    """
    Whether it is in force.
    """
    text: str
    """
    The file.
    """
    vendor: Name
    """
    The vendor.
    """
    version: int
    """
    The version.
    """


class PrincipalView(TypedDict):
    """
    A principal as people see it.
    """

    approver: bool
    """
    May approve.
    """
    created: Timestamp
    """
    When it was made.
    """
    id: PrincipalId
    """
    The id.
    """
    kind: PrincipalKind
    """
    The kind.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    name: Name
    """
    The unique name.
    """
    object: str
    """
    Always `principal`.
    """
    public_keys: list[PublicKey]
    """
    Public keys.
    """
    state: str
    """
    `active` or `disabled`.
    """
    wallets: list[str]
    """
    Wallets, CAIP-10.
    """


class Process(TypedDict):
    """
    The process that answers.
    """

    instance: str
    """
    The instance.
    """
    mode: Mode
    """
    Test or live.
    """
    now: Timestamp
    """
    The time here.
    """
    pid: int
    """
    Its process id.
    """
    started: Timestamp
    """
    When it started.
    """
    version: str
    """
    The version of dekeys.
    """


class Proposal(TypedDict):
    """
    What a proposal would change, and whether it could be made.
    """

    approval: NotRequired[ApprovalId | None]
    """
    The approval request, once proposed.
    """
    diff: Diff
    """
    What changes.
    """
    digest: Digest
    """
    What approvers will sign.
    """
    findings: list[Finding]
    """
    What stands against it, or should be known.
    """
    name: Name
    """
    The policy.
    """
    object: str
    """
    Always `policy_proposal`.
    """
    version: int
    """
    The version it would become.
    """


class PublicKeys(TypedDict):
    """
    The public keys of this instance: what verifiers need.
    """

    instance: str
    """
    The instance.
    """
    log: str
    """
    The key that signs checkpoints and receipts, as C2SP writes verifier keys.
    """
    logs: NotRequired[list[LogTerm]]
    """
    All keys the log ever had, each with its time: a receipt is checked by the one that signed it, and who knows an
    earlier one is led to the present one by `endorsed`.
    """
    object: str
    """
    Always `public_keys`.
    """
    token_roots: list[TokenRoot]
    """
    The keys that sign tokens, with their root key ids; two are live.
    """
    webhooks: NotRequired[PublicKey | None]
    """
    The key that signs webhooks: `v1a` of Standard Webhooks, and RFC 9421.
    """


class Readiness(TypedDict):
    """
    Whether this instance can serve.
    """

    checks: list[Check]
    """
    The checks.
    """
    process: NotRequired[Process | None]
    """
    Which process answers; on the admin address only.
    """
    ready: bool
    """
    It can.
    """


class ReconcileStatus(TypedDict):
    """
    How the present history stands.
    """

    begun: Timestamp
    """
    When.
    """
    cause: Cause
    """
    Why it began.
    """
    incarnation: IncarnationId
    """
    The present incarnation.
    """
    object: str
    """
    Always `reconcile_status`.
    """
    payments_from: Timestamp
    """
    Payments are taken from then on.
    """
    reconciling: bool
    """
    Nothing is released, made or ended before an operator said that the database agrees with the vendors.
    """


class RenewAsk(TypedDict, closed=True):
    """
    How much longer.
    """

    ttl: NotRequired[Ttl | None]
    """
    The new life, counted from now; the policy's longest if absent.
    """


class Reported(TypedDict):
    """
    The answer to a report.
    """

    expires: Timestamp
    """
    When the lease ends.
    """
    lease_id: LeaseId
    """
    The lease.
    """
    outcome: Outcome
    """
    What was found and done.
    """
    version: int
    """
    The version of the lease's key now.
    """


class ResolveItem(TypedDict, closed=True):
    """
    One thing to resolve.
    """

    known: NotRequired[Known | None]
    """
    What the prim still has: unchanged, it is not sent again.
    """
    reference: Reference
    """
    What.
    """
    token: NotRequired[str | None]
    """
    The agent's token, when it is not the one in `Authorization`.
    """


class ResolveRequest(TypedDict, closed=True):
    """
    A request to resolve: 1 to 20 items, each answered on its own.
    """

    items: list[ResolveItem]
    """
    What is wanted.
    """


class ReviewAsk(TypedDict, closed=True):
    """
    A verdict, signed by the approver's own key over approval, digest, verdict and comment.
    """

    comment: NotRequired[str]
    """
    Why; a refusal needs it.
    """
    digest: Digest
    """
    The digest the approver saw: 412 when the request is another by now.
    """
    signature: str
    """
    Ed25519 over the verdict, base64url.
    """
    verdict: Verdict
    """
    Yes or no.
    """


class ReviewView(TypedDict):
    """
    One verdict as people see it.
    """

    approver: Name
    """
    Who.
    """
    comment: str
    """
    Why.
    """
    created: Timestamp
    """
    When.
    """
    digest: Digest
    """
    The digest that was seen.
    """
    key: PublicKey
    """
    The key that signed.
    """
    signature: str
    """
    The signature, base64url.
    """
    verdict: Verdict
    """
    Yes or no.
    """


class Revocation(TypedDict):
    """
    One thing that ended.
    """

    at: Timestamp
    """
    When it ended.
    """
    id: str
    """
    A revocation id, or the id of a grant or lease.
    """
    kind: Ended2
    """
    What kind of thing.
    """
    n: int
    """
    Its place on the chain of events; the feed is in this order.
    """
    until: Timestamp
    """
    Until when a verifier must remember it: no token that it ends lives longer.
    """


class RevocationPage(TypedDict):
    """
    One page of the feed. It does not name the time, so that it stays the same until something ends.
    """

    after: int
    """
    What follows this place on the chain.
    """
    data: list[Revocation]
    """
    What ended, oldest first.
    """
    has_more: bool
    """
    Whether more is there already.
    """
    incarnation: IncarnationId
    """
    Its incarnation. Another one means a restored database: begin anew, and forget nothing.
    """
    instance: InstanceId
    """
    The instance.
    """
    next: int
    """
    Where the next page begins.
    """
    object: str
    """
    Always `revocations`.
    """


class RotateAsk(TypedDict, closed=True):
    """
    How a key is to be rotated.
    """

    grace: NotRequired[Ttl | None]
    """
    How long the key before may be used beside the new one, at most 24 h; as configured if absent. It ends sooner
    once nothing is under way with it, where dekeys can see that.
    """
    revoke_previous: NotRequired[bool]
    """
    The key before, and those before it, may not be used any more once the new one is current: it leaked.
    """


class RotationView(TypedDict):
    """
    A rotation as operators see it.
    """

    by: str
    """
    Who asked: `schedule`, or a name.
    """
    created: Timestamp
    """
    When it was begun.
    """
    ended: NotRequired[Timestamp | None]
    """
    When it came to its end.
    """
    id: RotationId
    """
    The id.
    """
    kind: RotationKind
    """
    What is rotated.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    mode: RotateMode
    """
    How.
    """
    new: str
    """
    The key after.
    """
    object: str
    """
    Always `rotation`.
    """
    old: str
    """
    The key before.
    """
    policy: NotRequired[Name | None]
    """
    The policy whose grants share the key.
    """
    previous_until: NotRequired[Timestamp | None]
    """
    Until when the key before may be used at the latest; it may have ended already.
    """
    promoted: NotRequired[Timestamp | None]
    """
    When the new key became the current one.
    """
    state: RotationState
    """
    Where it stands.
    """
    trouble: NotRequired[str | None]
    """
    The last trouble.
    """
    vendor: Name
    """
    The vendor.
    """


class SessionAsk(TypedDict, closed=True):
    """
    A request for a session.
    """

    use: SessionUse
    """
    The kind.
    """


class SettleAsk(TypedDict, closed=True):
    """
    What to do about keys that are not known here.
    """

    keep: NotRequired[Ttl | None]
    """
    Adopted keys are ended after this span, `1h` if absent, at most a day: whoever holds one may finish.
    """
    vendor: NotRequired[Name | None]
    """
    At this vendor only.
    """


class SigningKeyView(TypedDict):
    """
    One key that signs.
    """

    created: Timestamp
    """
    When it was made.
    """
    kind: str
    """
    `token` or `log`.
    """
    number: int
    """
    Counts from 1 within its kind; `rootKeyId` of tokens.
    """
    public_key: str
    """
    The public half.
    """
    retired: NotRequired[Timestamp | None]
    """
    When it stopped signing.
    """
    state: str
    """
    `signing`, `next` (published, not used yet) or `retired`.
    """


class Status(TypedDict):
    """
    The state of an instance in figures.
    """

    active_grants: int
    """
    Grants in force.
    """
    checkpoint_signed: NotRequired[Timestamp | None]
    """
    When the latest checkpoint was signed.
    """
    database: str
    """
    `sqlite` or `postgres`.
    """
    database_bytes: int
    """
    Bytes of the database; on SQLite without the write-ahead log.
    """
    events: int
    """
    Events on record.
    """
    instance: str
    """
    The instance.
    """
    leases_ending: int
    """
    Leases that end within five minutes.
    """
    leaves: int
    """
    Leaves under the latest checkpoint.
    """
    live_leases: int
    """
    Leases alive.
    """
    migrations: int
    """
    The latest migration of the database.
    """
    migrations_known: int
    """
    The latest migration this binary knows.
    """
    mode: Mode
    """
    Test or live.
    """
    now: Timestamp
    """
    The time here.
    """
    object: str
    """
    Always `status`.
    """
    oldest_approval: NotRequired[Timestamp | None]
    """
    When the approval request that has waited longest was made.
    """
    orphans: int
    """
    Keys that a vendor lists, that nobody here accounts for, and that wait for somebody's decision.
    """
    pending_approvals: int
    """
    Approvals that wait.
    """
    reconciling: bool
    """
    Nothing is released, made or ended before an operator has compared the database with the vendors.
    """
    revocation_failed: int
    """
    Keys whose revocation is not confirmed.
    """
    revoking: int
    """
    Keys that are being ended at their vendors.
    """
    sealed: bool
    """
    Whether the vault is sealed.
    """
    solo: bool
    """
    One person may approve their own requests.
    """
    started: Timestamp
    """
    When this process started.
    """
    unknown_payments: int
    """
    Payments whose outcome is not known.
    """
    unsealed_since: NotRequired[Timestamp | None]
    """
    Since when the vault is open.
    """
    version: str
    """
    The version of dekeys.
    """


class Usage(TypedDict):
    """
    Sums of the ledger.
    """

    by: UsageBy
    """
    By what it is summed.
    """
    data: list[UsageRow]
    """
    One for each key, in the order of keys.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    object: str
    """
    Always `usage`.
    """


class UsageAsk(TypedDict, closed=True):
    """
    Which usage.
    """

    by: NotRequired[UsageBy | None]
    """
    By what it is summed; `day` if absent.
    """
    since: NotRequired[Timestamp | None]
    """
    From here on.
    """
    until: NotRequired[Timestamp | None]
    """
    Before.
    """


VendorView = TypedDict(
    'VendorView',
    {
        'allow': list[PathRule],
        'can_mint': bool,
        'class': int,
        'connected': NotRequired[Timestamp | None],
        'evidence': str,
        'hosts': list[str],
        'keys': NotRequired[KeysView | None],
        'manifest': Digest,
        'name': Name,
        'object': str,
        'resale': str,
        'root_fields': list[str],
        'scopes': list[Scope],
        'signed_here': bool,
        'state': str,
        'title': str,
        'vendor_expiry': bool,
    },
)


class WebhookAsk(TypedDict, closed=True):
    """
    A webhook to be made.
    """

    description: NotRequired[str]
    """
    What it is for.
    """
    format: NotRequired[WebhookFormat | None]
    """
    `event` (JSON, the default) or `slack` (one sentence).
    """
    types: list[str]
    """
    Types of events: `lease.revocation_failed`, `approval.*`; everything is `*`.
    """
    url: str
    """
    Where to send: `https`, a public address; in a test instance literal loopback.
    """


class V1GrantsPostResponse(GrantView):
    expires_in: NotRequired[int]
    token: NotRequired[str]
    """
    absent when a repeated request did not prove the holder
    """
    token_type: NotRequired[str]


class V1GrantsIdTokensPostResponse(GrantView):
    expires_in: NotRequired[int]
    token: NotRequired[str]
    """
    absent when a repeated request did not prove the holder
    """
    token_type: NotRequired[str]


class ApprovalView(TypedDict):
    """
    An approval request as people see it.
    """

    approvers: list[Name]
    """
    Whose verdicts count.
    """
    created: Timestamp
    """
    When it was made.
    """
    diff: NotRequired[Diff | None]
    """
    What changes, for a policy.
    """
    digest: Digest
    """
    What a verdict must name.
    """
    expires: Timestamp
    """
    When it ends undecided.
    """
    grant: NotRequired[GrantView | None]
    """
    What would be granted, with its price, for a grant.
    """
    id: ApprovalId
    """
    The id.
    """
    kind: str
    """
    `policy` or `grant`.
    """
    livemode: bool
    """
    Whether this instance is live.
    """
    object: str
    """
    Always `approval`.
    """
    quorum: int
    """
    How many must agree.
    """
    reason: str
    """
    Why.
    """
    requester: PrincipalId
    """
    Who asked.
    """
    reviews: list[ReviewView]
    """
    The verdicts so far.
    """
    state: ApprovalState
    """
    Where it stands.
    """
    summary: str
    """
    What is asked for, in one line.
    """
    text: NotRequired[str | None]
    """
    The proposed file, for a policy.
    """


class Compared(TypedDict):
    """
    What one root credential showed.
    """

    foreign: int
    """
    Keys of other instances. They are never touched.
    """
    gone: list[GoneKey]
    """
    Keys that live by what is known here, and are gone there.
    """
    matching: int
    """
    Keys that live there and are known here.
    """
    root: RootId
    """
    The root credential.
    """
    state: str
    """
    `compared`; `no_list` where the vendor shows none; `unreachable` when it did not answer or refused.
    """
    trouble: NotRequired[str | None]
    """
    Why it is unreachable, in safe words.
    """
    unknown: list[UnknownKey]
    """
    Keys that live there under a name of this instance, and are not known here.
    """
    vendor: Name
    """
    The vendor.
    """


class Comparison(TypedDict):
    """
    What the vendors have against what is known here.
    """

    data: list[Compared]
    """
    One for each root credential.
    """
    object: str
    """
    Always `comparison`.
    """
    reconciling: bool
    """
    Whether the database is being reconciled.
    """


class EventList(TypedDict):
    """
    A page of events, newest first.
    """

    data: list[EventNotice]
    """
    The events.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    next: NotRequired[str | None]
    """
    Where they are. A page may be short, or empty, and yet have a next one.
    """
    object: str
    """
    Always `list`.
    """


class KeyStatus(TypedDict):
    """
    dekeys' own keys, without anything secret.
    """

    kek_created: Timestamp
    """
    When it was made.
    """
    kek_version: int
    """
    The version of the key-encryption key that seals.
    """
    kek_wraps: int
    """
    How often it may have wrapped.
    """
    object: str
    """
    Always `key_status`.
    """
    rekeying: bool
    """
    A second unseal key waits for its confirmation; both open the vault.
    """
    signing: list[SigningKeyView]
    """
    The keys that sign.
    """
    to_reseal: int
    """
    Values that an older one sealed and that are not sealed anew yet.
    """


class List10(TypedDict):
    """
    A page of a list.
    """

    data: list[VendorView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List12(TypedDict):
    """
    A page of a list.
    """

    data: list[PrincipalView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List2(TypedDict):
    """
    A page of a list.
    """

    data: list[Offer]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List6(TypedDict):
    """
    A page of a list.
    """

    data: list[OrphanView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List7(TypedDict):
    """
    A page of a list.
    """

    data: list[PaymentView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List8(TypedDict):
    """
    A page of a list.
    """

    data: list[PolicyView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """


class List9(TypedDict):
    """
    A page of a list.
    """

    data: list[ApprovalView]
    """
    The entries, newest first.
    """
    has_more: bool
    """
    Whether older ones follow.
    """
    object: str
    """
    Always `list`.
    """
    omitted: NotRequired[int]
    """
    How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    `security.forged_row` tells of it. Absent when there are none.
    """
