"""The clients: :class:`Dekeys`, and :class:`AsyncDekeys` with the same verbs as coroutines."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import httpx

from . import token as tokens
from .core import Call, Core, Grant, Steps, address, log, text_of, unique
from .errors import DekeysError, Refused, Unreachable, checked
from .keyfile import KeyFile
from .lease import Cache, Resolved
from .secret import Secret
from .signature import SessionAuth, SignatureAuth
from .token import Claims, Less, Narrowing, PublicKeys, Use
from .verifier import Verifier

if TYPE_CHECKING:
    from . import api

_T = TypeVar("_T")
_Path = str | os.PathLike[str]
#: A connection that broke before an answer came.
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.CloseError)


class Options(TypedDict, total=False):
    """What a client is made with."""

    #: Signs requests. Without it and ``key_file`` only public things can be asked for.
    key: KeyFile | None
    #: The path of a file of ``dekeys key new``.
    key_file: _Path | None
    #: The prim's own name: tokens pinned to others are then refused before a request.
    name: str | None
    #: Sign with the key once in five minutes and by HMAC in between; worth it for many requests to one server.
    sessions: bool
    #: Seconds until a request is given up; 30 if absent.
    timeout: float
    #: How many keys are kept at most; 10,000 if absent.
    cache_size: int


class _Client:
    """What both clients are made of."""

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        """A client of the server at ``url``; see :class:`Options`.

        Raises :class:`KeyFileError`, :class:`OSError` and :class:`ValueError`.
        """
        key, key_file = options.get("key"), options.get("key_file")
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(f"a client has no option {', '.join(sorted(unknown))}")
        self.url = address(url)
        if key is not None and key_file is not None:
            raise ValueError("give a key or a key file, not both")
        self._key = KeyFile.load(key_file) if key_file is not None else key
        self._core = Core(options.get("name"), Cache(options.get("cache_size", 10_000)))
        auth: httpx.Auth | None = None
        if self._key is not None:
            auth = SessionAuth(self._key, self.url) if options.get("sessions") else SignatureAuth(self._key)
        self._options: dict[str, Any] = {
            "auth": auth,
            "timeout": options.get("timeout", 30.0),
            "trust_env": False,
            "headers": {"accept": "application/json", "user-agent": "dekeys-python/0.1.0"},
        }

    @property
    def public_key(self) -> str | None:
        """The public half of the key that signs: what a grant names as its holder."""
        return self._key.public if self._key else None

    def _request(self, call: Call) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {call.bearer.expose()}"} if call.bearer else {}
        body = {} if call.body is None else {"json": call.body}
        return {"method": call.method, "url": f"{self.url}{call.path}", "headers": headers, **body}

    def _lost(self, error: httpx.HTTPError) -> Unreachable:
        never = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        return Unreachable(f"nothing answers at {self.url}" if never else f"{self.url} did not answer in time")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {self.public_key or 'no key'})"


class Dekeys(_Client):
    """A client that waits for its answers. May be used by several threads."""

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        super().__init__(url, **options)
        self._http = httpx.Client(**self._options)
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, str], Future[Resolved]] = {}

    __init__.__doc__ = _Client.__init__.__doc__

    def resolve(self, reference: str, token: str | Secret) -> Resolved:
        """Swaps an agent's token for a vendor's key.

        Within the lease the same token and reference need no request; several threads that want the same share one.
        Raises :class:`Refused`, :class:`TokenRefused` and :class:`Unreachable`.
        """
        text = text_of(token)
        with self._lock:
            found = self._core.cached(reference, text)
            if found:
                return found
            shared = self._under_way.get((reference, text))
            if shared is None:
                own: Future[Resolved] = Future()
                self._under_way[(reference, text)] = own
        if shared is not None:
            return shared.result()
        try:
            own.set_result(self._run(self._core.resolve(reference, text)))
        except BaseException as error:
            own.set_exception(error if isinstance(error, DekeysError) else Unreachable("the request was given up"))
            raise
        finally:
            with self._lock:
                del self._under_way[(reference, text)]
        return own.result()

    def resolve_all(self, references: Iterable[str], token: str | Secret) -> list[Resolved | Refused]:
        """Several keys with one token, in one request for up to 20. Each answer stands alone."""
        return self._run(self._core.resolve_all(unique(references), text_of(token)))

    def report(self, resolved: Resolved, status: int = 401) -> Any:
        """Tells dekeys that the vendor refuses the key: it looks, and makes another if the key is dead.

        Raises :class:`Unsupported` where the server is too old for it.
        """
        return self._run(self._core.report(resolved, status))

    def auth(self, reference: str, token: str | Secret) -> httpx.Auth:
        """Puts the vendor's key into requests of an ``httpx.Client``. A 401 is reported, and sent once more anew."""
        return _VendorAuth(self, reference, text_of(token))

    def keys(self) -> PublicKeys:
        """The instance's public keys; fetched anew every five minutes."""
        return self._run(self._core.keys())

    def pin(self, token: str | Secret, prim: str, *, ttl: float | timedelta = tokens.DEFAULT_PIN, **less: Unpack[Less]) -> Secret:
        """Narrows a token to one prim for at most five minutes: what is handed to that prim. See :func:`narrow`."""
        return self._with_keys(lambda keys: tokens.pin(token, keys, prim, ttl=ttl, **less))

    def narrow(self, token: str | Secret, **less: Unpack[Narrowing]) -> Secret:
        """Adds a block that allows less. See :func:`dekeys.narrow` for what it takes."""
        return self._with_keys(lambda keys: tokens.narrow(token, keys, **less))

    def verify(self, token: str | Secret, reference: str | None = None, **asked: Unpack[Use]) -> Claims:
        """Checks a token without asking the server about it. See :func:`dekeys.verify`; revocation is not seen."""
        return self._with_keys(lambda keys: tokens.verify(token, keys, reference, **asked))

    def verifier(self, *, max_age: float = 5.0, look: float = 1.0) -> Followed:
        """A verifier that follows the revocation feed every ``look`` seconds until it is closed.

        Keys of this client whose lease or grant ends are forgotten at once. The client's key must be of somebody
        enrolled. Raises :class:`Unsupported` where the server has no feed.
        """
        verifier = Verifier(self.keys(), max_age=max_age, on_end=self._core.ended)
        self._catch_up(verifier)
        return Followed(verifier, self, look)

    def _catch_up(self, verifier: Verifier) -> None:
        while True:
            path, headers = verifier.ask()
            try:
                answer = self._http.get(f"{self.url}{path}", headers=headers)
            except httpx.HTTPError as error:
                raise self._lost(error) from error
            if not verifier.take(*self._core.page(answer)):
                break
        if verifier.wants_keys:
            verifier.renew_keys(self._run(self._core.keys(anew=True)))

    def create_grant(self, ask: api.BuyAsk) -> Grant:
        """Asks for a grant that is free. One that has a price raises :class:`PaymentRequired`: use an x402 client."""
        return self._run(self._core.grant("/v1/grants", ask))

    def renew_grant(self, grant_id: str, ttl: str | None = None) -> Grant:
        """Prolongs a grant by ``ttl`` (``15m``) from now."""
        return self._run(self._core.grant(f"/v1/grants/{grant_id}/renew", {"ttl": ttl} if ttl else {}))

    def token(self, grant_id: str) -> Secret:
        """A token of this holder's grant that still lasts: a fresh one is fetched when the last is near its end."""
        return self._run(self._core.token(grant_id))

    def revoke_lease(self, lease_id: str, reason: str | None = None) -> api.Ended:
        """Gives a key back before its lease ends."""
        return self._run(self._core.end("leases", lease_id, reason))

    def revoke_grant(self, grant_id: str, reason: str | None = None) -> api.Ended:
        """Ends a grant: no token of it works any more, its keys are ended at their vendors."""
        return self._run(self._core.end("grants", grant_id, reason))

    def call(self, method: str, path: str, body: Any = None, *, bearer: Secret | None = None) -> Any:
        """Any other operation of ``/openapi.json``: signed, answered with JSON or raised as :class:`Refused`."""
        return self._send(Call(method, path, body, bearer, again=method == "GET"))

    def close(self) -> None:
        """Forgets all keys and closes the connections."""
        self._core.cache.clear()
        self._http.close()

    def __enter__(self) -> Dekeys:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _with_keys(self, work: Callable[[PublicKeys], _T]) -> _T:
        found: _T = self._run(self._core.with_keys(work))
        return found

    def _send(self, call: Call) -> Any:
        try:
            return checked(self._http.request(**self._request(call)))
        except httpx.HTTPError as error:
            if call.again and isinstance(error, _BROKEN):
                return self._send(replace(call, again=False))
            raise self._lost(error) from error

    def _run(self, steps: Steps[_T]) -> _T:
        try:
            call = next(steps)
            while True:
                try:
                    answer = self._send(call)
                except DekeysError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as done:
            found: _T = done.value
            return found


