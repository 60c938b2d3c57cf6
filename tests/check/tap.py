# SPDX-License-Identifier: LGPL-2.1-or-later
"""The few lines of TAP that the checks need."""

import sys


class Tap:
    """Collects what is wrong, by check; a check without complaints is ok."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def result(self, name, complaints=()):
        self.count += 1
        complaints = list(complaints)
        if complaints:
            self.failed += 1
        print(f'{"not ok" if complaints else "ok"} {self.count} - {name}')
        for complaint in complaints:
            print(f'#   {complaint}')

    def skip(self, name, why):
        self.count += 1
        print(f'ok {self.count} - {name} # SKIP {why}')

    def note(self, text):
        print(f'# {text}')

    def end(self):
        print(f'1..{self.count}')
        sys.exit(1 if self.failed else 0)
