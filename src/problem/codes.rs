//! The table of codes. Adding one is adding a row; tests see that it is complete.

use super::Code;

macro_rules! codes {
    ($($name:ident = $status:literal $exit:literal $retryable:literal $code:literal $title:literal
        cause $cause:literal
        fix $fix:literal
        example $example:literal;)*) => {
        $(
            #[doc = $cause]
            pub const $name: &Code = &Code {
                code: $code,
                status: $status,
                title: $title,
                retryable: $retryable,
                exit: $exit,
                cause: $cause,
                fix: $fix,
                example: $example,
            };
        )*

        /// Every code, in the order of the documentation.
        pub static CODES: &[Code] = &[$(*$name),*];
    };
}

// HTTP status, exit code, retryable, code, title.
codes! {
    // what was sent
    INVALID_JSON = 400 2 false "invalid_json" "the body is not JSON"
        cause "The body could not be read as JSON, or a key stands in it twice."
        fix "Send JSON in UTF-8 with `Content-Type: application/json`."
        example "expected `,` or `}` at line 1, column 17";
    UNSUPPORTED_MEDIA_TYPE = 415 2 false "unsupported_media_type" "the body has the wrong type"
        cause "The `Content-Type` is not the one this address reads."
        fix "Send `Content-Type: application/json`."
        example "the body is `text/plain`; this address reads `application/json`";
    BODY_TOO_LARGE = 413 2 false "body_too_large" "the body is too large"
        cause "The request body is longer than the server reads."
        fix "Send less, or raise `limits.body` in the configuration."
        example "the body has 300000 bytes; at most 262144 are read";
    UNKNOWN_PARAMETER = 400 2 false "unknown_parameter" "there is no such parameter"
        cause "A query parameter is not known here. Nothing is ignored, since a misspelt filter would answer too much."
        fix "Use the name that `detail` suggests, or leave it out."
        example "`vendr` is not a parameter here; did you mean `vendor`?";
    UNKNOWN_FIELD = 400 2 false "unknown_field" "there is no such field"
        cause "A field of the body is not known here. Nothing is ignored, since a misspelt limit would be no limit."
        fix "Use the name that `detail` suggests, or leave it out."
        example "`max_resolve` is not a field here; did you mean `max_resolves`?";
    INVALID_REQUEST = 422 2 false "invalid_request" "the request is not valid"
        cause "The request could be read, but a value in it cannot be used. `errors` has one entry for each."
        fix "Correct the fields that `errors` names."
        example "`ttl` must be a span of time such as `15m`";
    POLICY_INVALID = 422 2 false "policy_invalid" "the policy file has errors"
        cause "The policy file cannot be used. `errors` has one entry for each mistake, with line, column and fix."
        fix "Correct the lines, and try with `dekeys policy validate FILE` first."
        example "2 errors: line 11: 31days is too long: the most is 30 days";
    MANIFEST_INVALID = 422 2 false "manifest_invalid" "the vendor manifest has errors"
        cause "The manifest of a vendor cannot be used. `errors` has one entry for each mistake."
        fix "Correct the lines that `errors` names."
        example "line 14: `create.path` must begin with `/`";
    RECEIPT_INVALID = 422 1 false "receipt_invalid" "the receipt is not valid"
        cause "A byte of the receipt was changed, it is incomplete, or another instance signed it."
        fix "Fetch the receipt again from the instance that issued it, and check it with that instance's public key."
        example "the signature does not fit the event in the receipt";
    // where it was sent
    NOT_FOUND = 404 3 false "not_found" "there is no such thing"
        cause "The address or the id does not exist, or it belongs to somebody else: both are answered alike."
        fix "Check the id, and that you act as its owner (`dekeys whoami`)."
        example "there is no grant `grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3`";
    EVENT_GONE = 410 1 false "event_gone" "the place to go on from is not in the log"
        cause "The event named by `Last-Event-ID` or `starting_after` is older than what the log keeps, or of another instance."
        fix "Begin anew without it, and read with `since` what was missed."
        example "the log of this instance does not hold the event to go on after";
    METHOD_NOT_ALLOWED = 405 1 false "method_not_allowed" "the method does not fit the address"
        cause "The address exists, but not with this method."
        fix "Use a method of the `Allow` header."
        example "`/v1/resolve` takes POST";
    BODY_TIMEOUT = 408 10 true "body_timeout" "the request did not arrive in time"
        cause "The body of the request did not arrive within `limits.body_timeout`. Nothing was done."
        fix "Send the request again."
        example "the body did not arrive in time";
    REQUEST_TIMEOUT = 504 10 true "request_timeout" "the work takes too long"
        cause "The work on the request takes longer than `limits.request_timeout`: a vendor or the database is slow. What changes something is never broken off; it goes on, and its outcome is in the events. Reading is broken off."
        fix "Look how it ended before you repeat it (`dekeys grant ls`, `dekeys audit tail`). With the same `Idempotency-Key` or the same payment nothing is done or charged twice."
        example "the work takes longer than 1m; what was begun goes on here";
    PATH_AMBIGUOUS = 400 2 false "path_ambiguous" "the path could mean two things"
        cause "A path to forward holds dot segments, empty segments, `;`, or encoded characters that mean something in a path. Two servers could read two paths in it, so it is not sent."
        fix "Send the path in its plain spelling."
        example "the path is not plain: a segment is `.` or `..`";
    PATH_NOT_ALLOWED = 403 5 false "path_not_allowed" "this may not be forwarded"
        cause "Only what the vendor's manifest allows is forwarded, method and path; key management never is."
        fix "Use a path that `GET /v1/vendors/{name}` lists under `allow`; the operator can connect a manifest that allows more."
        example "the manifest of `openai` lets no request with this method and path be forwarded";
    WRONG_MODE = 403 5 false "wrong_mode" "this cannot be done in this mode"
        cause "A live instance refuses what only tests may do, and a test instance never touches the world."
        fix "Use an instance of the other mode; the mode is fixed by `dekeys init`."
        example "`base_url` can be set in test instances only";
    // who sent it
    UNAUTHENTICATED = 401 4 false "unauthenticated" "nobody has signed in"
        cause "The request carries neither a token nor a signature, and this address needs one."
        fix "Send the token in `Authorization: Bearer`, or sign the request (`dekeys login`)."
        example "this address needs a token or a signature";
    INVALID_TOKEN = 401 4 false "invalid_token" "the token is not accepted"
        cause "The token is forged, expired, revoked, or of another instance. These are answered alike, so that nobody can learn from the answer."
        fix "Get a fresh token for the grant, or buy a new grant. `dekeys token inspect` shows when yours ends."
        example "the token is not accepted here";
    TOKEN_EXPIRED = 401 4 false "token_expired" "the token has expired"
        cause "Only the command line says so, since it reads the token itself; the server answers `invalid_token`."
        fix "Get a fresh token for the grant (`dekeys grant token ID`); while the grant lives it is free."
        example "the token was valid from 20:31:07 to 20:46:07 UTC, 3 min ago";
    SIGNATURE_REQUIRED = 401 4 false "signature_required" "the request must be signed"
        cause "This address needs an HTTP message signature (RFC 9421) by a registered key, or a session."
        fix "Sign the request with your Ed25519 key; the command line does so with `--key-file`."
        example "resolving needs the prim's signature or session";
    SIGNATURE_INVALID = 401 4 false "signature_invalid" "the signature is not valid"
        cause "The signature does not fit the request, or it covers too little."
        fix "Sign method, address, `content-digest` and `authorization` of this very request with the registered key."
        example "the signature does not fit the request or its key";
    CLOCK_SKEW = 401 4 false "clock_skew" "the clocks differ too much"
        cause "The signature was made more than 60 s ago, or more than 30 s ahead, by this server's clock; `detail` has its time. A payment of another time is `payment_invalid`, since its terms are then sent anew."
        fix "Set the clock of the machine that signs (`timedatectl set-ntp true`); `/readyz` says whether the server's was set back."
        example "the signature was made more than 60 s ago or more than 30 s ahead; here it is 2026-11-20T20:31:07Z";
    SIGNATURE_REPLAYED = 401 4 false "signature_replayed" "the signature was used before"
        cause "Each signature is accepted once. Somebody, maybe a proxy that repeats requests, sent this one again."
        fix "Sign again with a new nonce."
        example "the nonce of this signature was used 2 s ago";
    SESSION_OVER = 401 4 false "session_over" "the session is over"
        cause "Sessions live for 5 minutes, in the memory of one server process; their counters only go up."
        fix "Open a new session with `POST /v1/sessions`."
        example "the session `ses_01KAG4C1B2T5Q3V7X9Z0A1B2C3` has ended";
    KEY_FILE_INVALID = 500 4 false "key_file_invalid" "the key file cannot be used"
        cause "The file does not hold an Ed25519 private key, or others may read it."
        fix "Make one with `dekeys key new FILE`, and let only its owner read it."
        example "`ada.key` is not a key file";
    // what they may do
    NOT_ALLOWED = 403 5 false "not_allowed" "you may not do this"
        cause "You are known, but your kind or role does not allow this."
        fix "Ask an operator, or sign in as somebody who may."
        example "only operators connect vendors; ada is a human";
    BEARER_REFUSED = 403 5 false "bearer_refused" "an unsigned token is not taken here"
        cause "The token came without a signature. It is taken unsigned only by the proxy, where the policy says `bearer`, for a grant without a holder's key, and for the time that the policy says: whoever has such a token can use it."
        fix "Sign the request with the holder's key, get a fresh token for the grant, or ask for a policy with `bearer` under `[forward]`."
        example "policy `openai-readers` takes an unsigned token for 15m from its making; that is over";
    INSUFFICIENT_SCOPE = 403 5 false "insufficient_scope" "the token does not allow this"
        cause "The grant or a block that was added to the token leaves this out. `detail` names the block."
        fix "Use the token as it was before it was narrowed, or ask for a grant that has this scope."
        example "block 1 narrowed the token to stripe/charges:read; stripe/refunds:write was asked for";
    POLICY_DENIED = 403 5 false "policy_denied" "no policy allows this"
        cause "Policies for the vendor are in force, but each refuses this request. `detail` names the rule that decided."
        fix "Ask for what the rule allows, or propose a change of the policy (`dekeys policy explain`)."
        example "openrouter-readers v3, grant.max_ttl: a grant lives 1h at most; 2h was asked for";
    POLICY_NOT_APPROVED = 403 7 false "policy_not_approved" "no approved policy covers this"
        cause "There is no policy in force for this vendor and scope; one may be waiting for approval."
        fix "Wait for the approval (`dekeys grant create … --wait 1h`), or propose a policy."
        example "a change of openai-readers to v4 waits for 1 more approval (apr_01KAG4C1B2T5Q3V7X9Z0A1B2C3)";
    USED_UP = 403 5 false "used_up" "the grant is used up"
        cause "All resolves of the grant were used."
        fix "Buy another grant, with a larger `max_resolves` if the policy allows it."
        example "500 of 500 resolves were used";
    GRANT_EXPIRED = 410 3 false "grant_expired" "the grant is over"
        cause "The grant has expired or was revoked; its tokens and leases ended with it."
        fix "Buy a new grant."
        example "the grant expired at 20:46:07 UTC";
    LEASE_OVER = 410 3 false "lease_over" "the lease is over"
        cause "The lease has ended and its key was revoked."
        fix "Resolve again; while the grant lives a new lease is made."
        example "the lease ended at 20:46:07 UTC";
    // how often
    RATE_LIMITED = 429 10 true "rate_limited" "slow down"
        cause "More requests than the policy or the server allows in this span. The limit survives restarts."
        fix "Keep the key for its lease instead of resolving on each request; try again after `Retry-After`."
        example "61st resolve in this minute; openai-readers v4 allows 60/min; the next is free in 12 s";
    TOO_MANY_LEASES = 429 10 true "too_many_leases" "too many leases are alive"
        cause "As many leases are alive as the policy allows at once."
        fix "End leases you no longer need (`dekeys lease revoke`), or wait until one ends."
        example "20 of 20 leases of openai-readers are alive; the next ends in 40 s";
    BUDGET_REACHED = 429 10 true "budget_reached" "the budget is reached"
        cause "The payer has paid in this span, or the grant's keys may cost at their vendor, as much as the policy allows."
        fix "Wait until the span is over, or get another grant; a higher limit needs a change of the policy."
        example "5.00 USDC of 5.00 USDC were paid in the last 24 hours";
    // payment
    PAYMENT_CREDITED = 502 10 true "payment_credited" "paid, and kept as credit"
        cause "The payment was settled, but what it paid for could not be made. Nothing is lost: the payer has credit, which pays for the next grant."
        fix "Ask again without a payment, signed by the payer's key or with its wallet's proof in `SIGN-IN-WITH-X`: the credit pays. Do not pay again."
        example "0.01 USDC were paid, and are kept as credit: vendor `openrouter`: it did not answer within 10 s";
    PAYMENT_REQUIRED = 402 6 true "payment_required" "payment required"
        cause "What was asked for has a price. The `PAYMENT-REQUIRED` header has the terms (x402 v2)."
        fix "Repeat the request with the same `Idempotency-Key` and a `PAYMENT-SIGNATURE` header (x402 v2)."
        example "openai/chat:write for 15 min costs 0.01 USDC on eip155:84532";
    PAYMENT_INVALID = 402 6 false "payment_invalid" "the payment is not valid"
        cause "The `PAYMENT-SIGNATURE` header cannot be read, or its signature, account, token or network does not fit the terms. Nothing was charged."
        fix "Sign again for the terms in the `PAYMENT-REQUIRED` header of this answer."
        example "the authorization pays 0x857b…6b66; the terms name another account";
    PAYMENT_AMOUNT_MISMATCH = 402 6 false "payment_amount_mismatch" "the payment is not the price"
        cause "The amount signed is not the price of this moment. Nothing was charged."
        fix "Sign again for the amount in this answer, or set a cap with `--max-price`."
        example "5000 was signed, the price is 10000 atomic USDC";
    PAYMENT_REFUSED = 402 6 false "payment_refused" "the payment was refused"
        cause "The payment was well formed, but it was not settled: the account has too little, or the authorization was cancelled. Nothing was charged."
        fix "Fill the account and sign a new authorization."
        example "the account holds less than 0.01 USDC";
    PAYMENT_REPLAYED = 409 9 false "payment_replayed" "the payment was used before"
        cause "This authorization has paid for another request."
        fix "Sign a new authorization; each pays once."
        example "the authorization paid for grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3";
    PAYMENT_CONFLICT = 409 9 false "payment_conflict" "the payment belongs to another request"
        cause "An authorization was sent with another request or signer before, is bound to another, or is of a wallet on record with somebody else."
        fix "Repeat exactly the first request with the same signature key, or sign a new authorization; a wallet on record pays for its own principal's keys, or bound to the request."
        example "the same authorization came with another body";
    PAYMENT_UNKNOWN = 202 10 true "payment_unknown" "we do not know yet whether the payment went through"
        cause "The settlement did not answer. Do not sign again: you could pay twice. dekeys keeps asking."
        fix "Repeat the request with the same `Idempotency-Key`, or look at the grant (`dekeys grant show`)."
        example "the settlement did not answer within 10 s; we ask again every 5 s";
    PAYMENT_UNAVAILABLE = 503 10 true "payment_unavailable" "payments cannot be taken now"
        cause "The payment rail is off or does not answer. Nothing was charged."
        fix "Try again later; operators see why in the log."
        example "the payment rail does not answer";
    // approval
    APPROVAL_PENDING = 202 7 true "approval_pending" "people are deciding"
        cause "The policy asks people before it grants. Nothing was paid."
        fix "Wait: the `Location` header has the request; or use `--wait`."
        example "apr_01KAG4C1B2T5Q3V7X9Z0A1B2C3 has 1 of 2 approvals";
    APPROVAL_DENIED = 403 7 false "approval_denied" "the request was denied"
        cause "Somebody who decides has said no. The comment says why."
        fix "Read the comment (`dekeys approval show`), change the request, and ask again."
        example "grace denied it: ask for reading only";
    APPROVAL_CLOSED = 409 9 false "approval_closed" "the request is closed"
        cause "It was approved, denied, cancelled, or has expired; votes no longer count."
        fix "Look at the outcome (`dekeys approval show`); ask anew if it is still needed."
        example "apr_01KAG4C1B2T5Q3V7X9Z0A1B2C3 expired at 20:31:07 UTC";
    SELF_APPROVAL = 403 5 false "self_approval" "you cannot approve your own request"
        cause "Whoever asks does not decide, unless the instance was made with `--solo`."
        fix "Ask another approver."
        example "ada asked for this change";
    DIGEST_MISMATCH = 412 9 false "digest_mismatch" "the request changed while you were reading"
        cause "Your verdict names the digest of what you saw; the request is another one now. Your vote was not counted."
        fix "Read it again (`dekeys approval show`), then decide."
        example "you approved b3:9f2c41aa07, it is now b3:c07e1b2d94";
    COUNT_CHANGED = 412 9 false "count_changed" "the number changed since you counted"
        cause "You confirmed how many leases are to be ended, and it is another number now. Nothing was ended."
        fix "Count again, look at what changed, and confirm the new number."
        example "41 were confirmed, and 43 are meant now; nothing was ended";
    ALREADY_VOTED = 409 9 false "already_voted" "you have voted already"
        cause "Each approver has one verdict for each request."
        fix "Nothing to do; to withdraw a request, cancel it."
        example "ada approved 2 min ago";
    // vendors
    VENDOR_NOT_CONNECTED = 502 1 false "vendor_not_connected" "the vendor is not connected"
        cause "dekeys has no root credential for the vendor, so it cannot make keys there."
        fix "An operator connects it: `dekeys vendor connect VENDOR`."
        example "there is no root credential for stripe";
    VENDOR_REFUSED = 502 1 false "vendor_refused" "the vendor refused"
        cause "The vendor answered that it will not do this. Repeating it will not help."
        fix "Test the root credential (`dekeys vendor test VENDOR`): it may have been revoked or may lack a permission."
        example "openrouter refused to make a key: status 403";
    VENDOR_UNAVAILABLE = 503 10 true "vendor_unavailable" "the vendor cannot be reached"
        cause "The vendor did not answer, answered with an error of its own, or asks to slow down."
        fix "Try again after `Retry-After`, with the same `Idempotency-Key`."
        example "openrouter did not answer within 10 s";
    ROTATION_FAILED = 502 10 true "rotation_failed" "the key was not rotated"
        cause "The vendor did not make another key, or did not take the one it made. The key in use was not touched, and a new one that was made is ended."
        fix "Try again when the vendor is well (`dekeys vendor test NAME`); a key that is due is tried again by itself, and `dekeys credential ls --due` shows the trouble."
        example "vendor `openrouter`: OpenRouter answered 503; the key in use was not touched";
    REVOCATION_FAILED = 202 10 true "revocation_failed" "the vendor does not confirm the revocation"
        cause "The key may still work at the vendor. dekeys tries again for 30 days and raises an alarm after 15 minutes."
        fix "Delete the key at the vendor by hand if it is urgent; dekeys notices."
        example "the vendor answered with an error three times";
    // the vault
    VAULT_SEALED = 503 8 true "vault_sealed" "the vault is sealed"
        cause "Stored keys cannot be used until a key holder unseals the vault."
        fix "Unseal it: `dekeys unseal`; at boot, give the unseal key to the service (`unseal_key_file`)."
        example "sealed 2 min ago by ada";
    RECONCILING = 503 8 true "reconciling" "the database is being reconciled with the vendors"
        cause "The database is a copy, was rolled back, or was restored from a backup: it may not know of keys that live. Nothing is released, made or ended before an operator has compared it with the vendors."
        fix "An operator compares and decides: `dekeys reconcile`."
        example "this database was restored from a backup";
    NOT_INITIALIZED = 501 8 false "not_initialized" "this instance is not initialised"
        cause "The database is empty: there is no vault yet."
        fix "Run `dekeys init` on this machine."
        example "the database has no instance";
    UNSEAL_KEY_INVALID = 400 1 false "unseal_key_invalid" "the unseal key is wrong"
        cause "The key or passphrase does not open this vault. Nothing changed."
        fix "Look for the key that was made with this instance; its file names the instance."
        example "the key is well formed, but of another vault";
    ALREADY_UNSEALED = 409 9 false "already_unsealed" "the vault is open already"
        cause "Unsealing a vault that is open does nothing, and the key is not looked at."
        fix "Nothing to do; `dekeys seal` closes it."
        example "unsealed since 17 Nov 16:20";
    ALREADY_INITIALIZED = 409 9 false "already_initialized" "this instance exists already"
        cause "`init` makes an instance once; a second one would lose the keys of the first."
        fix "Use another data directory or database for another instance."
        example "ins_01KAG4C1B2T5Q3V7X9Z0A1B2C3 was made on 17 Nov";
    INTEGRITY_FAILED = 500 1 false "integrity_failed" "a stored row is not authentic"
        cause "A row that decides who gets a key was changed outside dekeys. It is not believed, and an alarm is raised."
        fix "An operator compares the audit log (`dekeys audit verify`) and restores a backup."
        example "the grant grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3 does not fit its authentication code";
    BACKUP_INVALID = 422 1 false "backup_invalid" "the backup is not sound"
        cause "The file is no backup of this instance, was cut or altered, or holds something that does not open. Nothing was changed."
        fix "Take another one (`dekeys backup ls`), and find out what happened to this one."
        example "this backup is cut short: it ends after chunk 17";
    BACKUP_FAILED = 503 10 true "backup_failed" "the backup could not be made or read"
        cause "The folder or the file cannot be read or written."
        fix "See that `backup.folder` is there, writable, and not full."
        example "the file cannot be read or written: No space left on device";
    // doing it twice
    IDEMPOTENCY_MISMATCH = 422 9 false "idempotency_mismatch" "the idempotency key was used for another request"
        cause "The same `Idempotency-Key` came with a different body."
        fix "Use a new key for a new request; repeat a request without changing it."
        example "the key was used 2 min ago for another body";
    IDEMPOTENCY_RUNNING = 409 10 true "idempotency_running" "the first request is still running"
        cause "A request with the same `Idempotency-Key` has not ended."
        fix "Wait and repeat it unchanged."
        example "the first request began 2 s ago";
    CONFLICT = 409 9 false "conflict" "it changed in the meantime"
        cause "Somebody else changed the same thing first, or it exists already."
        fix "Look at it again, then repeat what is still needed."
        example "a principal named `ada` exists already";
    // the machine
    OVERLOADED = 503 10 true "overloaded" "the server is busy"
        cause "More is waiting than the server takes on. Nothing was done."
        fix "Try again after `Retry-After`."
        example "the queue is full";
    DATABASE_LOCKED = 503 10 true "database_locked" "the database is locked"
        cause "Another program holds the lock of the SQLite file; dekeys never needs it that long."
        fix "End that program, or move to PostgreSQL."
        example "waited 5 s for the lock";
    DATABASE_FULL = 503 1 false "database_full" "the disk is full"
        cause "The database cannot grow, so nothing can be recorded, and without a record no key is released."
        fix "Make room on the disk that holds the data directory."
        example "the disk of /var/lib/dekeys is full";
    MIGRATION_MISMATCH = 503 1 false "migration_mismatch" "the database is newer than this binary"
        cause "Starting could damage it, so nothing was written."
        fix "Install the version that wrote it, or restore a backup."
        example "the database has migration 10, this binary knows 9";
    PORT_IN_USE = 500 1 false "port_in_use" "the port is taken"
        cause "Another program listens on the address."
        fix "Use the one that runs (`dekeys status`), stop it, or give another `--listen`."
        example "127.0.0.1:8402 is taken";
    CONFIG_INVALID = 500 2 false "config_invalid" "the configuration is not valid"
        cause "A key does not exist or a value cannot be used. Each is named with its origin and fix."
        fix "Correct them; `dekeys config show` prints every value and where it came from."
        example "dekeys.toml:3: `listne`: there is no such key; did you mean `listen`?";
    UNREACHABLE = 500 10 true "unreachable" "the server cannot be reached"
        cause "Nothing answers as dekeys at the address."
        fix "Start it (`dekeys serve`), or name another address with `--addr`."
        example "127.0.0.1:8402 refused the connection";
    INTERNAL = 500 1 false "internal" "something is wrong in dekeys"
        cause "An error nobody foresaw. It is in the log under the request id."
        fix "Report it with the request id; operators find the cause in the log."
        example "the request could not be finished";
}