class AsyncDekeys(_Client):
    """A client for ``asyncio``; see :class:`Dekeys` for what each verb does."""

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        super().__init__(url, **options)
        self._http = httpx.AsyncClient(**self._options)
        self._under_way: dict[tuple[str, str], asyncio.Task[Resolved]] = {}

    __init__.__doc__ = _Client.__init__.__doc__

    async def resolve(self, reference: str, token: str | Secret) -> Resolved:
        """Swaps an agent's token for a vendor's key; concurrent calls for the same share one request."""
        text = text_of(token)
        found = self._core.cached(reference, text)
        if found:
            return found
        name = (reference, text)
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.ensure_future(self._run(self._core.resolve(reference, text)))
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._arrived(name, done))
        # One caller that gives up does not take the key from the others.
        return await asyncio.shield(task)

    def _arrived(self, name: tuple[str, str], task: asyncio.Task[Resolved]) -> None:
        self._under_way.pop(name, None)
        if not task.cancelled():
            task.exception()

    async def resolve_all(self, references: Iterable[str], token: str | Secret) -> list[Resolved | Refused]:
        """Several keys with one token, in one request for up to 20. Each answer stands alone."""
        return await self._run(self._core.resolve_all(unique(references), text_of(token)))

    async def report(self, resolved: Resolved, status: int = 401) -> Any:
        """Tells dekeys that the vendor refuses the key."""
        return await self._run(self._core.report(resolved, status))

    def auth(self, reference: str, token: str | Secret) -> httpx.Auth:
        """Puts the vendor's key into requests of an ``httpx.AsyncClient``; a 401 is reported and sent once more."""
        return _AsyncVendorAuth(self, reference, text_of(token))

    async def keys(self) -> PublicKeys:
        """The instance's public keys."""
        return await self._run(self._core.keys())

    async def pin(
        self, token: str | Secret, prim: str, *, ttl: float | timedelta = tokens.DEFAULT_PIN, **less: Unpack[Less]
    ) -> Secret:
        """Narrows a token to one prim for at most five minutes."""
        return await self._with_keys(lambda keys: tokens.pin(token, keys, prim, ttl=ttl, **less))

    async def narrow(self, token: str | Secret, **less: Unpack[Narrowing]) -> Secret:
        """Adds a block that allows less."""
        return await self._with_keys(lambda keys: tokens.narrow(token, keys, **less))

    async def verify(self, token: str | Secret, reference: str | None = None, **asked: Unpack[Use]) -> Claims:
        """Checks a token without asking the server about it."""
        return await self._with_keys(lambda keys: tokens.verify(token, keys, reference, **asked))

    async def verifier(self, *, max_age: float = 5.0, look: float = 1.0) -> AsyncFollowed:
        """A verifier that follows the revocation feed until it is closed."""
        verifier = Verifier(await self.keys(), max_age=max_age, on_end=self._core.ended)
        await self._catch_up(verifier)
        return AsyncFollowed(verifier, self, look)

    async def _catch_up(self, verifier: Verifier) -> None:
        while True:
            path, headers = verifier.ask()
            try:
                answer = await self._http.get(f"{self.url}{path}", headers=headers)
            except httpx.HTTPError as error:
                raise self._lost(error) from error
            if not verifier.take(*self._core.page(answer)):
                break
        if verifier.wants_keys:
            verifier.renew_keys(await self._run(self._core.keys(anew=True)))

    async def create_grant(self, ask: api.BuyAsk) -> Grant:
        """Asks for a grant that is free."""
        return await self._run(self._core.grant("/v1/grants", ask))

    async def renew_grant(self, grant_id: str, ttl: str | None = None) -> Grant:
        """Prolongs a grant."""
        return await self._run(self._core.grant(f"/v1/grants/{grant_id}/renew", {"ttl": ttl} if ttl else {}))

    async def token(self, grant_id: str) -> Secret:
        """A token of this holder's grant that still lasts."""
        return await self._run(self._core.token(grant_id))

    async def revoke_lease(self, lease_id: str, reason: str | None = None) -> api.Ended:
        """Gives a key back before its lease ends."""
        return await self._run(self._core.end("leases", lease_id, reason))

    async def revoke_grant(self, grant_id: str, reason: str | None = None) -> api.Ended:
        """Ends a grant."""
        return await self._run(self._core.end("grants", grant_id, reason))

    async def call(self, method: str, path: str, body: Any = None, *, bearer: Secret | None = None) -> Any:
        """Any other operation of ``/openapi.json``."""
        return await self._send(Call(method, path, body, bearer, again=method == "GET"))

    async def close(self) -> None:
        """Forgets all keys and closes the connections."""
        self._core.cache.clear()
        await self._http.aclose()

    async def __aenter__(self) -> AsyncDekeys:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _with_keys(self, work: Callable[[PublicKeys], _T]) -> _T:
        found: _T = await self._run(self._core.with_keys(work))
        return found

    async def _send(self, call: Call) -> Any:
        try:
            return checked(await self._http.request(**self._request(call)))
        except httpx.HTTPError as error:
            if call.again and isinstance(error, _BROKEN):
                return await self._send(replace(call, again=False))
            raise self._lost(error) from error

    async def _run(self, steps: Steps[_T]) -> _T:
        try:
            call = next(steps)
            while True:
                try:
                    answer = await self._send(call)
                except DekeysError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as done:
            found: _T = done.value
            return found


