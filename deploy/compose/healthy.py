"""Whether a URL answers 200, for a container's health check: `python healthy.py http://127.0.0.1:8000/readyz`."""

import sys
import urllib.error
import urllib.request

try:
    with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:  # noqa: S310  the address is the image's own
        sys.exit(answer.status != 200)
except (urllib.error.URLError, TimeoutError) as error:
    sys.exit(str(error))
