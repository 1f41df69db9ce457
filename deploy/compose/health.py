"""Health check of a container: exits with 0 if a URL responds with 200. `python health.py http://127.0.0.1:8000/readyz`"""

import sys
import urllib.error
import urllib.request

try:
    # The URL is the container's own, so a proxy from the environment does not apply.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(sys.argv[1], timeout=5) as response:
        sys.exit(response.status != 200)
except (urllib.error.URLError, TimeoutError) as error:
    sys.exit(str(error))
