"""The part of curl that the documents use, for machines without curl. An unknown option is an error."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import httpx


def main() -> int:
    """curl's exit status: 0, 22 for an HTTP error with --fail, 7 if nothing answers."""
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    for name in ("--fail", "--silent", "--show-error", "--no-buffer", "--retry-all-errors"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--retry", type=int, default=0)
    parser.add_argument("--retry-delay", type=float, default=1)
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", "--data-binary", dest="data")
    parser.add_argument("url")
    options = parser.parse_args()
    if (options.data or "").startswith("@"):
        options.data = sys.stdin.read() if options.data == "@-" else Path(options.data[1:]).read_text(encoding="utf-8")
    headers = dict(header.split(": ", 1) for header in options.headers)
    method = options.method or ("GET" if options.data is None else "POST")
    for tries_left in range(options.retry, -1, -1):
        try:
            with httpx.stream(
                method, options.url, headers=headers, content=options.data, timeout=60, trust_env=False
            ) as response:
                for text in response.iter_text():
                    sys.stdout.write(text)
                    sys.stdout.flush()
        except httpx.TransportError as error:
            if not tries_left:
                sys.stderr.write(f"curl: (7) {error}\n")
                return 7
            time.sleep(options.retry_delay)
        else:
            return 22 if options.fail and response.is_error else 0
    return 7


if __name__ == "__main__":
    sys.exit(main())
