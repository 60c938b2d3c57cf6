/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl/verbs.h"

#include <string.h>

#include "ctl/nearest.h"

const Option global_options[] = {
        { "--json", 0, NULL, "one JSON document instead of text; its shape is stable" },
        { "--no-wait", 0, NULL, "do not wait for the end of a job" },
        { "--quiet", 'q', NULL, "say nothing of success" },
        { "--yes", 'y', NULL, "ask nothing" },
        { "--no-ask-password", 0, NULL, "let polkit ask for no password" },
        { "--request-id", 0, "ID", "ask again for what may have happened, so that it happens once" },
        { "--address", 0, "ADDRESS", "the D-Bus address of another bus than the system bus" },
        { "--help", 'h', NULL, "this, or help on a verb" },
        { "--version", 0, NULL, "the version of this program" },
        OPTIONS_END,
};

#define OPTION_PLACEMENT { "--placement", 0, "pack|spread", "fill one node first (pack), or be even (spread)" }
#define OPTION_RESERVE { "--reserve", 0, "N", "GPUs kept free for failover" }
#define OPTION_MAX_IN_USE { "--max-in-use", 0, "N", "the most GPUs in use at once, as by a licence; 0: no limit" }
#define OPTION_AFTER_USE { "--after-use", 0, "host|vfio", "where GPUs are when no VM has them: with the driver they " \
                           "had before (host), or on vfio-pci (vfio)" }
#define OPTION_MATCH { "--match", 0, "RULE", "GPUs that come in by themselves; may be given again" }
#define OPTION_PRIORITY { "--priority", 0, "N", "the higher is placed first (50)" }
#define OPTION_RESTART { "--restart", 0, "always|on-failure|never", "what happens when it ends by itself (on-failure)" }
#define OPTION_PREFER { "--prefer", 0, "NODE", "where it should rather run; may be given again, the best first" }
#define OPTION_WITH { "--with", 0, "VM", "run on the node of that VM; may be given again" }
#define OPTION_APART { "--apart", 0, "VM", "run on another node than that VM; may be given again" }
#define OPTION_RATHER_WITH { "--rather-with", 0, "VM", "on the node of that VM, if it costs none its place" }
#define OPTION_RATHER_APART { "--rather-apart", 0, "VM", "on another node than that VM, if it costs none its place" }
#define OPTION_PREEMPT { "--preempt", 0, "yes|no", "stop preemptible VMs of lower priority to make room for it (no)" }
#define OPTION_PREEMPTIBLE { "--preemptible", 0, "yes|no", "it may be stopped so (no)" }
#define OPTION_MODEL { "--model", 0, "VENDOR:DEVICE", "only GPUs with these ids, or that match: 10de:2330; '': any" }
#define OPTION_GPUS { "--gpus", 0, "N", "how many GPUs it needs, all on one node" }
#define OPTION_POOL { "--pool", 0, "POOL", "from which pool" }
#define OPTION_SINCE { "--since", 0, "N", "only what came after event N" }
#define OPTION_MAX { "--max", 0, "N", "the newest N (50); 0: all that are kept" }
#define OPTION_DRY_RUN { "--dry-run", 0, NULL, "only say what would happen" }

