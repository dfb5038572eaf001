#!/usr/bin/env bash
# Brings a machine to where leasefs can be built and run: `./setup.sh run` or `./setup.sh test` (which needs
# the programs that the tests use as well). Asks nothing: what it may not install it names, and exits 1.
# Quick when there is nothing to do. npm packages are installed when package-lock.json or the Node ABI has
# changed since the last time.
set -euo pipefail
cd "$(dirname "$0")"
purpose=${1:-run}

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

check_node() {
  command -v node >/dev/null || fail "Node.js is not installed; install version 20.15 or newer from https://nodejs.org"
  node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 20 || (major === 20 && minor >= 15) ? 0 : 1);
  ' || fail "Node.js $(node --version) is too old; install version 20.15 or newer from https://nodejs.org"
  command -v npm >/dev/null || fail "npm is not installed; it comes with Node.js from https://nodejs.org"
}

# apt_install PACKAGE... : as root, or through sudo when that asks for no password.
apt_install() {
  local -a as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); else as_root=(false); fi
  fi
  if [ "${as_root[0]:-}" = false ] || ! command -v apt-get >/dev/null; then
    fail "these system packages are missing: $*
  On Debian and Ubuntu install them with:  sudo apt-get install -y $*"
  fi
  echo "setup: installing system packages: $*"
  local -a install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@")
  "${as_root[@]}" "${install[@]}" </dev/null >/dev/null 2>&1 && return
  "${as_root[@]}" apt-get update -q </dev/null >/dev/null || fail "apt-get update failed"
  "${as_root[@]}" "${install[@]}" </dev/null || fail "apt-get could not install: $*"
}

# The library of the fuse-native driver has another package name since Ubuntu 24.04.
libfuse2_package() {
  if apt-cache show libfuse2t64 >/dev/null 2>&1; then echo libfuse2t64; else echo libfuse2; fi
}

check_system() {
  [ "$(uname -s)" = Linux ] || fail "leasefs mounts on Linux only; this is $(uname -s)"
  local -a missing=()
  command -v fusermount3 >/dev/null || missing+=(fuse3)
  if [ "$purpose" = test ]; then
    command -v setfacl >/dev/null || missing+=(acl)
    command -v getfattr >/dev/null || missing+=(attr)
    command -v sqlite3 >/dev/null || missing+=(sqlite3)
    command -v git >/dev/null || missing+=(git)
    { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep -q 'libfuse\.so\.2' || missing+=("$(libfuse2_package)")
  fi
  [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
  [ -c /dev/fuse ] || { [ "$(id -u)" -eq 0 ] && modprobe fuse 2>/dev/null; } || true
  # Wherever udev runs it has this mode; fusermount3 opens it with its caller's rights.
  if [ "$purpose" = test ] && [ "$(id -u)" -eq 0 ] && [ -c /dev/fuse ]; then chmod 666 /dev/fuse; fi
  [ -c /dev/fuse ] || fail "/dev/fuse is missing: load the module (sudo modprobe fuse), or give the container the device (--device /dev/fuse --cap-add SYS_ADMIN)"
}

# What node_modules must correspond to: the lock file, and the ABI that native packages are built for.
lock_stamp() {
  node -e '
    const hash = require("node:crypto").createHash("sha256");
    hash.update(require("node:fs").readFileSync("package-lock.json"));
    console.log(hash.digest("hex"), process.versions.modules, process.arch);
  '
}

natives_load() {
  node -e 'new (require("better-sqlite3"))(":memory:").close(); require("koffi")' 2>/dev/null
}

install_packages() {
  local stamp_file=node_modules/.leasefs-setup stamp log
  stamp=$(lock_stamp)
  [ "$(cat "$stamp_file" 2>/dev/null || true)" = "$stamp" ] && return
  echo "setup: installing npm packages"
  log=$(mktemp)
  if ! { npm ci >"$log" 2>&1 && natives_load; }; then
    # No prebuilt binary could be had: native packages are compiled here.
    local -a missing=()
    command -v python3 >/dev/null || missing+=(python3)
    command -v make >/dev/null || missing+=(make)
    command -v g++ >/dev/null || missing+=(g++)
    [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
    if ! { npm ci >"$log" 2>&1 && natives_load; }; then
      cat "$log" >&2
      rm -f "$log"
      fail "npm ci failed (its output is above)"
    fi
  fi
  rm -f "$log"
  echo "$stamp" >"$stamp_file"
}

case $purpose in
  run | test) ;;
  *) fail "usage: ./setup.sh run|test" ;;
esac
check_node
check_system
install_packages
