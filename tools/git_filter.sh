#!/usr/bin/env bash
# Let git see the templates of notebooks/ without outputs, whatever Run All stored in them (strip_outputs.py); `make
# setup` calls this. The committed pages of paper/ keep theirs (.gitattributes).
set -euo pipefail
cd "$(dirname "$0")/.."
# A file that is of the same second as git's list of files is looked into, through the filter, by each `git status`
# until the list is written again. That is done here without the filter: in a new clone it would take long with it.
git config --unset-all filter.strip-outputs.clean || true
sleep 1
git status >/dev/null
python="$(pwd)/.venv/bin/python"
[ -x "$python" ] || python=python
git config filter.strip-outputs.clean "'$python' tools/strip_outputs.py"
git config filter.strip-outputs.smudge cat
git config filter.strip-outputs.required false
