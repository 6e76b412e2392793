#!/usr/bin/env bash
# Makes sure that PostgreSQL's server programs, redis-server and nginx are installed, for tests that start private ones.
# What is missing is installed where that is possible (Debian, as root), but never started: the tests bring their own.
set -uo pipefail

policy=/usr/sbin/policy-rc.d
log=$(mktemp "${TMPDIR:-/tmp}/tuwen-services.XXXXXX")
trap 'rm -f "$log"' EXIT

fail() {
  printf 'tuwen: %s\n' "$1" >&2
  exit 1
}

has_postgres() {
  local initdb
  for initdb in $(command -v initdb) /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] && return
  done
  return 1
}

missing() {
  has_postgres || printf ' postgresql'
  command -v redis-server >/dev/null || printf ' redis-server'
  PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx >/dev/null || printf ' nginx-light'
}

# Debian asks policy-rc.d before a package starts its service; 101 is no. One that the machine's owner wrote stays.
without_starting() {
  local ours= status
  if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
  fi
  DEBIAN_FRONTEND=noninteractive "$@" >>"$log" 2>&1
  status=$?
  [ -n "$ours" ] && rm -f "$policy"
  return $status
}

packages=$(missing)
[ -z "$packages" ] && exit 0
install="apt-get install --yes --no-install-recommends$packages"
command -v apt-get >/dev/null || fail "these are not installed:$packages; install them, the tests start private ones"
[ "$(id -u)" = 0 ] || fail "these are not installed:$packages; run \`sudo $install\`, the tests start private ones"
echo "tuwen: installing$packages"
apt-get update >>"$log" 2>&1  # should it fail, what is known already may do
# shellcheck disable=SC2086  # several words
without_starting $install || fail "apt-get could not install$packages: $(grep '^E:' "$log" | tail -n 1)"
packages=$(missing)
[ -z "$packages" ] || fail "apt-get installed$packages, but the programs are not where they are looked for"
