#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the documentation as a site in out/docs/site, in an environment of its own. Broken links and
# warnings are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=out/docs/venv
PYTHON=${PYTHON:-python3}
if [[ ! -f $VENV/ready || docs/site/requirements.txt -nt $VENV/ready ]]; then
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r docs/site/requirements.txt
    touch "$VENV/ready"
fi
"$VENV/bin/python" scripts/docs_site.py out/docs/source
NO_MKDOCS_2_WARNING=1 "$VENV/bin/mkdocs" build --strict --quiet
echo "lerf_ros: out/docs/site/index.html"
