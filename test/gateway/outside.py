"""Attacks a gateway from another machine. Standard library only.

outside.py scan HOST              prints the open TCP ports
outside.py send HOST PORT [TLS]   reads requests on standard input, one base64 text a line, and prints the status of
                                  each answer, 0 for a connection that was closed without one
"""

from __future__ import annotations

import base64
import re
import selectors
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 400


def scan(host: str) -> list[int]:
    found, waiting, ports = [], 0, iter(range(1, 65536))
    selector = selectors.DefaultSelector()
    is_over = False
    while not is_over or waiting:
        while waiting < AT_ONCE and not is_over:
            port = next(ports, None)
            if port is None:
                is_over = True
                break
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex((host, port))
            selector.register(connection, selectors.EVENT_WRITE, port)
            waiting += 1
        for key, _ in selector.select(5):
            if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(key.data)
            selector.unregister(key.fileobj)
            key.fileobj.close()
            waiting -= 1
    return sorted(found)


def send(host: str, port: int, tls: bool, request: bytes) -> int:
    try:
        connection: socket.socket = socket.create_connection((host, port), timeout=8)
        if tls:
            connection = ssl._create_unverified_context().wrap_socket(connection)
        connection.sendall(request)
        answer = b""
        while b"\r\n" not in answer:
            data = connection.recv(4096)
            if not data:
                break
            answer += data
        connection.close()
    except OSError:
        return 0
    status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return int(status.group(1)) if status else 0


def main(verb: str, host: str, *more: str) -> None:
    if verb == "scan":
        print(*scan(host))
        return
    requests = [base64.b64decode(line) for line in sys.stdin]
    with ThreadPoolExecutor(4) as pool:
        print(*pool.map(lambda request: send(host, int(more[0]), len(more) > 1, request), requests))


if __name__ == "__main__":
    main(*sys.argv[1:])
