"""Modules by the memory they hold: a tree with sums by path, and the list of the largest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from .memory import ModuleUse

_WORTH_OPENING: Final = 0.5
"""A module that holds more than this part of the whole hides where it is."""


@dataclass(frozen=True, slots=True)
class ModuleNode:
    """A module and all that are inside it.

    A chain of modules that hold nothing of their own, each with a single one inside, is one node:
    its path is the innermost's and its name joins theirs.
    """

    path: str
    """Dotted path from the root module, "" for the root itself; identifies the node."""
    name: str
    class_name: str
    """Empty for a module that holds nothing of its own and was not reported."""
    own_activation_bytes: int
    own_parameter_bytes: int
    activation_bytes: int
    """With all modules inside."""
    parameter_bytes: int
    children: tuple[ModuleNode, ...]
    """Largest activations first, then parameters, then in the order of their names."""


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """One visible line of the tree."""

    node: ModuleNode
    depth: int
    is_open: bool

    @property
    def can_open(self) -> bool:
        """There are modules inside."""
        return bool(self.node.children)


def module_tree(uses: Iterable[ModuleUse]) -> ModuleNode | None:
    """The root with everything inside it; None without modules."""
    own: dict[str, tuple[str, int, int]] = {}
    for use in uses:
        class_name, activation, parameter = own.get(use.path, ("", 0, 0))
        own[use.path] = (
            class_name or use.class_name,
            activation + use.activation_bytes,
            parameter + use.parameter_bytes,
        )
    if not own:
        return None
    paths = {""}
    for path in own:
        while path not in paths:
            paths.add(path)
            path = path.rpartition(".")[0]  # noqa: PLW2901
    inside: dict[str, list[ModuleNode]] = {}
    # The innermost first, so that every node finds its children made; no recursion, since how
    # deep a tree is is for another process to say.
    for path in sorted(paths - {""}, key=lambda path: -path.count(".")):
        parent, _, name = path.rpartition(".")
        inside.setdefault(parent, []).append(_node(path, name, own.get(path), inside.pop(path, [])))
    root_class = own[""][0] if "" in own else ""
    return _node("", root_class or "all modules", own.get(""), inside.get("", []))


def module_rows(root: ModuleNode, opened: Collection[str]) -> list[ModuleRow]:
    """The lines to show when the nodes whose paths are in ``opened`` are open."""
    rows = []
    stack = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        is_open = bool(node.children) and node.path in opened
        rows.append(ModuleRow(node, depth, is_open))
        if is_open:
            stack.extend((child, depth + 1) for child in reversed(node.children))
    return rows


def opened_at_first(root: ModuleNode) -> frozenset[str]:
    """What to open so that no closed node hides most of the whole from a first look."""
    opened = {root.path}
    whole = root.activation_bytes or root.parameter_bytes
    node: ModuleNode | None = root
    while node is not None and node.children:
        opened.add(node.path)
        largest = node.children[0]
        size = largest.activation_bytes if root.activation_bytes else largest.parameter_bytes
        node = largest if size > _WORTH_OPENING * whole else None
    return frozenset(opened)


def top_modules(uses: Iterable[ModuleUse], count: int) -> list[ModuleUse]:
    """Those that hold most activations of their own, the largest first, at most ``count``."""
    return sorted(
        uses, key=lambda use: (-use.activation_bytes, -use.parameter_bytes, _natural(use.path))
    )[:count]


def _node(
    path: str, name: str, own: tuple[str, int, int] | None, children: list[ModuleNode]
) -> ModuleNode:
    class_name, activation, parameter = own or ("", 0, 0)
    if path and len(children) == 1 and not activation and not parameter:
        (only,) = children
        return ModuleNode(
            path=only.path,
            name=f"{name}.{only.name}",
            class_name=only.class_name,
            own_activation_bytes=only.own_activation_bytes,
            own_parameter_bytes=only.own_parameter_bytes,
            activation_bytes=only.activation_bytes,
            parameter_bytes=only.parameter_bytes,
            children=only.children,
        )
    children.sort(key=lambda c: (-c.activation_bytes, -c.parameter_bytes, _natural(c.name)))
    return ModuleNode(
        path=path,
        name=name,
        class_name=class_name,
        own_activation_bytes=activation,
        own_parameter_bytes=parameter,
        activation_bytes=activation + sum(child.activation_bytes for child in children),
        parameter_bytes=parameter + sum(child.parameter_bytes for child in children),
        children=tuple(children),
    )


def _natural(path: str) -> list[tuple[int, str]]:
    """Sorts h.10 after h.9."""
    return [(int(n), "") if n.isdecimal() else (-1, n) for n in path.split(".")]
