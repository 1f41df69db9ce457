"""Whether a URL answers 200, for a container's health check: `python healthy.py http://127.0.0.1:8000/readyz`."""

import sys
import urllib.error
import urllib.request

try:
    # No proxy of the environment: the address is the container's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(sys.argv[1], timeout=5) as answer:
        sys.exit(answer.status != 200)
except (urllib.error.URLError, TimeoutError) as error:
    sys.exit(str(error))
