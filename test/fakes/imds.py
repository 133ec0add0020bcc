"""Stands for an instance's metadata (IMDSv2), as far as a spot machine's notice goes: a token for who PUTs for one, 401
without it, 404 until there is a notice. Written after the EC2 User Guide, not compared with an instance.

Usage: imds.py PORT NOTICE    the notice is the text of the file NOTICE, once that is there
"""

import http.server
import os
import sys

NOTICE = sys.argv[2]


class Metadata(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        known = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self.answer(200 if known else 400, "token-1")

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != "token-1":
            self.answer(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and os.path.exists(NOTICE):
            with open(NOTICE, encoding="utf-8") as file:
                self.answer(200, file.read())
        else:
            self.answer(404, "")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Metadata)
print(server.server_port, flush=True)
server.serve_forever()
