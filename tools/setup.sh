#!/usr/bin/env bash
# Install everything into .venv, with PYTHON; `make` calls this before each command. `.venv/.ready` holds the checksums of
# what was installed: where they are those of the files, nothing is done, whatever the files' times. So neither a clock
# that was set back nor a file that git wrote again takes the environment away under a pipeline that runs.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}

is_installed() {  # whether .venv is of a file; earlier versions of this project left .ready empty
  grep -qxF "$(cksum "$1")" .venv/.ready 2>/dev/null ||
    { [ -e .venv/.ready ] && [ ! -s .venv/.ready ] && [ .venv/.ready -nt "$1" ]; }
}

is_ready() { is_installed requirements.txt && is_installed pyproject.toml; }

if is_ready; then exit 0; fi
if [ -L .venv ]; then
  echo "$(readlink .venv), to which .venv is a link, is not of the requirements.txt and pyproject.toml of this clone: run make there, or remove the link." >&2
  exit 1
fi
mkdir -p data/partial
exec 9>data/partial/setup.lock
if ! flock --nonblock 9; then
  echo "Another make installs into .venv: this one goes on when it has ended." >&2
  flock 9
  if is_ready; then exit 0; fi
fi
if ! is_installed requirements.txt; then
  "$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "Python 3.11 with its venv module is needed (Debian: apt-get install python3.11 python3.11-venv); or name it: make PYTHON=/path/to/python3.11"
    exit 1
  }
  echo "Everything in requirements.txt is installed into .venv, which takes 1 to 5 minutes."
  "$PYTHON" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet "uv==$(sed -n 's/^# uv==//p' requirements.txt)"
  # uv reads no pip settings: hand it pip's folder of local wheels, where one is set.
  UV_FIND_LINKS="${PIP_FIND_LINKS:-$(.venv/bin/python -m pip config get global.find-links 2>/dev/null || true)}" UV_HTTP_TIMEOUT=180 \
    .venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode -r requirements.txt
fi
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
if git rev-parse --git-dir >/dev/null 2>&1; then bash tools/git_filter.sh; fi
cksum requirements.txt pyproject.toml > .venv/.ready
