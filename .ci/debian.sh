#!/usr/bin/env bash
# Debian's packages that some tests need: a browser, PostgreSQL, Redis, nginx, Slurm. Nothing to do
# where they are there. Without root nothing is installed, and those tests are skipped: each says
# what it lacks.
set -euo pipefail

wanted=(chromium chromium-driver munge nginx-light postgresql redis-server slurm-wlm)
missing=()
for package in "${wanted[@]}"; do
  dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
    missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id --user)" -ne 0 ]; then
  echo "$0: not root, so these are not installed and their tests skipped: ${missing[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2 &&
  apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" >/dev/null ||
  echo "$0: these could not be installed, and their tests are skipped: ${missing[*]}" >&2