static const Option pool_create_options[] = {
        OPTION_MATCH,
        { "--gpu", 0, "GPU", "the same as a GPU after the name" },
        OPTION_PLACEMENT, OPTION_RESERVE, OPTION_MAX_IN_USE, OPTION_AFTER_USE, OPTIONS_END,
};
static const Option pool_rules_options[] = {
        OPTION_MATCH, { "--none", 0, NULL, "no rules: GPUs come in by hand only" }, OPTIONS_END,
};
static const Option pool_policy_options[] = {
        OPTION_PLACEMENT, OPTION_RESERVE, OPTION_MAX_IN_USE, OPTION_AFTER_USE, OPTIONS_END,
};
static const Option vm_define_options[] = {
        OPTION_POOL, OPTION_GPUS, OPTION_MODEL, OPTION_PRIORITY, OPTION_RESTART, OPTION_PREFER, OPTION_WITH,
        OPTION_APART, OPTION_RATHER_WITH, OPTION_RATHER_APART, OPTION_PREEMPT, OPTION_PREEMPTIBLE, OPTIONS_END,
};
static const Option vm_requirement_options[] = { OPTION_POOL, OPTION_GPUS, OPTION_MODEL, OPTIONS_END };
static const Option vm_policy_options[] = {
        OPTION_PRIORITY, OPTION_RESTART, OPTION_PREFER, OPTION_WITH, OPTION_APART, OPTION_RATHER_WITH,
        OPTION_RATHER_APART, OPTION_PREEMPT, OPTION_PREEMPTIBLE, OPTIONS_END,
};
static const Option vm_shutdown_options[] = {
        { "--timeout", 0, "SECONDS", "stop it hard if it has not shut down by then; 0: never" }, OPTIONS_END,
};
static const Option node_drain_options[] = {
        OPTION_DRY_RUN, { "--timeout", 0, "SECONDS", "for each clean shutdown, then it is stopped hard" }, OPTIONS_END,
};
static const Option node_resume_options[] = {
        { "--bring-home", 0, NULL, "move back what the drain moved away" }, OPTIONS_END,
};
static const Option vm_move_options[] = {
        { "--timeout", 0, "SECONDS", "stop it hard if it has not shut down by then; 0: never" },
        { "--stop", 0, NULL, "end it at once, as if power were cut" }, OPTIONS_END,
};
static const Option vm_defragment_options[] = {
        OPTION_DRY_RUN, { "--timeout", 0, "SECONDS", "for each clean shutdown, then it is stopped hard" }, OPTIONS_END,
};
static const Option node_fence_options[] = {
        { "--parameters", 0, "FILE", "more KEY=VALUE, a line each, - for standard input: for passwords" },
        OPTIONS_END,
};
static const Option invite_options[] = {
        { "--expires", 0, "TIME", "how long it is good: 90s, 15min (the default), 2h, at most 7d" }, OPTIONS_END,
};
static const Option reset_options[] = {
        { "--forget", 0, NULL, "ask nothing: all that this node knows may be lost" }, OPTIONS_END,
};
static const Option export_options[] = {
        { "--text", 0, NULL, "no backup, but what placement goes by, as text and without XML" }, OPTIONS_END,
};
static const Option level_options[] = { OPTION_DRY_RUN, OPTIONS_END };
static const Option events_options[] = {
        OPTION_SINCE, OPTION_MAX, { "--follow", 'f', NULL, "go on as they happen" }, OPTIONS_END,
};
static const Option log_options[] = { OPTION_SINCE, OPTION_MAX, OPTIONS_END };
static const Option check_options[] = {
        { "--strict", 0, NULL, "warnings count as errors" }, OPTIONS_END,
};
static const Option plan_options[] = {
        { "--lose", 0, "NODE", "suppose this node fails; may be given again, as may all but --defragment" },
        { "--drain", 0, "NODE", "suppose this node is drained" },
        { "--add", 0, "POOL=N[@NODE]", "suppose a pool had N more GPUs, on this node or on a new one" },
        { "--add-node", 0, "NAME", "suppose a node more, without GPUs; --add gives it some" },
        { "--start", 0, "VM", "suppose this VM were started" },
        { "--reserve", 0, "POOL=N", "suppose this pool kept N GPUs free" },
        { "--defragment", 0, "VM", "suppose others moved to make room for this VM, which waits" },
        OPTIONS_END,
};

