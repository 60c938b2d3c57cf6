/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* gpupool-sim --placement: what would become of a cluster that is described as text (core/describe.h), for bug reports
 * and for planning without a cluster. Nothing is simulated: one pass of placement, and its words. */

#include <stdio.h>

/* @file may be "-". Exit status: 0: all who want to run do; 1: some wait; 2: the file is not what it should be. */
int place_file(const char *file, FILE *to);
