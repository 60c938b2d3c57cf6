# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# bash completion for gpupoolctl(1). Names come from the running service, with one call; without a service, none do.
# What is offered is held against the program by tests/ctl/test-hints.

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

# A GPU's name has colons in it.
__gpupoolctl_gpus() {
        __gpupoolctl_words "$1 $(__gpupoolctl_names Gpu)"
        declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
}

__gpupoolctl_files() {
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_gpupoolctl() {
        local cur prev words cword
        if declare -F _init_completion >/dev/null; then
                _init_completion -n : || return
        else
                words=("${COMP_WORDS[@]}")
                cword=$COMP_CWORD
                cur=${words[cword]}
                prev=${words[cword - 1]}
        fi
        COMPREPLY=()

        local -A verbs=(
                [gpu]='list show quarantine release'
                [pool]='list show create add remove rules policy rename delete'
                [vm]='list show define start shutdown stop restart move defragment requirement policy update xml delete
                        explain'
                [node]='list show drain resume remove fence-set fence-clear confirm-down'
                [job]='list show wait cancel'
                [cluster]='invite join leave reset level freeze thaw export import'
        )
        local -A options=(
                [pool create]='--match --gpu --placement --reserve --max-in-use --after-use'
                [pool rules]='--match --none'
                [pool policy]='--placement --reserve --max-in-use --after-use'
                [vm define]='--pool --gpus --model --priority --restart --prefer --with --apart --rather-with
                        --rather-apart --preempt --preemptible'
                [vm requirement]='--pool --gpus --model'
                [vm policy]='--priority --restart --prefer --with --apart --rather-with --rather-apart --preempt
                        --preemptible'
                [vm shutdown]='--timeout'
                [node drain]='--dry-run --timeout'
                [node resume]='--bring-home'
                [node fence-set]='--parameters'
                [vm move]='--timeout --stop'
                [vm defragment]='--dry-run --timeout'
                [cluster invite]='--expires'
                [cluster reset]='--forget'
                [cluster level]='--dry-run'
                [events]='--since --max --follow'
                [log]='--since --max'
                [check]='--strict'
                [plan]='--lose --drain --add --add-node --start --reserve --defragment'
                [export]='--text'
                [cluster export]='--text'
        )

        # The words so far that are no options and no values of options: noun, verb, and what follows.
        local -a plain=()
        local i
        for ((i = 1; i < cword; i++)); do
                case ${words[i]} in
                --match | --gpu | --placement | --reserve | --max-in-use | --after-use | --pool | --gpus | \
                        --priority | --restart | --prefer | --with | --apart | --timeout | --parameters | --since | \
                        --max | --lose | --add | --start | --address | --request-id | --expires | --model | \
                        --rather-with | --rather-apart | --preempt | --preemptible | --drain | --add-node | \
                        --defragment)
                        ((i++))
                        ;;
                -*) ;;
                *) plain+=("${words[i]}") ;;
                esac
        done
        local noun=${plain[0]-} verb=${plain[1]-}

        case $prev in
        --reserve)
                [[ $noun == plan ]] && __gpupoolctl_words "$(__gpupoolctl_names Pool)"
                return
                ;;
        --pool | --add) __gpupoolctl_words "$(__gpupoolctl_names Pool)"; return ;;
        --gpu) __gpupoolctl_gpus ''; return ;;
        --prefer | --lose | --drain) __gpupoolctl_words "$(__gpupoolctl_names Node)"; return ;;
        --with | --apart | --rather-with | --rather-apart | --start | --defragment)
                __gpupoolctl_words "$(__gpupoolctl_names VM)"
                return
                ;;
        --preempt | --preemptible) __gpupoolctl_words 'yes no'; return ;;
        --placement) __gpupoolctl_words 'pack spread'; return ;;
        --after-use) __gpupoolctl_words 'host vfio'; return ;;
        --restart) __gpupoolctl_words 'always on-failure never'; return ;;
        --parameters) __gpupoolctl_files; return ;;
        --expires) __gpupoolctl_words '15min 2h 1d'; return ;;
        --match | --gpus | --model | --add-node | --max-in-use | --priority | --timeout | --since | --max | \
                --address | --request-id) return ;;
        esac

        if [[ $cur == -* ]]; then
                __gpupoolctl_words "--json --no-wait --quiet --yes --no-ask-password --request-id --address --help \
                        --version \
                        ${options[$noun]-} ${options[$noun $verb]-}"
                return
        fi
        case ${#plain[@]} in
        0) __gpupoolctl_words 'status gpu pool vm node job events log check plan export import cluster' ;;
        1)
                if [[ $noun == gpu ]]; then
                        __gpupoolctl_gpus "${verbs[gpu]}"
                elif [[ $noun == check ]]; then
                        __gpupoolctl_words "$(__gpupoolctl_names Node)"
                elif [[ $noun == export || $noun == import ]]; then
                        __gpupoolctl_files
                else
                        __gpupoolctl_words "${verbs[$noun]-}"
                fi
                ;;
        *)
                case $noun/$verb/${#plain[@]} in
                gpu/show/2 | gpu/quarantine/2 | gpu/release/2) __gpupoolctl_gpus '' ;;
                pool/add/2 | pool/remove/2) __gpupoolctl_words "$(__gpupoolctl_names Pool)" ;;
                pool/add/* | pool/remove/* | pool/create/[3-9]*) __gpupoolctl_gpus '' ;;
                vm/define/2 | vm/update/3 | cluster/import/2 | cluster/export/2) __gpupoolctl_files ;;
                pool/list/* | pool/create/* | vm/list/* | node/list/* | job/list/* | gpu/*) ;;
                pool/*/2) __gpupoolctl_words "$(__gpupoolctl_names Pool)" ;;
                vm/move/3) __gpupoolctl_words "$(__gpupoolctl_names Node)" ;;
                vm/*/2 | vm/start/* | vm/stop/* | vm/shutdown/* | vm/restart/* | vm/delete/*)
                        __gpupoolctl_words "$(__gpupoolctl_names VM)"
                        ;;
                node/*/2) __gpupoolctl_words "$(__gpupoolctl_names Node)" ;;
                job/show/2 | job/wait/* | job/cancel/*) __gpupoolctl_words "$(__gpupoolctl_jobs)" ;;
                esac
                ;;
        esac
        return 0
}

complete -F _gpupoolctl gpupoolctl