class _Vendor(httpx.Auth):
    """Carries a key into requests to its vendor's address, and to no other."""

    requires_request_body = True

    def _put(self, request: httpx.Request, key: Resolved) -> None:
        home = httpx.URL(key.base_url)
        if (request.url.scheme, request.url.host, request.url.port) != (home.scheme, home.host, home.port):
            raise ValueError(f"the key of {key.reference} belongs to {home.host}, not to {request.url.host}")
        request.headers.update(key.headers())
        params = key.params()
        if params:
            request.url = request.url.copy_merge_params(params)


class _VendorAuth(_Vendor):
    def __init__(self, client: Dekeys, reference: str, token: str) -> None:
        self._client, self._reference, self._token = client, reference, token

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.read()
        key = self._client.resolve(self._reference, self._token)
        self._put(request, key)
        answer = yield request
        if answer.status_code == 401:
            fresh = self._client._run(self._client._core.replaced(key, self._token, 401))
            if fresh:
                answer.read()
                self._put(request, fresh)
                yield request


class _AsyncVendorAuth(_Vendor):
    def __init__(self, client: AsyncDekeys, reference: str, token: str) -> None:
        self._client, self._reference, self._token = client, reference, token

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        await request.aread()
        key = await self._client.resolve(self._reference, self._token)
        self._put(request, key)
        answer = yield request
        if answer.status_code == 401:
            fresh = await self._client._run(self._client._core.replaced(key, self._token, 401))
            if fresh:
                await answer.aread()
                self._put(request, fresh)
                yield request


