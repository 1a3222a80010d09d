"""A receiver of webhooks on this machine.

`python tests/helpers/receiver.py 8080` prints what it gets and answers 200.
"""

import contextlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """An HTTP server on 127.0.0.1 that records requests.

    ``answers``: of the next requests, each (status, headers, seconds before the answer); then
    ``always``. Requests for /token get an access token.
    """

    def __init__(self, port=0):
        self.requests, self.answers, self.always = [], [], (200, {}, 0)
        self.tokens = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.answer(self)

            do_PUT = do_PATCH = do_POST  # noqa: N815 - names of http.server

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"https://localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
        if request.path == "/token":
            self.tokens += 1
            self.reply(request, 200, {}, json.dumps({"access_token": f"token-{self.tokens}"}))
            return
        self.requests.append((request.command, request.path, request.headers, body))
        status, headers, seconds = self.answers.pop(0) if self.answers else self.always
        time.sleep(seconds)
        self.reply(request, status, headers, "")

    @staticmethod
    def reply(request, status, headers, body):
        request.send_response(status)
        for key, value in {**headers, "Content-Length": len(body)}.items():
            request.send_header(key, str(value))
        request.end_headers()
        with contextlib.suppress(BrokenPipeError):  # who waited has given up
            request.wfile.write(body.encode())

    def close(self):
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    receiver = Receiver(int(sys.argv[1]))
    print(f"Receiving on {receiver.url}, end with Ctrl-C.", flush=True)
    seen = 0
    while True:
        for method, path, headers, body in receiver.requests[seen:]:
            print(
                method, path, f"Idempotency-Key: {headers.get('Idempotency-Key')}", body, flush=True
            )
            seen += 1
        time.sleep(0.1)
