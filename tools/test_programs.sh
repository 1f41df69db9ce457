#!/usr/bin/env bash
# Installs the programs that some tests need, unless they are installed: a browser, an MQTT broker and two proxies.
#   bash tools/test_programs.sh
# If the script cannot install them, it prints a message and exits with 0: the tests are then skipped, or fail if
# CI=true is set.
set -euo pipefail
PATH=$PATH:/usr/sbin
has() { command -v "$1" >/dev/null; }
missing=()
has chromium || has chromium-browser || has google-chrome || missing+=(chromium)
has mosquitto || missing+=(mosquitto)
has nginx || missing+=(nginx-light)
has caddy || missing+=(caddy)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && has apt-get; then
  echo "installing ${missing[*]} for the tests"
  apt-get update -qq
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then  # the tests start the programs themselves
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && exit 0
fi
echo "Some tests are skipped: install ${missing[*]}; on Debian: apt-get install ${missing[*]}" >&2
