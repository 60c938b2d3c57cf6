# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unit: what a systemd unit file says, as far as the rig honours it: how to start, as whom, with which folders and
capabilities, and what to do when it ends. Sandboxing (Protect…, Private…, SystemCallFilter) is not done here."""

import re
import shlex

SIGNIFICANT_PREFIXES = "@-:+!"


class Unit:
    def __init__(self, text):
        self.values = {}
        for key, value in assignments(text):
            self.values.setdefault(key, []).append(value)
            if not value:
                self.values[key] = []  # an empty assignment resets the list

    def get(self, key, default=None):
        """The last assignment."""
        values = self.values.get(key)
        return values[-1] if values else default

    def words(self, key):
        """All assignments, split at spaces."""
        return [word for value in self.values.get(key, []) for word in shlex.split(value)]

    def says(self, key):
        """Whether it is assigned at all, be it to nothing."""
        return key in self.values

    def yes(self, key):
        return self.get(key, "no").lower() in ("yes", "true", "on", "1")

    def seconds(self, key, default):
        """A time span such as 500ms, 2, 1min 30s, infinity."""
        text = self.get(key)
        if text is None:
            return default
        if text == "infinity":
            return 1e9
        sizes = {"ms": 0.001, "s": 1, "sec": 1, "": 1, "min": 60, "m": 60, "h": 3600, "us": 1e-6}
        return sum(float(number) * sizes[unit] for number, unit in re.findall(r"([\d.]+)\s*([a-z]*)", text))

    def command(self, key, instance=""):
        """The words of ExecStart= and the like, or None."""
        line = self.get(key)
        if line is None:
            return None
        words = shlex.split(line.lstrip(SIGNIFICANT_PREFIXES))
        return [word.replace("%i", instance).replace("%t", "/run").replace("%%", "%") for word in words]


def assignments(text):
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        line = line.strip()
        if line and line[0] not in "#;[" and "=" in line:
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()
