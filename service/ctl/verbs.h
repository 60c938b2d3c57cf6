/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Verbs: what gpupoolctl can be told, as one table. Help, completion and the search for a mistyped word all read it. */

#include "ctl/args.h"
#include "ctl/ctl.h"

typedef struct Verb {
        const char *noun;
        const char *verb;               /* NULL: the noun alone */
        const char *words;              /* "NAME [REASON]" */
        size_t least, most;             /* how many words; WORDS_ANY: no limit */
        const Option *options;          /* may be NULL */
        const char *summary;            /* one line, in lists */
        const char *help;               /* more, with an example; lines as they are printed */
        Status (*run)(Ctl *ctl, const Args *args);
} Verb;

#define WORDS_ANY SIZE_MAX

/* Options of every verb. */
extern const Option global_options[];

/* Ends with a Verb whose noun is NULL. */
extern const Verb verbs[];

const Verb *verb_find(const char *noun, const char *verb);      /* NULL: there is none */
bool noun_is_known(const char *noun);
const char *noun_nearest(const char *typed);                    /* NULL: none is near */
const char *verb_nearest(const char *noun, const char *typed);

void help_all(const Screen *screen);
void help_noun(const Screen *screen, const char *noun);
void help_verb(const Screen *screen, const Verb *verb);

Status verb_status(Ctl *ctl, const Args *args);
Status verb_gpu_list(Ctl *ctl, const Args *args);
Status verb_gpu_show(Ctl *ctl, const Args *args);
Status verb_gpu_quarantine(Ctl *ctl, const Args *args);
Status verb_gpu_release(Ctl *ctl, const Args *args);
Status verb_pool_list(Ctl *ctl, const Args *args);
Status verb_pool_show(Ctl *ctl, const Args *args);
Status verb_pool_create(Ctl *ctl, const Args *args);
Status verb_pool_add(Ctl *ctl, const Args *args);
Status verb_pool_remove(Ctl *ctl, const Args *args);
Status verb_pool_rules(Ctl *ctl, const Args *args);
Status verb_pool_policy(Ctl *ctl, const Args *args);
Status verb_pool_rename(Ctl *ctl, const Args *args);
Status verb_pool_delete(Ctl *ctl, const Args *args);
Status verb_vm_list(Ctl *ctl, const Args *args);
Status verb_vm_show(Ctl *ctl, const Args *args);
Status verb_vm_define(Ctl *ctl, const Args *args);
Status verb_vm_start(Ctl *ctl, const Args *args);
Status verb_vm_shutdown(Ctl *ctl, const Args *args);
Status verb_vm_stop(Ctl *ctl, const Args *args);
Status verb_vm_restart(Ctl *ctl, const Args *args);
Status verb_vm_move(Ctl *ctl, const Args *args);
Status verb_vm_defragment(Ctl *ctl, const Args *args);
Status verb_vm_requirement(Ctl *ctl, const Args *args);
Status verb_vm_policy(Ctl *ctl, const Args *args);
Status verb_vm_update(Ctl *ctl, const Args *args);
Status verb_vm_xml(Ctl *ctl, const Args *args);
Status verb_vm_delete(Ctl *ctl, const Args *args);
Status verb_vm_explain(Ctl *ctl, const Args *args);
Status verb_node_list(Ctl *ctl, const Args *args);
Status verb_node_show(Ctl *ctl, const Args *args);
Status verb_node_drain(Ctl *ctl, const Args *args);
Status verb_node_resume(Ctl *ctl, const Args *args);
Status verb_node_remove(Ctl *ctl, const Args *args);
Status verb_node_fence_set(Ctl *ctl, const Args *args);
Status verb_node_fence_clear(Ctl *ctl, const Args *args);
Status verb_node_confirm_down(Ctl *ctl, const Args *args);
Status verb_job_list(Ctl *ctl, const Args *args);
Status verb_job_show(Ctl *ctl, const Args *args);
Status verb_job_wait(Ctl *ctl, const Args *args);
Status verb_job_cancel(Ctl *ctl, const Args *args);
Status verb_events(Ctl *ctl, const Args *args);
Status verb_log(Ctl *ctl, const Args *args);
Status verb_check(Ctl *ctl, const Args *args);
Status verb_plan(Ctl *ctl, const Args *args);
Status verb_cluster_invite(Ctl *ctl, const Args *args);
Status verb_cluster_join(Ctl *ctl, const Args *args);
Status verb_cluster_leave(Ctl *ctl, const Args *args);
Status verb_cluster_reset(Ctl *ctl, const Args *args);
Status verb_cluster_level(Ctl *ctl, const Args *args);
Status verb_cluster_freeze(Ctl *ctl, const Args *args);
Status verb_cluster_thaw(Ctl *ctl, const Args *args);
Status verb_cluster_export(Ctl *ctl, const Args *args);
Status verb_cluster_import(Ctl *ctl, const Args *args);
