/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Probe protocol: what the service asks gpupool-probe, one question per connection, in lines of text.
 *
 *      → gpu 0000:41:00.0
 *      ← config HEX...                         configuration space, up to 4096 bytes
 *      ← bridge 0000:40:01.0 HEX...            the same of each bridge above, nearest first
 *      ← holder 812 host nvidia-persiste       a process that has one of the GPU's device files open; "vfio" instead of
 *                                              "host" where it is the VFIO file, that is a virtual machine's
 *      ← end
 *
 * A line that could not be had is left out; an answer without "end" is none. Lines of a kind that is not known are
 * to be passed over. A question that is not understood is answered by hanging up. */

#define PROBE_SOCKET "/run/gpupool-probe/probe.sock"
#define PROBE_REQUEST_MAX 64U
#define PROBE_BRIDGES_MAX 16U           /* PCIe hierarchies are 2 to 6 deep */
#define PROBE_HOLDERS_MAX 256U
/* All of the above with 4096 bytes of configuration space each, in hex. */
#define PROBE_ANSWER_MAX (256U * 1024U)
