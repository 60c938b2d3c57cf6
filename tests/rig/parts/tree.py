# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tree: a file system of folders, links and attributes in memory, with the errors and manners of the kernel's sysfs.
Paths are found in one flat table, so that a read costs one look-up however deep it lies."""

import errno
import stat
import time


def fail(code):
    raise OSError(code, "")


class Folder:
    mode = stat.S_IFDIR | 0o755
    size = 0

    def __init__(self):
        self.names = set()


class Link:
    mode = stat.S_IFLNK | 0o777

    def __init__(self, target):
        self.target = target
        self.size = len(target)


class Attribute:
    """content: text, bytes, or a function that gives either. write(text) stores; whoever may not raises OSError."""

    size = 4096

    def __init__(self, content=None, write=None, permissions=None, size=4096):
        if permissions is None:
            permissions = (0o444 if content is not None else 0) | (0o200 if write else 0)
        self.mode = stat.S_IFREG | permissions
        self.content = content
        self.write = write
        self.size = size

    def read(self):
        if self.content is None:
            fail(errno.EIO)
        value = self.content() if callable(self.content) else self.content
        return value.encode() if isinstance(value, str) else value


class Tree:
    def __init__(self):
        self.nodes = {"/": Folder()}
        self.born = time.time()

    def find(self, path):
        node = self.nodes.get(path)
        if node is None:
            fail(errno.ENOENT)
        return node

    def has(self, path):
        return path in self.nodes

    def names(self, path):
        return sorted(self.find(path).names)

    def put(self, path, node):
        """Adds a node, and the folders above it. One that is there is replaced."""
        parent, _, name = path.rpartition("/")
        parent = parent or "/"
        if parent not in self.nodes:
            self.put(parent, Folder())
        self.nodes[path] = node
        self.nodes[parent].names.add(name)
        return node

    def folder(self, path):
        if path not in self.nodes:
            self.put(path, Folder())

    def link(self, path, target):
        """A link to the absolute target, written relative as sysfs does."""
        folder = path.split("/")[1:-1]
        words = target.split("/")[1:]
        while folder and words and folder[0] == words[0]:
            del folder[0], words[0]
        self.put(path, Link("/".join([".."] * len(folder) + words)))

    def remove(self, path):
        """Takes it away with all below it; nothing happens where nothing is."""
        node = self.nodes.get(path)
        if node is None:
            return
        for name in list(getattr(node, "names", ())):
            self.remove(f"{path}/{name}")
        parent, _, name = path.rpartition("/")
        self.nodes[parent or "/"].names.discard(name)
        del self.nodes[path]
