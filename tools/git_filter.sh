#!/usr/bin/env bash
# Let git see the templates of notebooks/ without outputs, whatever Run All stored in them; `make setup` calls this.
# What JupyterLab adds when it saves goes too: the state of widgets (nbstripout takes that by itself), what the kernel
# says of its Python, and what the kernel is called here. The committed pages of paper/ keep theirs (.gitattributes).
set -euo pipefail
cd "$(dirname "$0")/.."
strip="$(pwd)/.venv/bin/nbstripout"
[ -x "$strip" ] || strip=nbstripout
extra=""
for key in codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version; do
  extra+="metadata.language_info.$key "
done
for key in cell.metadata.editable cell.metadata.slideshow cell.metadata.trusted cell.metadata.jupyter \
           cell.metadata.scrolled cell.metadata.papermill metadata.papermill metadata.toc-autonumbering; do
  extra+="$key "
done
git config filter.strip-outputs.clean \
  "'$strip' --extra-keys '${extra% }' | sed -E 's/^(   \"display_name\": ).*\$/\\1\"Python 3\",/'"
git config filter.strip-outputs.smudge cat
git config filter.strip-outputs.required false
