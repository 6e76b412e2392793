#!/usr/bin/env bash
# Makes .venv and installs what is pinned: `tools/setup.sh run` what the gateway needs, `tools/setup.sh test` what its
# tests and checks need besides, `tools/setup.sh vendors` the vendors' own SDKs. What can go wrong on a fresh machine ends in one line that says what to do about it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

venv=.venv
log=$venv/setup.log

fail() {
  printf 'tuwen: %s\n' "$1" >&2
  exit 1
}

# Prints the name of the first Python that is new enough; PYTHON names one to use instead.
find_python() {
  local name old=
  # shellcheck disable=SC2086  # PYTHON may hold several words
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    command -v "$name" >/dev/null || continue
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      printf '%s\n' "$name"
      return
    fi
    old=${old:-"$name is $("$name" -c 'import platform; print(platform.python_version())')"}
  done
  [ -n "$old" ] && fail "Python 3.11 or newer is needed, but $old: install a newer one beside it, then run \`make run PYTHON=/path/to/python3.12\`"
  fail "Python 3.11 or newer is needed, and ${PYTHON:-python3} was not found: apt install python3 python3-venv"
}

make_venv() {
  [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null && return
  local python package said
  python=$(find_python) || exit 1
  if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    case $python in python3.*) package=$python-venv ;; *) package=python3-venv ;; esac
    fail "$python cannot make virtual environments, because a Debian package is missing: apt install $package"
  fi
  said=$("$python" -m venv --clear "$venv" 2>&1) || fail "$python could not make $venv: ${said##*$'\n'}"
}

# Says in one line what pip's log means.
explain() {
  local package
  if grep -qE "No space left on device" "$log"; then
    fail "the disk is full; the packages need about 1 GB in $venv"
  elif grep -qE "NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|SSLError|Max retries exceeded" "$log"; then
    fail "pip cannot reach its package index; check the network and any proxy, then try again (see $log)"
  elif grep -q "DO NOT MATCH THE HASHES" "$log"; then
    fail "a downloaded package is not the one that was pinned; the index or a proxy altered it (see $log)"
  elif grep -qE "Failed building wheel|Failed to build|Could not build wheels|metadata-generation-failed" "$log"; then
    package=$(sed -nE "s/.*(Failed building wheel for|Failed to build) '?([A-Za-z0-9_.-]+)'?.*/\2/p" "$log" | head -n 1)
    fail "${package:-a package} has no ready-made wheel for this Python and machine, and building it failed; usually a compiler is missing: apt install gcc g++ python3-dev (see $log)"
  fi
  fail "pip failed: $(grep -E '^ERROR' "$log" | tail -n 1 | cut -c 1-200) (see $log)"
}

# pip's own talk goes to the log; a terminal sees the name of the package at hand.
pip_install() {
  local line
  : >"$log"
  PIP_USER=0 "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" 2>&1 |
    while IFS= read -r line; do
      printf '%s\n' "$line" >>"$log"
      [ -t 1 ] && [[ $line == Collecting\ * ]] && printf '\r\033[K  %.60s' "${line#Collecting }"
    done
  local status=${PIPESTATUS[0]}
  [ -t 1 ] && printf '\r\033[K'
  [ "$status" = 0 ] || explain
}

case ${1:-} in
  run)
    make_venv
    echo "tuwen: installing the gateway into $venv (about 150 MB to download, once)"
    pip_install --require-hashes -r requirements-build.lock -r requirements.lock
    pip_install --no-deps --no-build-isolation --editable .
    ;;
  test)
    echo "tuwen: installing what the tests need into $venv"
    pip_install --require-hashes -r requirements-test.lock
    pip_install --require-hashes --upgrade --target "$venv/openai-2.54" -r requirements-openai-2.54.lock
    ;;
  vendors)
    echo "tuwen: installing the vendors' own SDKs into $venv/vendor-sdks"
    pip_install --require-hashes --only-binary :all: --upgrade --target "$venv/vendor-sdks" -r requirements-vendors.lock
    ;;
  *) fail "usage: tools/setup.sh run|test|vendors" ;;
esac
