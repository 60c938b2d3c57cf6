# SPDX-License-Identifier: LGPL-2.1-or-later
# Sourced by tests/run and tests/demo: installs what is missing and finds the build folders.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builds=${GPUPOOL_BUILD_DIR:-$top/build}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() { printf 'tests: %s\n' "$*" >&2; exit 1; }

missing_packages() {
        local name
        while read -r name _; do
                [[ -z $name || $name == \#* ]] && continue
                [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null) == ii* ]] || echo "$name"
        done <"$top/tests/packages"
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"; }

# Debian 12 has libraft 0.15 in main, which can let two nodes apply different entries after a failed write; 0.22 is in
# its backports. The suite is written beside the machine's own entry, so that the same mirror serves it.
install_raft() {
        pkg-config --atleast-version=0.22 raft 2>/dev/null && return
        local own=/etc/apt/sources.list.d/debian.sources list=/etc/apt/sources.list.d/gpupool-backports.sources
        if ! apt-cache policy libraft-dev 2>/dev/null | grep -q ' 0\.2[2-9]'; then
                [[ -e $own ]] || die "there is no $own: add bookworm-backports to apt's sources, then start again"
                sed 's/^Suites:.*/Suites: bookworm-backports/' "$own" |
                        awk 'BEGIN { RS = ""; ORS = "\n\n" } !/security/' >"$list"
                apt update >/dev/null
        fi
        apt install -y --no-install-recommends -t bookworm-backports libraft-dev ||
                apt install -y --no-install-recommends libraft-dev
        pkg-config --atleast-version=0.22 raft || die "libraft 0.22 or later cannot be installed"
}

install_missing() {
        local missing
        mapfile -t missing < <(missing_packages)
        if ((${#missing[@]})); then
                say "Installing ${#missing[@]} packages: ${missing[*]}"
                [[ $EUID -eq 0 ]] || die "not root, so these packages cannot be installed: ${missing[*]}"
                apt update >/dev/null
                apt install -y --no-install-recommends "${missing[@]}" >/tmp/gpupool-apt.$$ 2>&1 ||
                        { tail -20 /tmp/gpupool-apt.$$; die "apt-get failed"; }
                rm -f /tmp/gpupool-apt.$$
        fi
        install_raft
}

# compile NAME TARGET…
compile() {
        local folder=$builds/$1
        ninja -C "$folder" "${@:2}" >"$folder/compile.log" 2>&1 && return
        grep -E 'error|warning|FAILED' "$folder/compile.log" | head -40
        die "the build of $1 failed, see $folder/compile.log"
}

# What is installed of the build in folder $1: the product without its tests.
installed_targets() {
        meson introspect --targets "$1" | /usr/bin/python3 -c 'import json, os, sys
for target in json.load(sys.stdin):
    if target["installed"]:
        print(*(os.path.relpath(name, sys.argv[1]) for name in target["filename"]), sep="\n")' "$(realpath "$1")"
}

# configure NAME [meson options]: sets up or updates $builds/NAME; CC is the caller's.
configure() {
        local name=$1 folder=$builds/$1
        shift
        if [[ -e $folder/build.ninja ]]; then
                meson setup --reconfigure "$folder" "$top" "$@" >"$folder/setup.log" 2>&1 ||
                        { cat "$folder/setup.log"; die "meson setup of $name failed"; }
        else
                mkdir -p "$folder"
                meson setup "$folder" "$top" "$@" >"$folder/setup.log" 2>&1 ||
                        { cat "$folder/setup.log"; die "meson setup of $name failed"; }
        fi
}
