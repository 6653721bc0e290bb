#!/bin/sh
# Checks the specs of a folder with `testerctl validate`; installs it first where it is not there and TESTERCTL_FROM says
# where it comes from. For Forgejo Actions, and for anybody.
#
#     ./validate.sh [FOLDER]
set -eu
folder=${1:-fleet}
if ! command -v testerctl >/dev/null 2>&1; then
	if [ -z "${TESTERCTL_FROM:-}" ]; then
		echo "validate.sh: there is no testerctl on the PATH, and TESTERCTL_FROM does not say where it comes from" >&2
		exit 1
	fi
	venv=$(mktemp -d)
	trap 'rm -rf "$venv"' EXIT
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check "$TESTERCTL_FROM"
	PATH=$venv/bin:$PATH
fi
testerctl validate "$folder"