const Verb verbs[] = {
        { "status", NULL, "", 0, 0, NULL, "the cluster, its nodes and pools, and which VMs wait",
          "Shows what there is and what is not well. The first thing to look at.\n"
          "Exit status 3 if the cluster has no quorum, or this node was removed from it.\n\n"
          "  gpupoolctl status", verb_status },

        { "gpu", "list", "", 0, 0, NULL, "all GPUs, and why some cannot be used",
          "Shows each GPU of each node. STATE is ready, in use, blocked (the survey found something in the way),\n"
          "quarantined or absent.\n\n"
          "  gpupoolctl gpu\n"
          "  gpupoolctl gpu --json | jq -r '.gpus[] | select(.assignable) | .name'", verb_gpu_list },
        { "gpu", "show", "GPU", 1, 1, NULL, "one GPU: every blocker with its remedy, driver, holders, group, link",
          "Shows all that is known of one GPU. \"gpupoolctl gpu GPU\" does the same. A GPU is named as\n"
          "node:dddd:bb:dd.f; the address alone, or without its leading 0000:, will do if only one GPU has it.\n\n"
          "  gpupoolctl gpu a:0000:41:00.0\n"
          "  gpupoolctl gpu 41:00.0", verb_gpu_show },
        { "gpu", "quarantine", "GPU [REASON]", 1, WORDS_ANY, NULL, "keep a GPU from being placed",
          "The GPU is not given to any VM until it is released. A VM that has it keeps it. The reason is for those\n"
          "who come after you.\n\n"
          "  gpupoolctl gpu quarantine a:0000:41:00.0 fan rattles, ticket 4711", verb_gpu_quarantine },
        { "gpu", "release", "GPU", 1, 1, NULL, "end the quarantine of a GPU",
          "The GPU may be placed again, if the survey finds nothing in the way.\n\n"
          "  gpupoolctl gpu release a:0000:41:00.0", verb_gpu_release },

        { "pool", "list", "", 0, 0, NULL, "all pools, what is free, and how many nodes each may lose",
          "SURVIVES says how many nodes may fail, whichever they are, and every VM of the pool still runs.\n\n"
          "  gpupoolctl pool", verb_pool_list },
        { "pool", "show", "POOL", 1, 1, NULL, "one pool: its GPUs, rules, policy, and the VMs at risk",
          "\"gpupoolctl pool POOL\" does the same.\n\n"
          "  gpupoolctl pool show training", verb_pool_show },
        { "pool", "create", "NAME [GPU]... [OPTION]...", 1, WORDS_ANY, pool_create_options,
          "make a pool, and put GPUs in",
          "A pool is a name for GPUs on all nodes. --match puts in every GPU that a rule matches, now and later. A\n"
          "rule is VENDOR[:DEVICE][@NODE][=SET]; the first three are patterns (10de:* is all of NVIDIA), and SET says\n"
          "which of them go to one VM together, where the hardware does not tell it: board (all of a node), alone, or\n"
          "slots joined by +. GPUs that are named are put in now.\n\n"
          "  gpupoolctl pool create training --match 10de:2331\n"
          "  gpupoolctl pool create edge a:0000:41:00.0 b:0000:41:00.0 --reserve 1", verb_pool_create },
        { "pool", "add", "POOL GPU...", 2, WORDS_ANY, NULL, "put GPUs into a pool",
          "All of them come in, or none. One that is not assignable may come in and is not used until it is.\n\n"
          "  gpupoolctl pool add training a:0000:41:00.0 a:0000:42:00.0", verb_pool_add },
        { "pool", "remove", "POOL GPU...", 2, WORDS_ANY, NULL, "take GPUs out of a pool",
          "All of them go, or none: a GPU that a VM has, or that comes in by a rule, is refused.\n\n"
          "  gpupoolctl pool remove training a:0000:41:00.0", verb_pool_remove },
        { "pool", "rules", "POOL [--match ...]... | --none", 1, 1, pool_rules_options,
          "set which GPUs come in by themselves",
          "The rules given replace the present ones; without any, the present ones are shown.\n\n"
          "  gpupoolctl pool rules training --match 10de:2331 --match '10de:2336@gpu-*'\n"
          "  gpupoolctl pool rules hgx --match '10de:2330=board'", verb_pool_rules },
        { "pool", "policy", "POOL [OPTION]...", 1, 1, pool_policy_options, "set how a pool's GPUs are given out",
          "What is not given stays as it is. No running VM is touched.\n\n"
          "  gpupoolctl pool policy training --placement spread --reserve 2", verb_pool_policy },
        { "pool", "rename", "POOL NEW-NAME", 2, 2, NULL, "give a pool another name",
          "VMs follow by themselves; polkit rules that name the pool do not.\n\n"
          "  gpupoolctl pool rename training research", verb_pool_rename },
        { "pool", "delete", "POOL", 1, 1, NULL, "remove a pool",
          "Its GPUs stay where they are, in no pool. Refused while a VM requires it.\n\n"
          "  gpupoolctl pool delete edge", verb_pool_delete },

        { "vm", "list", "", 0, 0, NULL, "all VMs, where they run, and why some wait",
          "  gpupoolctl vm", verb_vm_list },
        { "vm", "show", "VM", 1, 1, NULL, "one VM: state and reason, GPUs, policy, last placement",
          "\"gpupoolctl vm VM\" does the same. A VM is named by its name or its UUID.\n\n"
          "  gpupoolctl vm show bert", verb_vm_show },
        { "vm", "define", "FILE --pool POOL [OPTION]...", 1, 1, vm_define_options, "hand a VM to the cluster",
          "FILE is ordinary libvirt domain XML without GPUs (- for standard input). The VM needs --gpus (1) of the\n"
          "pool, all on the node that runs it, and is stopped until it is started.\n\n"
          "  gpupoolctl vm define bert.xml --pool training --gpus 2\n"
          "  virsh dumpxml --inactive bert | gpupoolctl vm define - --pool training", verb_vm_define },
        { "vm", "start", "VM...", 1, WORDS_ANY, NULL, "want VMs to run, and place them",
          "Waits until each runs. One that cannot run now waits, says why (exit status 3), and starts by itself when\n"
          "the reason goes away. Ctrl-C leaves the job running.\n\n"
          "  gpupoolctl vm start bert", verb_vm_start },
        { "vm", "shutdown", "VM... [--timeout SECONDS]", 1, WORDS_ANY, vm_shutdown_options,
          "ask the guests to shut down", "Each is stopped hard if it has not shut down in time.\n\n"
          "  gpupoolctl vm shutdown bert --timeout 120", verb_vm_shutdown },
        { "vm", "stop", "VM...", 1, WORDS_ANY, NULL, "end VMs at once, as if power were cut",
          "Its GPUs are inspected and free again. To let the guest write its disks first: vm shutdown.\n\n"
          "  gpupoolctl vm stop bert", verb_vm_stop },
        { "vm", "restart", "VM...", 1, WORDS_ANY, NULL, "stop VMs at once and start them again",
          "From the XML and the requirement that now stand, on any node.\n\n"
          "  gpupoolctl vm restart bert", verb_vm_restart },
        { "vm", "move", "VM [NODE] [OPTION]...", 1, 2, vm_move_options, "shut a VM down and start it on another node",
          "Without NODE it goes to the best of the other nodes. Where there is no place for it nothing is stopped\n"
          "(exit status 3).\n\n"
          "  gpupoolctl vm move bert\n"
          "  gpupoolctl vm move bert b --timeout 60", verb_vm_move },
        { "vm", "defragment", "VM [OPTION]...", 1, 1, vm_defragment_options, "move others to make room for a VM",
          "For one that waits: the fewest that it takes, and none of a higher priority, are shut down and started on\n"
          "another node, one after the other, until this one has its place. Where that does not make the room nothing\n"
          "is moved (exit status 3). Ctrl-C leaves it going on; \"gpupoolctl job cancel\" stops it before the next\n"
          "move. --dry-run says what would go where.\n\n"
          "  gpupoolctl vm defragment bert --dry-run\n"
          "  gpupoolctl vm defragment bert", verb_vm_defragment },
        { "vm", "requirement", "VM [OPTION]...", 1, 1, vm_requirement_options, "set which GPUs a VM needs",
          "Counts from its next start on. What is not given stays.\n\n"
          "  gpupoolctl vm requirement bert --gpus 4 --model 10de:2330", verb_vm_requirement },
        { "vm", "policy", "VM [OPTION]...", 1, 1, vm_policy_options, "set how a VM is placed and restarted",
          "What is not given stays. --prefer replaces what stood, and --with, --apart, --rather-with and\n"
          "--rather-apart together do so; --prefer '' and --with '' empty it. The higher priority always comes first;\n"
          "among those of one priority as many run as there is room for, so give a large VM that must not wait behind\n"
          "small ones a higher one. --preempt stops VMs for it that are --preemptible and of lower priority, no more\n"
          "than needed.\n\n"
          "  gpupoolctl vm policy bert --priority 80 --restart always --prefer b --prefer a", verb_vm_policy },
        { "vm", "update", "VM FILE", 2, 2, NULL, "replace a VM's domain XML",
          "Counts from its next start on. The UUID must be the same. FILE may be - for standard input.\n\n"
          "  gpupoolctl vm update bert bert.xml", verb_vm_update },
        { "vm", "xml", "VM", 1, 1, NULL, "print a VM's domain XML",
          "As it was defined, without GPUs. It may hold secrets, so polkit is asked.\n\n"
          "  gpupoolctl vm xml bert > bert.xml", verb_vm_xml },
        { "vm", "delete", "VM...", 1, WORDS_ANY, NULL, "remove VMs from the cluster",
          "Their disks stay. Refused while one runs.\n\n"
          "  gpupoolctl vm delete bert", verb_vm_delete },
        { "vm", "explain", "VM", 1, 1, NULL, "for each node: could the VM run there, and why not",
          "Exit status 3 if it runs nowhere and no node could run it now.\n\n"
          "  gpupoolctl vm explain huge", verb_vm_explain },

        { "node", "list", "", 0, 0, NULL, "all nodes",
          "  gpupoolctl node", verb_node_list },
        { "node", "show", "NODE", 1, 1, NULL, "one node: versions, memory, libvirt, guard, fencing",
          "\"gpupoolctl node NODE\" does the same.\n\n"
          "  gpupoolctl node show a", verb_node_show },
        { "node", "drain", "NODE [OPTION]...", 1, 1, node_drain_options, "move every VM away, for work on the host",
          "One VM at a time: shut down cleanly, started elsewhere. None is placed there until it is resumed. What has\n"
          "no place elsewhere stays, and is told (exit status 3); it leaves by itself when there is room. --dry-run\n"
          "says what would go where.\n\n"
          "  gpupoolctl node drain a --dry-run\n"
          "  gpupoolctl node drain a", verb_node_drain },
        { "node", "resume", "NODE [--bring-home]", 1, 1, node_resume_options, "let VMs be placed there again",
          "After a drain, and after a node was lost so often that no VM is placed on it any more.\n\n"
          "  gpupoolctl node resume a --bring-home", verb_node_resume },
        { "node", "remove", "NODE", 1, 1, NULL, "take a node out of the cluster, for ever",
          "Its key is dropped and its connections are closed. No VM may be assigned to it; its GPUs leave the pools.\n"
          "It need not be there. On this host itself: gpupoolctl cluster leave.\n\n"
          "  gpupoolctl node remove c", verb_node_remove },
        { "node", "fence-set", "NODE AGENT [KEY=VALUE]... [--parameters FILE]", 2, WORDS_ANY, node_fence_options,
          "say how a node can be switched off",
          "AGENT is a program of the fence-agents package; what it needs stands in its manual page. A node that falls\n"
          "silent is switched off by it, and stays off; with action=reboot it is switched on again. What was set\n"
          "before is replaced. Whatever is on a command line every user of the host can read, so passwords are taken\n"
          "from FILE or standard input only. Every node that may lead needs AGENT.\n\n"
          "  gpupoolctl node fence-set b fence_ipmilan ip=10.0.9.2 username=admin --parameters - <b.password",
          verb_node_fence_set },
        { "node", "fence-clear", "NODE", 1, 1, NULL, "forget how a node can be switched off",
          "  gpupoolctl node fence-clear b", verb_node_fence_clear },
        { "node", "confirm-down", "NODE", 1, 1, NULL, "vouch that a silent node is off",
          "Its VMs start elsewhere at once. If it is not off, a VM may run twice and its disks be destroyed: look at\n"
          "the machine first. On a terminal the node's name must be typed; a script says --yes. Mostly there is no\n"
          "need for it: a silent node is lost by itself when its lease has run out.\n\n"
          "  gpupoolctl node confirm-down b", verb_node_confirm_down },

        { "job", "list", "", 0, 0, NULL, "the jobs that run, and those that ended a minute ago",
          "  gpupoolctl job", verb_job_list },
        { "job", "show", "JOB", 1, 1, NULL, "one job",
          "  gpupoolctl job show 7", verb_job_show },
        { "job", "wait", "JOB...", 1, WORDS_ANY, NULL, "wait for the end of jobs",
          "Ends as the call that made the job would have.\n\n"
          "  gpupoolctl job wait 7", verb_job_wait },
        { "job", "cancel", "JOB...", 1, WORDS_ANY, NULL, "give jobs up, and undo what they began",
          "  gpupoolctl job cancel 7", verb_job_cancel },

        { "events", NULL, "[--since N] [--max N] [--follow]", 0, 0, events_options, "what has happened",
          "The newest events, oldest first. With --follow it goes on until Ctrl-C, also over a restart of gpupoold;\n"
          "with --json then one document a line.\n\n"
          "  gpupoolctl events --follow\n"
          "  gpupoolctl events --since 4711 --json", verb_events },
        { "log", NULL, "[--since N] [--max N]", 0, 0, log_options, "who did what, and by which right",
          "The administrative acts among the events: when, who, on which node, the polkit action, what.\n\n"
          "  gpupoolctl log", verb_log },
        { "check", NULL, "[NODE] [--strict]", 0, 1, check_options, "is this cluster ready for a failure?",
          "An error means that a promise does not hold, a warning that it would not after one failure. With NODE\n"
          "only what is about that host, and more of it: GPUs that are in no pool, and for each VM there the nodes\n"
          "that could not take it.\n"
          "Exit status 3 if there is an error; with --strict also for a warning.\n\n"
          "  gpupoolctl check\n"
          "  gpupoolctl check b --strict", verb_check },
        { "plan", NULL, "[OPTION]...", 0, 0, plan_options, "what would run where, if",
          "Supposes all that is given, together, and says which VMs would move, start, stop or wait, and what becomes\n"
          "of the pools. Changes nothing. Exit status 3 if a VM would not run that is to.\n\n"
          "  gpupoolctl plan --lose b\n"
          "  gpupoolctl plan --add-node d --add training=8@d --start huge", verb_plan },

        { "export", NULL, "FILE [--text]", 1, 1, export_options, "write a backup of what the cluster has decided",
          "FILE is made new, whole or not at all, and readable by its owner only: it holds the VMs' XML. - is\n"
          "standard output. With --text it is a description for people and for reports, which cannot be imported.\n\n"
          "  gpupoolctl export lab-$(date +%F).gpupool\n"
          "  gpupoolctl export --text -", verb_cluster_export },
        { "import", NULL, "FILE", 1, 1, NULL, "restore a backup into an empty cluster",
          "Brings back pools, VMs (stopped) and quarantines, all or nothing. The cluster must have no pools and no\n"
          "VMs; its members stay who they are. - is standard input.\n\n"
          "  gpupoolctl import lab-2026-01-31.gpupool", verb_cluster_import },

        { "cluster", "invite", "[--expires TIME]", 0, 0, invite_options, "make an invitation for one new node",
          "Prints the command to run on the new host. The invitation is a secret, works once, and ends after 15\n"
          "minutes, or after --expires. The new host must reach this one, port 7411.\n\n"
          "  gpupoolctl cluster invite\n"
          "  gpupoolctl cluster invite --expires 2h", verb_cluster_invite },
        { "cluster", "join", "INVITATION", 1, 1, NULL, "make this node a member of another cluster",
          "It must have no pools and no VMs of its own, and a name that no member has. Its objects are those of the\n"
          "other cluster then.\n\n"
          "  gpupoolctl cluster join gp1-...", verb_cluster_join },
        { "cluster", "leave", "", 0, 0, NULL, "take this node out of its cluster",
          "The others agree to it, so it needs the majority; no VM may be assigned here. The node becomes a cluster\n"
          "of its own without pools and VMs. Another node is taken out by gpupoolctl node remove.\n\n"
          "  gpupoolctl cluster leave", verb_cluster_leave },
        { "cluster", "reset", "[--forget]", 0, 0, reset_options,
          "make this node forget its cluster, whatever others say",
          "For a node that was removed, and for what is left of a cluster that will never have a majority again.\n"
          "Nobody is asked, and what only this node knew is lost. No VM may run here. The other members, if there\n"
          "are any, hold it for one of theirs until gpupoolctl node remove. On a terminal the node's name must be\n"
          "typed; a script says --forget or --yes.\n\n"
          "  gpupoolctl cluster reset", verb_cluster_reset },
        { "cluster", "level", "[N] [--dry-run]", 0, 1, level_options, "show or raise the functional level",
          "It never falls again: older programs can then no longer be members.\n\n"
          "  gpupoolctl cluster level 2 --dry-run", verb_cluster_level },
        { "cluster", "freeze", "TIME", 1, 1, NULL, "suspend failover by time, for work on the network",
          "Until it is over no node is held for lost because it is silent, and none ends its VMs for want of a lease.\n"
          "At most a day; begun again it begins anew. Other evidence still counts: a fence agent, a new boot.\n\n"
          "  gpupoolctl cluster freeze 10min", verb_cluster_freeze },
        { "cluster", "thaw", "", 0, 0, NULL, "end a freeze early",
          "  gpupoolctl cluster thaw", verb_cluster_thaw },
        { "cluster", "export", "FILE [--text]", 1, 1, export_options, "write a backup of what the cluster has decided",
          "\"gpupoolctl export FILE\" does the same.\n\n"
          "  gpupoolctl cluster export lab.gpupool", verb_cluster_export },
        { "cluster", "import", "FILE", 1, 1, NULL, "restore a backup into an empty cluster",
          "\"gpupoolctl import FILE\" does the same.\n\n"
          "  gpupoolctl cluster import lab.gpupool", verb_cluster_import },
        {},
};

const Verb *verb_find(const char *noun, const char *verb) {
        for (const Verb *v = verbs; v->noun; v++) {
                if (!text_equal(v->noun, noun))
                        continue;
                if (verb ? text_equal(v->verb, verb) : (!v->verb || text_equal(v->verb, "list")))
                        return v;
        }
        return NULL;
}

bool noun_is_known(const char *noun) {
        for (const Verb *v = verbs; v->noun; v++)
                if (text_equal(v->noun, noun))
                        return true;
        return false;
}

const char *noun_nearest(const char *typed) {
        Nearest nearest = nearest_of(typed);
        for (const Verb *v = verbs; v->noun; v++)
                nearest_consider(&nearest, v->noun);
        return nearest_found(&nearest);
}

const char *verb_nearest(const char *noun, const char *typed) {
        Nearest nearest = nearest_of(typed);
        for (const Verb *v = verbs; v->noun; v++)
                if (v->verb && text_equal(v->noun, noun))
                        nearest_consider(&nearest, v->verb);
        return nearest_found(&nearest);
}