class _Outage:
    """Says once that the feed cannot be read, and once that it can again; in between it is tried without a word."""

    def __init__(self) -> None:
        self._lasts = False

    def begins(self, error: DekeysError) -> None:
        if not self._lasts:
            log.warning("the revocation feed cannot be read, so soon no token is good: %s", error)
        self._lasts = True

    def ends(self) -> None:
        if self._lasts:
            log.warning("the revocation feed can be read again")
        self._lasts = False


class Followed:
    """A :class:`Verifier` that a thread keeps up to date: :meth:`check` tokens, and :meth:`close` it in the end."""

    def __init__(self, verifier: Verifier, client: Dekeys, look: float) -> None:
        self.verifier = verifier
        self.check = verifier.check
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(client, look), daemon=True, name="dekeys-feed")
        self._thread.start()

    def _follow(self, client: Dekeys, look: float) -> None:
        outage = _Outage()
        while not self._stopped.wait(look):
            try:
                client._catch_up(self.verifier)
                outage.ends()
            except DekeysError as error:
                outage.begins(error)

    def close(self) -> None:
        """Stops following. Within ``max_age`` no token is good any more."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> Followed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncFollowed:
    """A :class:`Verifier` that a task keeps up to date. Checking is not a coroutine: it needs no request."""

    def __init__(self, verifier: Verifier, client: AsyncDekeys, look: float) -> None:
        self.verifier = verifier
        self.check = verifier.check
        self._task = asyncio.ensure_future(self._follow(client, look))

    async def _follow(self, client: AsyncDekeys, look: float) -> None:
        outage = _Outage()
        while True:
            await asyncio.sleep(look)
            try:
                await client._catch_up(self.verifier)
                outage.ends()
            except DekeysError as error:
                outage.begins(error)

    async def close(self) -> None:
        """Stops following."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def __aenter__(self) -> AsyncFollowed:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
