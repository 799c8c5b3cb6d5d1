#!/usr/bin/env bash
# Runs a command in the image of the Dockerfile, on this checkout:
#
#   docker build --tag arcbifacegan .
#   ./docker_run.sh python train.py --data data/people --outdir runs --cfg paper256
#
# The checkout is /workspace, and paths are relative to it. Settings, all optional (docs/container.md):
#
#   GPUS      what docker's --gpus takes: all, 2 (so many), device=0,3; or none   [all, where nvidia-smi lists any]
#   MOUNT     further folders, absolute, with colons between them, seen under the same paths    [none]
#   IMAGE     the image                                                                         [arcbifacegan]
#   SHM_SIZE  shared memory, through which the processes that read pictures hand them over      [8g]
#   RUN_AS    user and group ids; rootless Docker wants 0:0                                     [the caller's]
#   DRY_RUN   1: print the command, run nothing
set -eu

fail() {
    printf 'Error: %s\n' "$1" >&2
    exit 2
}

absolute() { # a folder that docker can be told of
    case $1 in
        *,*) fail "$2: $1: docker takes no comma in a folder's name; rename it, or mount it elsewhere" ;;
        /*) [ -d "$1" ] || fail "$2: $1: is no folder" ;;
        *) fail "$2: $1: is not absolute; $PWD/$1 may be meant" ;;
    esac
}

gpus() {
    if nvidia-smi --list-gpus 2> /dev/null | grep -q .; then echo all; else echo none; fi
}

[ $# -gt 0 ] || fail "a command is missing: ./docker_run.sh python train.py --help"
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
absolute "$checkout" checkout
case $1 in -*) fail "$1: the command comes first; settings are variables, such as GPUS=all" ;; esac
[ -n "${XDG_CACHE_HOME:-${HOME:-}}" ] || fail "HOME: is not set; XDG_CACHE_HOME=/some/folder would do, too"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/arcbifacegan-container # the home within, kept from one run to the next
image=${IMAGE:-arcbifacegan}

# --init hands signals on: a run that gets SIGTERM saves, which takes longer than docker's ten seconds.
run=(docker run --rm --init --interactive --stop-timeout 300 --pull never)
if [ -t 0 ] && [ -t 1 ]; then run+=(--tty); fi
GPUS=${GPUS:-$(gpus)}
case $GPUS in
    none) ;;
    device=*) run+=(--gpus "\"$GPUS\"") ;; # docker reads commas as its own, unless quoted
    all) run+=(--gpus all) ;;
    '' | 0* | *[!0-9]*) fail "GPUS: $GPUS: all, a number of them, none, or device=0,3 for some of them is needed" ;;
    *) run+=(--gpus "$GPUS") ;;
esac
run+=(--user "${RUN_AS:-$(id -u):$(id -g)}" --shm-size "${SHM_SIZE:-8g}" --workdir /workspace)
run+=(--mount "type=bind,source=$checkout,target=/workspace" --mount "type=bind,source=$cache,target=/cache")
run+=(--env HOME=/cache --env USER=arcbiface --env NO_COLOR --env OMP_NUM_THREADS)
if [ -n "${MOUNT:-}" ]; then
    IFS=: read -r -a folders <<< "$MOUNT"
    for folder in "${folders[@]}"; do
        absolute "$folder" MOUNT
        run+=(--mount "type=bind,source=$folder,target=$folder")
    done
fi
run+=("$image" "$@")

if [ "${DRY_RUN:-0}" = 1 ]; then
    printf '%q ' "${run[@]}"
    echo
    exit
fi
command -v docker > /dev/null || fail "docker is not installed; docs/container.md has Podman and Apptainer, too"
docker image inspect "$image" > /dev/null || fail "IMAGE: $image: is not here; docker build --tag $image . makes it"
mkdir -p "$cache"
exec "${run[@]}"
