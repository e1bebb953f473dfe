#!/bin/sh
# Programs that tests use and pip does not bring: kcat, Chromium, Prometheus with promtool, Docker with compose, debootstrap.
# Installed here on a Debian without systemd where we are root, as CI's machines are; elsewhere it only says what is missing: their
# packages start services, and that is for the machine's owner to decide. Tests that want an absent one are skipped and say so.
set -u
packages=
for pair in kcat:kcat chromium:chromium prometheus:prometheus promtool:prometheus docker:docker.io dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap; do
  command -v "${pair%%:*}" >/dev/null || case " $packages " in *" ${pair#*:} "*) ;; *) packages="$packages ${pair#*:}" ;; esac
done
[ -n "$packages" ] || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] && [ ! -d /run/systemd/system ]; then
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  if { apt-get update -qq && apt-get install -qq -y --no-install-recommends $packages; } >/dev/null 2>&1; then exit 0; fi
fi
echo "tests that want these are skipped: apt-get install$packages" >&2
