"""The seed method: the formulas and tables of the texts that the project began with, as they are.

``predictor`` answers ``--method seed``; ``tables`` and ``recipes`` are the texts' own, with the
true figure beside each, by whatever better method is passed in.
"""

from __future__ import annotations

from .predictor import predictor
from .recipes import decision_tree, roadmap
from .text1_memory import budget, fit_table, inference_table, kv_table, waterfall
from .text1_scaling import batch_table, rules_table, strategy_table
from .text2 import category_table, formula_table
from .values import Figure, Recipe, Step, Table, Truth

__all__ = ["Figure", "Recipe", "Step", "Table", "Truth", "predictor", "recipes", "tables"]

TABLES = (
    budget,
    inference_table,
    kv_table,
    waterfall,
    batch_table,
    strategy_table,
    fit_table,
    rules_table,
    formula_table,
    category_table,
)
RECIPES = (decision_tree, roadmap)


def tables(truth: Truth) -> tuple[Table, ...]:
    """Every table of the texts; ``truth`` tells the true footprint of a workload, or None."""
    return tuple(table(truth) for table in TABLES)


def recipes(truth: Truth) -> tuple[Recipe, ...]:
    """The decision tree and the roadmap, with what each step really saves."""
    return tuple(recipe(truth) for recipe in RECIPES)
