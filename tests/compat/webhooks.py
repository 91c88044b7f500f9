"""A receiver made of ready libraries: webhooks.py DEKEYS URL KEY_FILE

Makes a webhook at a running test instance with the command DEKEYS, has it send a ping, and checks what arrives with the
unmodified `standardwebhooks` and `http-message-signatures`. Writes the message to standard output as JSON, for
webhooks.mjs. Fails unless both libraries accept it, and refuse it with one byte changed.
"""

import base64
import http.server
import json
import queue
import subprocess
import sys
import threading

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

dekeys, url, key_file = sys.argv[1:4]
got = queue.Queue()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()
        got.put((dict(self.headers.items()), body, self.path))

    def log_message(self, *_):
        pass


def run(*arguments):
    command = [dekeys, *arguments, "--json", "--addr", url, "--key-file", key_file]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


class Resolver(HTTPSignatureKeyResolver):
    def __init__(self, public):
        raw = base64.b64decode(public.removeprefix("whpk_"))
        self.key = Ed25519PublicKey.from_public_bytes(raw)

    def resolve_public_key(self, key_id):
        return self.key


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/hook"
webhook = run("webhook", "create", address, "--type", "vault.*")
run("webhook", "test", webhook["id"])
headers, body, path = got.get(timeout=60)
lower = {name.lower(): value for name, value in headers.items()}

library = Webhook(webhook["secret"])
library.verify(body, lower)
try:
    library.verify(body + b" ", lower)
    sys.exit("standardwebhooks took a changed body")
except WebhookVerificationError:
    pass

request = requests.Request("POST", address, headers=headers, data=body).prepare()
verifier = HTTPMessageVerifier(
    signature_algorithm=algorithms.ED25519, key_resolver=Resolver(webhook["public_key"])
)
verified = verifier.verify(request)
covered = {name.strip('"') for result in verified for name in result.covered_components}
if not {"@method", "@authority", "@path", "content-digest"} <= covered:
    sys.exit(f"the RFC 9421 signature covers only {covered}")

print(json.dumps({"secret": webhook["secret"], "headers": lower, "body": body.decode()}))
