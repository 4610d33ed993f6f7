#!/usr/bin/env bash
# Let git see the templates of notebooks/ without outputs, whatever Run All stored in them; `make setup` calls this.
# The committed pages of paper/ keep theirs (.gitattributes).
set -euo pipefail
cd "$(dirname "$0")/.."
strip="$(pwd)/.venv/bin/nbstripout"
[ -x "$strip" ] || strip=nbstripout
git config filter.strip-outputs.clean "$strip"
git config filter.strip-outputs.smudge cat
git config filter.strip-outputs.required false
