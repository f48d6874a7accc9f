"""Transfers of large bodies: a few connections, one thread each, counting bytes.

Run as a program; prints one JSON line.

wrk reads 8 KiB at a time, so that the reader is the slow side of a 100 MiB download and the proxy's writes are small. This
client reads and writes as much as the kernel allows. A transfer that has begun is always finished, so every byte that the
proxy moved is counted.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import threading
import time

_READ_SIZE = 1 << 20
_TIMEOUT = 60.0


def read_head(connection: socket.socket) -> tuple[int, int]:
    """Return the body's length and the number of its bytes that came with the head. Raises RuntimeError unless it is a 200."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            raise RuntimeError(f"closed within the head: {head[:200]!r}")
        head += data
    end = head.index(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head[:end], re.IGNORECASE)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise RuntimeError(f"unexpected response: {head[:200]!r}")
    return int(length[1]), len(head) - end - 4


def transfer(connection: socket.socket, head: bytes, body: memoryview, buffer: memoryview) -> int:
    """Send one request with `body`, read the whole response, and return the size of both bodies."""
    connection.sendall(head)
    if body:
        connection.sendall(body)
    length, got = read_head(connection)
    while got < length:
        read = connection.recv_into(buffer)
        if not read:
            raise RuntimeError(f"closed after {got} of {length} bytes")
        got += read
    if got != length:
        raise RuntimeError(f"{got} bytes, but {length} were announced")
    return length if not body else len(body)


def main() -> None:
    """Read the arguments and transfer until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--upload", type=int, default=0, help="bytes of the request body; 0 makes it a GET")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--seconds", type=float, required=True, help="no transfer begins later than this")
    options = parser.parse_args()

    method = f"POST {options.path}" if options.upload else f"GET {options.path}"
    length = f"Content-Length: {options.upload}\r\n" if options.upload else ""
    head = f"{method} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\n{length}\r\n".encode()
    body = memoryview(bytes(options.upload))
    began = time.monotonic()
    results: list[int] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            with socket.create_connection(("127.0.0.1", options.port), timeout=_TIMEOUT) as connection:
                buffer = memoryview(bytearray(_READ_SIZE))
                while time.monotonic() < began + options.seconds:
                    results.append(transfer(connection, head, body, buffer))
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which fails the program.
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(options.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    seconds = time.monotonic() - began
    sys.stdout.write(json.dumps({"transfers": len(results), "bytes": sum(results), "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
