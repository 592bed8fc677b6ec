# Python environments for scripts that compare with other tools. Sourced; the caller defines `say` and sets `python`.

# The version for which all pinned packages have wheels (numba 0.59 has none above 3.12, scipy 1.17 none below 3.11).
python_311() {
    local candidate
    for candidate in python3.11 python3; do
        if [[ "$("$candidate" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)" == "(3, 11)" ]]; then
            echo "$candidate"
            return
        fi
    done
    say "Python 3.11 is not installed; the pinned versions of the other tools require it" >&2
    exit 1
}

# One environment per tool, since they require different versions of NumPy: environment FOLDER PACKAGE...
environment() {
    local home=$1 wanted="${*:2}"
    if [[ "$(cat "$home/.complete" 2>/dev/null)" == "$wanted" ]]; then
        say "$(basename "$home") is installed"
        return
    fi
    say "installing $wanted"
    rm -rf "$home"
    # With the pip of the system: Debian's python3 cannot create an environment with pip unless python3-venv is installed.
    "$python" -m venv --without-pip "$home" &&
        "$python" -m pip --python "$home/bin/python" install --quiet --disable-pip-version-check "${@:2}" &&
        echo "$wanted" >"$home/.complete"
}
