#!/usr/bin/env bash
# Installs what the build, the tests and the example need on Debian or Ubuntu: libraries and tools by apt, and duplicity 3.2.1
# from PyPI in a virtual environment under target/oracles; with --tests, also the programs that only tests run. Does nothing, quickly,
# when all of it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  clang libclang-dev nettle-dev pkg-config gcc libc6-dev # to build sequoia-openpgp on nettle
  fuse3                                                  # fusermount3 and mount.fuse3
  duplicity gnupg                                        # the original, 0.8.22 in Debian 12, and its cryptography
  rdiff rsync                                            # tools of the tests
  python3 python3-venv                                   # for duplicity 3.2.1
)
if [ "${1:-}" = --tests ]; then
  packages+=(
    duply backupninja deja-dup            # run duplicity, and the tests run them
    xvfb xauth dbus-daemon libglib2.0-bin # a screen, a bus and the settings for Déjà Dup
    openssh-server python3-paramiko       # a host to save to, and how the original reaches it
    python3-boto3 python3-azure-storage   # how the original reaches S3 and Azure
    python3-swiftclient                   # and Swift
    apache2 apache2-utils openssl         # a WebDAV server
    rclone                                # which both run
    par2 python3-pexpect                  # recovery files, and how duplicity 0.8 runs what makes them
    vsftpd python3-pyftpdlib lftp openssl # FTP servers, and how the original reaches them
  )
fi
old_version="0.8.22"
new_version="3.2.1"
old="${DUPFS_DUPLICITY_0_8:-/usr/bin/duplicity}"
venv="target/oracles/duplicity-$new_version"
new="${DUPFS_DUPLICITY_3_2:-$venv/bin/duplicity}"

fail() {
  echo "setup: $*" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  echo "setup: installing ${missing[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# Only Debian 12 has this version; the tests compare with its exact output, so another one is no oracle.
"$old" --version 2>/dev/null | grep -qx "duplicity $old_version" ||
  fail "$old is not duplicity $old_version, which is in Debian 12; name one by DUPFS_DUPLICITY_0_8"

# duplicity's dependencies are those of its cloud backends; file:// needs only the one named here, sftp:// also paramiko.
has_new() { "$new" --version 2>/dev/null | grep -q "^duplicity $new_version "; }
if ! has_new; then
  echo "setup: installing duplicity $new_version in $venv"
  rm -rf "$venv"
  python3 -c 'import ensurepip' 2>/dev/null && python=python3 || python=/usr/bin/python3
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "duplicity==$new_version" "fasteners==0.20"
  has_new || fail "duplicity $new_version does not run as $new"
fi

if [ "${1:-}" = --tests ] && [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c 'import paramiko, boto3, azure.storage.blob, swiftclient' 2>/dev/null; then
  echo "setup: installing what duplicity $new_version needs for storages in $venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "paramiko==3.5.1" "boto3==1.35.99" "azure-storage-blob==12.24.0" "python-swiftclient==4.6.0"
fi

# A server that speaks S3, apart from the original and what that needs.
servers="target/oracles/servers"
if [ "${1:-}" = --tests ] && ! "$servers/bin/python" -c 'import moto.server' 2>/dev/null; then
  echo "setup: installing moto in $servers"
  rm -rf "$servers"
  "${python:-/usr/bin/python3}" -m venv "$servers"
  "$servers/bin/pip" install --quiet --disable-pip-version-check "moto[s3,server]==5.2.5"
fi

# A server that speaks as Azure does.
if [ "${1:-}" = --tests ] && [ ! -x "$servers/node/node_modules/.bin/azurite-blob" ]; then
  echo "setup: installing Azurite in $servers"
  if ! command -v npm >/dev/null; then
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends npm
  fi
  mkdir -p "$servers/node"
  npm install --prefix "$servers/node" --silent --no-audit --no-fund azurite@3.35.0
fi

command -v cargo >/dev/null || fail "there is no cargo; install Rust from https://rustup.rs"
