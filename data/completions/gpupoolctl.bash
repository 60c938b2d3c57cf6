# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# bash completion for gpupoolctl(1). Names come from the running service, with one call; without a service, none do.

# Prints the names of all objects of one kind: Node, Gpu, Pool or VM.
__gpupoolctl_names() {
        busctl --system --auto-start=no --timeout=2 call org.gpupool1 /org/gpupool1 \
                org.freedesktop.DBus.ObjectManager GetManagedObjects 2>/dev/null |
                sed 's/"org\.gpupool1\./\n&/g' |
                sed -n 's/^"org\.gpupool1\.'"$1"'" .*\?"Name" s "\([^"]*\)".*/\1/p'
}

# Prints the numbers of all jobs.
__gpupoolctl_jobs() {
        busctl --system --auto-start=no --timeout=2 tree --list org.gpupool1 2>/dev/null |
                sed -n 's|^/org/gpupool1/job/||p'
}

__gpupoolctl_words() {
        mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

# GPUs, and the words given; readline takes a colon for the end of a word.
__gpupoolctl_gpus() {
        __gpupoolctl_words "${1-} $(__gpupoolctl_names Gpu)"
        if declare -F __ltrim_colon_completions >/dev/null; then
                __ltrim_colon_completions "$cur"
        fi
}

_gpupoolctl() {
        local cur prev words cword
        if declare -F _init_completion >/dev/null; then
                # A GPU's name has colons in it.
                _init_completion -n : || return
        else
                words=("${COMP_WORDS[@]}")
                cword=$COMP_CWORD
                cur=${words[cword]}
                prev=${words[cword - 1]}
        fi
        COMPREPLY=()

        local -A verbs=(
                [gpu]='quarantine release'
                [pool]='list show create add remove rules policy rename delete'
                [vm]='list show define start shutdown stop restart requirement policy update xml delete explain'
                [node]='list show'
                [job]='list show cancel'
        )
        local -A options=(
                [pool create]='--match --gpu --placement --reserve --max-in-use'
                [pool rules]='--match --none'
                [pool policy]='--placement --reserve --max-in-use'
                [vm define]='--gpus --pool --priority --restart --prefer --with --apart'
                [vm requirement]='--gpus --pool'
                [vm policy]='--priority --restart --prefer --with --apart'
                [vm shutdown]='--timeout'
                [events]='--follow --since --max'
        )

        case $prev in
        --pool) __gpupoolctl_words "$(__gpupoolctl_names Pool)"; return ;;
        --gpu) __gpupoolctl_gpus; return ;;
        --prefer) __gpupoolctl_words "$(__gpupoolctl_names Node)"; return ;;
        --with | --apart) __gpupoolctl_words "$(__gpupoolctl_names VM)"; return ;;
        --placement) __gpupoolctl_words 'pack spread'; return ;;
        --restart) __gpupoolctl_words 'always on-failure never'; return ;;
        --match | --gpus | --reserve | --max-in-use | --priority | --timeout | --since | --max) return ;;
        --host-timeout) return ;;
        esac

        # The words so far that are no options: noun, verb, and what follows.
        local -a plain=()
        local i
        for ((i = 1; i < cword; i++)); do
                case ${words[i]} in
                -*) ;;
                *) plain+=("${words[i]}") ;;
                esac
        done
        local noun=${plain[0]-} verb=${plain[1]-}

        if [[ $cur == -* ]]; then
                __gpupoolctl_words "--json --no-wait --host-timeout --help --version
                        ${options[$noun]-} ${options[$noun $verb]-}"
                return
        fi
        case ${#plain[@]} in
        0) __gpupoolctl_words 'status gpu pool vm node job events log check cluster plan' ;;
        1)
                __gpupoolctl_words "${verbs[$noun]-}"
                [[ $noun == gpu ]] && __gpupoolctl_gpus "${verbs[gpu]}"
                ;;
        *)
                case $noun/$verb/${#plain[@]} in
                gpu/*/2 | pool/add/[3-9]* | pool/remove/[3-9]*) __gpupoolctl_gpus ;;
                vm/define/2 | vm/update/3) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
                pool/list/* | pool/create/* | vm/list/* | node/list/* | job/list/*) ;;
                pool/*/2) __gpupoolctl_words "$(__gpupoolctl_names Pool)" ;;
                vm/*/2) __gpupoolctl_words "$(__gpupoolctl_names VM)" ;;
                node/*/2) __gpupoolctl_words "$(__gpupoolctl_names Node)" ;;
                job/*/2) __gpupoolctl_words "$(__gpupoolctl_jobs)" ;;
                esac
                ;;
        esac
        return 0
}

complete -F _gpupoolctl gpupoolctl
