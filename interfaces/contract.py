# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract, for programs: reads interfaces/*.xml with the documentation in its comments.

A documentation comment stands right before the element it is about:

    Name:
    @argument: what it is, its unit and limits (one for each argument, in order)

    Prose, in paragraphs.

    Errors: names, separated by commas; CHANGE stands for those of every change (errors.md)
    Action: the polkit action that is asked, with the details it carries; or none
    Since: the version that brought it

Properties have no Errors and no Action, signals neither.
"""

import pathlib
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

EMITS = 'org.freedesktop.DBus.Property.EmitsChangedSignal'


@dataclass
class Documentation:
    name: str
    arguments: dict = field(default_factory=dict)
    paragraphs: list = field(default_factory=list)
    errors: list = None
    action: str = None
    since: str = None


@dataclass
class Argument:
    name: str
    signature: str
    direction: str


@dataclass
class Member:
    kind: str                   # method, signal, property
    name: str
    arguments: list = field(default_factory=list)
    signature: str = ''         # of a property
    access: str = ''            # of a property
    annotations: dict = field(default_factory=dict)
    documentation: Documentation = None

    def facts(self):
        """What must be the same in a running service, as lines of text."""
        annotations = dict(self.annotations)
        if self.kind == 'property':
            annotations.setdefault(EMITS, 'true')
            yield f'type {self.signature} access {self.access}'
        for position, argument in enumerate(self.arguments):
            yield f'argument {position} {argument.direction} {argument.name} {argument.signature}'
        for name, value in sorted(annotations.items()):
            yield f'annotation {name} {value}'


@dataclass
class Interface:
    name: str
    members: list = field(default_factory=list)
    annotations: dict = field(default_factory=dict)
    documentation: Documentation = None

    def find(self, kind, name):
        return next((m for m in self.members if (m.kind, m.name) == (kind, name)), None)


def read_documentation(text):
    """Reads one comment; None when it is not a documentation comment."""
    lines = [line.strip() for line in text.strip().split('\n')]
    head = re.fullmatch(r'([\w.]+):', lines[0])
    if not head:
        return None
    documentation = Documentation(head.group(1))
    current = None              # appends the next line to what came last
    for line in lines[1:]:
        argument = re.match(r'@(\w+):\s*(.*)', line)
        field_ = re.match(r'(Errors|Action|Since):\s*(.*)', line)
        if not line:
            current = None
        elif argument:
            current = ('argument', argument.group(1))
            documentation.arguments[argument.group(1)] = argument.group(2)
        elif field_:
            current = ('field', field_.group(1).lower())
            setattr(documentation, current[1], field_.group(2))
        elif current is None:
            current = ('prose', None)
            documentation.paragraphs.append(line)
        elif current[0] == 'argument':
            documentation.arguments[current[1]] += ' ' + line
        elif current[0] == 'field':
            setattr(documentation, current[1], getattr(documentation, current[1]) + ' ' + line)
        else:
            documentation.paragraphs[-1] += ' ' + line
    if documentation.errors is not None:
        names = [name.strip() for name in documentation.errors.split(',')]
        documentation.errors = [] if names == ['none'] else names
    return documentation


def _annotations(element):
    return {a.get('name'): a.get('value') for a in element.findall('annotation')}


def _documented(parent):
    """Each child element with the documentation comment right before it."""
    comment = None
    for child in parent:
        if child.tag is ElementTree.Comment:
            comment = read_documentation(child.text)
        else:
            yield child, comment
            comment = None


def read_interfaces(text):
    """Reads introspection XML, of a file or of a running service, into Interface objects."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.fromstring(text, parser)
    interfaces = []
    for element, documentation in _documented(root):
        if element.tag != 'interface':
            continue
        interface = Interface(element.get('name'), annotations=_annotations(element), documentation=documentation)
        for child, documentation in _documented(element):
            if child.tag not in ('method', 'signal', 'property'):
                continue
            default = 'out' if child.tag == 'signal' else 'in'
            interface.members.append(Member(
                child.tag, child.get('name'),
                [Argument(a.get('name', ''), a.get('type'), a.get('direction', default)) for a in child.findall('arg')],
                child.get('type', ''), child.get('access', ''), _annotations(child), documentation))
        interfaces.append(interface)
    return interfaces


def read_directory(directory):
    """All interfaces of a folder, by name."""
    found = {}
    for path in sorted(pathlib.Path(directory).glob('org.gpupool1.*.xml')):
        for interface in read_interfaces(path.read_text(encoding='utf-8')):
            found[interface.name] = interface
    return found


def _skip_type(signature, at, depth=0):
    """The position after the complete type that begins at @at; ValueError when there is none."""
    if at >= len(signature) or depth > 32:
        raise ValueError(signature)
    code = signature[at]
    if code in 'ybnqiuxtdsogvh':
        return at + 1
    if code == 'a':
        if at + 1 < len(signature) and signature[at + 1] == '{':
            if at + 2 >= len(signature) or signature[at + 2] not in 'ybnqiuxtdsogh':
                raise ValueError(signature)
            end = _skip_type(signature, at + 3, depth + 1)
            if end >= len(signature) or signature[end] != '}':
                raise ValueError(signature)
            return end + 1
        return _skip_type(signature, at + 1, depth + 1)
    if code == '(':
        at += 1
        if at < len(signature) and signature[at] == ')':
            raise ValueError(signature)
        while at < len(signature) and signature[at] != ')':
            at = _skip_type(signature, at, depth + 1)
        if at >= len(signature):
            raise ValueError(signature)
        return at + 1
    raise ValueError(signature)


def is_complete_type(signature):
    """Whether a signature is exactly one complete type of D-Bus."""
    try:
        return _skip_type(signature, 0) == len(signature)
    except ValueError:
        return False


def read_macros(path):
    """The string macros of core/names.h, by name, with the macros in their values filled in."""
    values = {}
    for name, value in re.findall(r'^#define\s+(\w+)\s+(.+?)\s*(?:/\*.*)?$', path.read_text(encoding='utf-8'), re.M):
        parts = re.findall(r'"([^"]*)"|(\w+)', value)
        if '"' in value and all(text or word in values or not word for text, word in parts):
            values[name] = ''.join(text or values.get(word, '') for text, word in parts)
    return values


def read_limits(path):
    """The numeric macros of core/names.h, by name."""
    limits = {}
    text = path.read_text(encoding='utf-8')
    for name, value in re.findall(r'^#define\s+(\w+)\s+(\(?[\dU *()]+\)?)\s*(?:/\*.*)?$', text, re.M):
        product = 1
        for number in re.findall(r'\d+', value):
            product *= int(number)
        limits[name] = product
    return limits
