# Sourced by the other scripts, from the checkout's top: packages and the virtual environment.
# Nothing is printed where nothing is missing.

# INSTALL is yes after `wants_install "$@"` if the first word is --install, and in CI.
INSTALL=no
[ "${CI:-}" != true ] || INSTALL=yes
wants_install() {
    [ "${1:-}" = --install ] && INSTALL=yes
}

quietly() { # show what a command says only if it fails
    if ! said=$("$@" 2>&1 </dev/null); then
        printf '%s\n' "$said" >&2
        return 1
    fi
}

apt_install() { # no daemon is started: what the tests need they start themselves
    policy=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    result=0
    for attempt in with-old-lists with-new-lists; do
        [ $attempt = with-old-lists ] ||
            quietly env DEBIAN_FRONTEND=noninteractive apt-get -q update || result=1
        if said=$(DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y \
            --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@" 2>&1 </dev/null); then
            result=0
            break
        fi
        result=1
    done
    [ $result = 0 ] || printf '%s\n' "$said" >&2
    if [ -n "$policy" ]; then
        rm -f "$policy"
        trap - EXIT INT TERM
    fi
    return $result
}

need_packages() { # Debian packages; what is missing is installed, or said in one sentence
    command -v dpkg-query >/dev/null || return 0
    missing=
    for package in "$@"; do
        case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
        *' installed') ;;
        *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    if [ $INSTALL = yes ] && [ "$(id -u)" = 0 ]; then
        echo "installing$missing" >&2
        # shellcheck disable=SC2086
        apt_install $missing
    else
        echo "Not installed:$missing. Add --install as root, or: apt-get install$missing" >&2
    fi
}

need_unpacked() { # need_unpacked NAME PACKAGE...: unpacked below .venv, beside what is installed
    into=.venv/unpacked/$1
    if [ -e "$into" ] || ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        return 0
    fi
    name=$1
    shift
    if [ $INSTALL = no ]; then
        echo "Not there: $name for the tests. Add --install, which unpacks it below .venv." >&2
        return 0
    fi
    echo "unpacking $name" >&2
    rm -rf "$into.part"
    mkdir -p "$into.part/packages"
    result=1
    for attempt in with-old-lists with-new-lists; do
        [ $attempt = with-old-lists ] || [ "$(id -u)" != 0 ] || quietly apt-get -q update || :
        if said=$(cd "$into.part/packages" && apt-get -q download "$@" 2>&1 </dev/null); then
            result=0
            break
        fi
    done
    if [ $result = 0 ]; then
        for archive in "$into.part/packages"/*.deb; do
            dpkg-deb --extract "$archive" "$into.part" || result=1
        done
        rm -r "$into.part/packages"
    fi
    if [ $result = 0 ]; then
        mv "$into.part" "$into"
    else # the tests that want it say so
        printf '%s\n' "$said" >&2
        rm -rf "$into.part"
    fi
}

need_gridengine() { # Grid Engine for the lab: Debian's, with the libraries that it needs
    need_unpacked gridengine gridengine-common gridengine-client gridengine-exec \
        gridengine-master libjemalloc2 libtirpc3 libhwloc15 libmunge2
}

find_python() { # sets PYTHON
    for PYTHON in python3 python3.13 python3.12 python3.11; do
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return 0
    done
    echo 'Python 3.11 or newer is needed, and none is on PATH.' >&2
    return 1
}

need_venv() { # .venv with a pip in it
    if [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return 0
    fi
    find_python
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        need_packages python3-venv
        if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$PYTHON cannot make virtual environments." >&2
            return 1
        fi
    fi
    quietly "$PYTHON" -m venv --clear .venv
}

need_environment() { # need_environment EXTRA: .venv with this checkout and an extra of setup.cfg
    stamp=.venv/has-$1
    if [ -e "$stamp" ] && [ -z "$(find setup.cfg setup.py -newer "$stamp")" ]; then
        return 0
    fi
    need_venv
    quietly .venv/bin/python -m pip install --disable-pip-version-check --quiet \
        --config-settings editable_mode=compat -e ".[$1]"
    : >"$stamp"
}

need_extra() { # need_extra EXTRA: sets EXTRA to an environment of its own, below .venv
    EXTRA=.venv/extra/$1
    stamp=$EXTRA/has-$1
    if [ -e "$stamp" ] && [ -z "$(find setup.cfg setup.py -newer "$stamp")" ]; then
        return 0
    fi
    need_venv
    echo "making an environment with the extra $1" >&2
    quietly .venv/bin/python -m venv "$EXTRA"
    quietly "$EXTRA/bin/python" -m pip install --disable-pip-version-check --quiet \
        --config-settings editable_mode=compat -e ".[$1]"
    : >"$stamp"
}

need_copy() { # need_copy EXTRA: .venv with a copy of the package; writes nowhere else
    export PYTHONDONTWRITEBYTECODE=1
    if [ -e .venv/has-test ] && [ -z "$(find setup.cfg setup.py -newer .venv/has-test)" ]; then
        return 0 # the checkout itself is in there, with all extras
    fi
    stamp=.venv/has-copy
    if [ -e "$stamp" ] && [ -z "$(find setup.cfg setup.py openssh_jobs -newer "$stamp")" ]; then
        return 0
    fi
    need_venv
    # Built from a copy: building leaves files beside the sources, and pip keeps a cache.
    rm -rf .venv/source
    mkdir .venv/source
    cp -R setup.cfg setup.py README.rst LICENSE openssh_jobs .venv/source
    quietly env PIP_NO_CACHE_DIR=1 .venv/bin/python -m pip install \
        --disable-pip-version-check --quiet "./.venv/source[$1]"
    rm -rf .venv/source
    : >"$stamp"
}
