from __future__ import annotations

import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from vramtop.core.memory import ModuleUse
from vramtop.core.modules import (
    ModuleNode,
    module_rows,
    module_tree,
    opened_at_first,
    top_modules,
)

USES = (
    ModuleUse("", "GPT", 5, 0),
    ModuleUse("wte", "Embedding", 0, 100),
    ModuleUse("h.0.attn", "Attention", 30, 10),
    ModuleUse("h.0.mlp.fc", "Linear", 40, 20),
    ModuleUse("h.1.attn", "Attention", 30, 10),
    ModuleUse("h.1.mlp.fc", "Linear", 40, 20),
    ModuleUse("h.10.attn", "Attention", 70, 30),
    ModuleUse("h.2.attn", "Attention", 70, 30),
)


def shown(root: ModuleNode, opened: set[str] | frozenset[str]) -> list[str]:
    return [
        f"{'  ' * row.depth}{row.node.name} {row.node.activation_bytes} {row.node.parameter_bytes}"
        for row in module_rows(root, opened)
    ]


def test_the_tree_sums_by_path_and_folds_chains() -> None:
    root = module_tree(USES)
    assert root is not None
    assert shown(root, {"", "h", "h.0", "h.1", "h.2.attn"}) == [
        "GPT 285 220",
        "  h 280 120",
        "    0 70 30",
        "      mlp.fc 40 20",
        "      attn 30 10",
        "    1 70 30",
        "      mlp.fc 40 20",
        "      attn 30 10",
        "    2.attn 70 30",
        "    10.attn 70 30",
        "  wte 0 100",
    ]
    folded = next(row.node for row in module_rows(root, {"", "h"}) if row.node.name == "2.attn")
    assert (folded.path, folded.class_name) == ("h.2.attn", "Attention")


def test_closed_rows_hide_what_is_inside() -> None:
    root = module_tree(USES)
    assert root is not None
    (only,) = module_rows(root, set())
    assert (only.is_open, only.can_open, only.depth) == (False, True, 0)
    assert shown(root, {"h"}) == ["GPT 285 220"]  # open inside a closed one
    leaf = next(row for row in module_rows(root, {"", "wte"}) if row.node.name == "wte")
    assert (leaf.is_open, leaf.can_open) == (False, False)


def test_a_module_with_bytes_of_its_own_is_not_folded() -> None:
    root = module_tree([ModuleUse("a", "A", 0, 1), ModuleUse("a.b", "B", 2, 0)])
    assert root is not None
    assert shown(root, {"", "a"}) == ["all modules 2 1", "  a 2 1", "    b 2 0"]


def test_what_is_opened_at_first_shows_where_most_is() -> None:
    root = module_tree(USES)
    assert root is not None
    assert opened_at_first(root) == {"", "h"}
    deep = module_tree([ModuleUse("a.b", "B", 1, 0), ModuleUse("a.c.d", "D", 9, 0)])
    assert deep is not None
    assert shown(deep, opened_at_first(deep)) == [
        "all modules 10 0",
        "  a 10 0",
        "    c.d 9 0",
        "    b 1 0",
    ]
    frozen = module_tree([ModuleUse("a.b", "B", 0, 9), ModuleUse("a.c", "C", 0, 1)])
    assert frozen is not None
    assert opened_at_first(frozen) == {"", "a"}


def test_the_largest_come_first_equal_ones_by_number() -> None:
    assert [use.path for use in top_modules(USES, 4)] == [
        "h.2.attn",
        "h.10.attn",
        "h.0.mlp.fc",
        "h.1.mlp.fc",
    ]


def test_no_modules_no_tree() -> None:
    assert module_tree([]) is None
    assert top_modules([], 3) == []


def test_the_same_path_twice_is_summed() -> None:
    root = module_tree([ModuleUse("a", "A", 1, 2), ModuleUse("a", "A", 3, 4)])
    assert root is not None
    assert (root.activation_bytes, root.parameter_bytes) == (4, 6)


_name = st.sampled_from(["h", "0", "1", "10", "mlp", "attn", "", "²"])
_use = st.builds(
    ModuleUse,
    path=st.lists(_name, max_size=4).map(".".join),
    class_name=st.just("M"),
    activation_bytes=st.integers(0, 1 << 40),
    parameter_bytes=st.integers(0, 1 << 40),
)


@settings(max_examples=200, deadline=None)
@given(uses=st.lists(_use, max_size=30), data=st.data())
def test_every_node_holds_what_lies_under_its_path(
    uses: list[ModuleUse], data: st.DataObject
) -> None:
    root = module_tree(uses)
    if root is None:
        assert not uses
        return
    everything = {use.path for use in uses}
    prefixes = {
        path[:end] for path in everything for end in range(len(path) + 1)
    }  # more than all that can be opened
    rows = module_rows(root, prefixes)
    for row in rows:
        under = [
            use
            for use in uses
            if not row.node.path
            or use.path == row.node.path
            or use.path.startswith(row.node.path + ".")
        ]
        if row.depth == 0:
            under = uses
        assert row.node.activation_bytes == sum(use.activation_bytes for use in under)
        assert row.node.parameter_bytes == sum(use.parameter_bytes for use in under)
    own = sum(row.node.own_activation_bytes for row in rows)
    assert own == sum(use.activation_bytes for use in uses)
    depths = [row.depth for row in rows]
    assert depths[0] == 0
    assert all(later <= depth + 1 for depth, later in itertools.pairwise(depths))


def test_300_modules_are_fast() -> None:
    uses = [ModuleUse(f"model.layers.{i // 4}.part{i % 4}", "M", i, i) for i in range(300)]
    began = time.process_time()
    for _ in range(10):
        root = module_tree(uses)
        assert root is not None
        module_rows(root, opened_at_first(root))
    assert (time.process_time() - began) / 10 < 0.02
