#!/usr/bin/env bash
# Make this machine a node: install the project beside this file into ~/.venvs/prunegrid, at the
# versions of requirements.lock, and let every shell of this user find it. Running it again is
# cheap. It runs on the head and on each worker, by `ray up`.
#   usage: setup_node.sh [EXTRA...]     such as gpu, aws, gcp (see pyproject.toml)
set -euo pipefail
cd "$(dirname "$0")/.."

uv_version=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)
venv=$HOME/.venvs/prunegrid
extras=cluster,mnist5k
for extra in "$@"; do extras+=,$extra; done
if [[ $extras != *gpu* ]] && nvidia-smi -L >/dev/null 2>&1; then extras+=,gpu; fi

export PATH="$venv/bin:$HOME/.local/bin:$PATH"
if ! command -v uv >/dev/null; then
  curl -LsSf "https://astral.sh/uv/$uv_version/install.sh" | sh
fi
# Ray wants the same Python everywhere: PRUNEGRID_PYTHON names another version or path.
if [ ! -x "$venv/bin/python" ]; then
  uv venv --quiet --python "${PRUNEGRID_PYTHON:-3.12}" "$venv"
fi
export UV_COMPILE_BYTECODE=${UV_COMPILE_BYTECODE:-1} # once, not in every worker
uv pip install --quiet --python "$venv/bin/python" \
  --constraint requirements.lock --reinstall-package prunegrid ".[$extras]"

# `ray submit` and `ray up` run commands in a login shell, which reads this.
cat >"$HOME/.prunegrid.sh" <<'END'
export PATH="$HOME/.venvs/prunegrid/bin:$HOME/.local/bin:$PATH"
export RAY_ADDRESS=auto                      # a driver on this machine joins its cluster
export RAY_AUTH_MODE=token                   # with the token in ~/.ray/auth_token
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1  # tasks that asked for no GPU see none
export RAY_USAGE_STATS_ENABLED=0
unset PYTHONDONTWRITEBYTECODE                # or each worker would compile TensorFlow anew
END
line='. "$HOME/.prunegrid.sh"'
grep -qsxF "$line" "$HOME/.bashrc" || printf '\n%s\n' "$line" >>"$HOME/.bashrc"
echo "$(hostname): $(uv pip list --quiet --python "$venv/bin/python" --format freeze |
  grep -E '^(ray|tensorflow|prunegrid)(==| )' | tr '\n' ' ')$("$venv/bin/python" --version)"
