#!/usr/bin/env bash
# Installs Chromium for tests/e2e/test_browser.py unless a browser is installed:
#   bash tools/browser.sh
# If the script cannot install Chromium, it prints a message and exits with 0: the tests are then skipped, or fail if
# CI=true is set.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo 'installing chromium for the browser tests'
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo 'The browser tests are skipped: install Chromium; on Debian: apt-get install chromium' >&2
