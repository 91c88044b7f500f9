"""A prim: it takes an agent's token, swaps it for the vendor's key, makes the call, and hands on the answer.

DEKEYS_ADDR=http://127.0.0.1:8402 DEKEYS_KEY_FILE=prim-echo.key python prim.py
"""

import json
import logging
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from dekeys import Dekeys, DekeysError, Refused, TokenRefused

URL = os.environ.get("DEKEYS_ADDR", "http://127.0.0.1:8402")
dekeys = Dekeys(URL, key_file=os.environ["DEKEYS_KEY_FILE"], name="prim-echo", sessions=True)
vendor = httpx.Client(timeout=30)


def echo(token: str) -> tuple[int, object]:
    reference = "dk://demo/echo:read"
    key = dekeys.resolve(reference, token)
    answer = vendor.get(key.url("/echo"), auth=dekeys.auth(reference, token))
    return answer.status_code, answer.json()


def refusal(error: Exception) -> tuple[int, object]:
    """What the agent is told: whose fault it is, and the request that dekeys' log knows. Never the key."""
    if isinstance(error, TokenRefused):
        return 401, {"code": error.reason, "detail": str(error)}
    if isinstance(error, Refused):
        told = {name: getattr(error, name) for name in ("code", "detail", "fix", "request_id", "retryable")}
        return error.status, told
    logging.error("%s", error)
    return 502, {"code": "unreachable", "detail": "the prim could not do it"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = 404, {"code": "not_found"}
        if self.path == "/echo":
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            try:
                status, body = echo(token)
            except (DekeysError, httpx.HTTPError) as error:
                status, body = refusal(error)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8500"))), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
