#!/usr/bin/env bash
# bootstrap.sh [REQUIREMENTS]...: makes ~/.gpuplan/venv, the Python environment of every step. The image's own packages
# are visible in it, what is installed later goes into it, and the image itself stays as it is, its numpy and its torch
# wherever the requirements allow them. What the files of requirements name is installed on every machine: a step's done-record is on the volume, the
# venv is not. Run again, it does nothing unless the image's Python or the requirements have changed.
set -euo pipefail

venv="$HOME/.gpuplan/venv"

# The first Python of at least 3.10 that sees torch; without any that does, the first of at least 3.10.
choose_python() {
    local name path found=""
    for name in python3 python python3.14 python3.13 python3.12 python3.11 python3.10; do
        path="$(command -v "$name" 2>/dev/null)" || continue
        "$path" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 || continue
        if "$path" -c 'import sys; from importlib.util import find_spec; sys.exit(not find_spec("torch"))' >/dev/null 2>&1; then
            echo "$path"
            return
        fi
        found="${found:-$path}"
    done
    echo "$found"
}

# Folders of installed packages that the image's Python searches and the venv's does not: where the image's Python is a
# venv itself, a venv made from it shows the packages of the Python beneath, not its own.
show_image_packages() {
    "$python" -c '
import sys
print("\n".join(p for p in sys.path if p.endswith(("site-packages", "dist-packages"))))' |
        "$venv/bin/python" -c '
import os, sys, sysconfig
hidden = [line for line in sys.stdin.read().splitlines() if line not in sys.path]
with open(os.path.join(sysconfig.get_path("purelib"), "gpuplan-image.pth"), "w") as file:
    file.write("".join(line + "\n" for line in hidden))'
}

# `pip` of the steps: the image's, brought in by ensurepip where it has none.
write_pip() {
    local name
    for name in pip pip3; do
        cat >"$venv/bin/$name" <<'SCRIPT'
#!/bin/sh
python="$(dirname "$0")/python"
"$python" -c 'import sys; from importlib.util import find_spec; sys.exit(not find_spec("pip"))' ||
    "$python" -m ensurepip >/dev/null 2>&1 || {
    echo "pip: neither the image nor its Python brings pip" >&2
    exit 1
}
exec "$python" -m pip "$@"
SCRIPT
        chmod 755 "$venv/bin/$name"
    done
}

# What the files ask for, and pins for what the image brings (gpuplan_agent/requirements.py).
install_requirements() {
    "$venv/bin/python" "$(dirname "$0")/gpuplan_agent/requirements.py" "$@"
}

python="$(choose_python)"
if [ -z "$python" ]; then
    echo "no Python of at least 3.10 on this machine ($(python3 --version 2>&1 || true)): choose another image" >&2
    exit 1
fi
made_from="$("$python" -c 'import sys; print(sys.executable, sys.prefix, sys.version)')"
if [ "$(cat "$venv/made-from" 2>/dev/null)" = "$made_from" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    install_requirements "$@"
    echo "the venv is as it should be"
    exit 0
fi
"$python" -m venv --clear --system-site-packages --without-pip "$venv" || {
    echo "$python cannot make a venv (on Debian and Ubuntu: apt-get install python3-venv)" >&2
    exit 1
}
show_image_packages
write_pip
echo "$made_from" >"$venv/made-from"
install_requirements "$@"
