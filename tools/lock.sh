#!/usr/bin/env bash
# Resolve pyproject.toml into requirements.txt: every package, exactly.
# torch's local builds (2.13.0+cpu) are written as 2.13.0, and the CUDA packages that its GPU build
# pins by itself are left out, so that one file serves machines with and without a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
export UV_FIND_LINKS="${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}"
{
  echo "# Written by tools/lock.sh from pyproject.toml; install with: uv pip install -r requirements.txt"
  echo "# uv==$("$uv" --version | cut -d' ' -f2)"
  "$uv" pip compile --quiet --no-header --no-annotate --no-emit-find-links --no-emit-index-url \
        --python-version 3.11 pyproject.toml |
    sed -E 's/\+cpu$//' |
    grep -vE '^(nvidia-(cu|nccl|nvjitlink|nvshmem|nvtx|nvvm)|cuda-|triton==)'
} > requirements.txt.new
mv requirements.txt.new requirements.txt
echo "requirements.txt: $(grep -c == requirements.txt) packages"
