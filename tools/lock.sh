#!/usr/bin/env bash
# Resolve pyproject.toml, with all its extras, into requirements.txt: every package, exactly. Versions that are there stay as
# far as the ranges allow; `make lock UPGRADE="numpy pandas"` takes the newest of these packages.
# torch's local builds (2.13.0+cpu) are written as 2.13.0, and the CUDA packages that its GPU build
# pins by itself are left out, so that one file serves machines with and without a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
export UV_FIND_LINKS="${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}"
upgraded=()
for package in ${UPGRADE:-}; do upgraded+=(--upgrade-package "$package"); done
resolved=$(mktemp)
trap 'rm -f "$resolved"' EXIT
cp requirements.txt "$resolved"  # uv prefers the versions of the file that it writes
"$uv" pip compile --quiet --no-header --no-annotate --no-emit-find-links --no-emit-index-url --all-extras \
      --python-version 3.11 "${upgraded[@]}" --output-file "$resolved" pyproject.toml
{
  echo "# Written by tools/lock.sh from pyproject.toml; install with: uv pip install -r requirements.txt"
  echo "# uv==$("$uv" --version | cut -d' ' -f2)"
  sed -E 's/\+cpu$//' "$resolved" | grep -vE '^(#|nvidia-(cu|nccl|nvjitlink|nvshmem|nvtx|nvvm)|cuda-|triton==)'
} > requirements.txt.new
mv requirements.txt.new requirements.txt
echo "requirements.txt: $(grep -c == requirements.txt) packages"
