"""A plan as text: a table of the few configurations for each arithmetic, with what each sends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from ..core.units import NONE_SHOWN, format_bytes, format_percent
from ..estimator.plan import Configuration, Plan, options, strengths

_HEADS = (
    "",
    "PROCESS",
    "OF GPU",
    "BATCH",
    "CHECKPOINT",
    "SPREAD",
    "AGAIN",
    "BUBBLE",
    "SENT/STEP",
    "BEST IN",
)
_LEFT = {4, 5, 9}


def render(plan: Plan, width: int, asked: str) -> str:
    """The plan in lines of ``width`` characters, but for commands.

    ``asked``: the model and the GPU as options of ``vramtop estimate``, as the user gave them.
    """
    return "\n".join(line.rstrip() for line in _lines(plan, width, asked))


def _lines(plan: Plan, width: int, asked: str) -> Iterator[str]:
    wish, base = plan.wish, plan.wish.workload
    device = base.device
    assert device is not None, "a plan is for a device"
    gpus = base.parallel.gpus
    cards = f"{gpus} × {device.name}" if gpus > 1 else device.name
    yield from textwrap.wrap(
        f"{base.model.name} on {cards} ({format_bytes(device.total_bytes)}), "
        f"effective batch {wish.effective_batch} × {base.sequence} tokens",
        width,
    )
    yield f"wanted: {base.precision}, {base.optimizer}; {plan.tried:,} ways computed"
    if not plan.configurations or plan.nearest is not None:
        yield ""
        yield from _nothing(plan, asked, width)
    number = 0
    for arithmetic, group in groupby(plan.configurations, key=lambda one: one.arithmetic):
        members = list(group)
        yield ""
        title = "; ".join(arithmetic.departures) or "The training's arithmetic stays as wanted"
        lead = "Changed: " if arithmetic.departures else ""
        yield from textwrap.wrap(lead + title, width)
        rows = [(str(number + place), *_cells(one, plan)) for place, one in enumerate(members, 1)]
        table = list(_table(_HEADS, rows))
        narrow = any(len(line) > width for line in table)
        if narrow:  # what a configuration is best in goes to its own line
            table = list(_table(_HEADS[:-1], [row[:-1] for row in rows]))
        if any(len(line) > width for line in table):
            table = list(_table(_HEADS[:-1], [row[:-1] for row in rows], gap=" "))
        yield from table
        for place, one in enumerate(members, 1):
            best = rows[place - 1][-1] if narrow else ""
            yield from _details(number + place, one, asked, width, best)
        number += len(members)
    if plan.configurations:
        yield ""
        yield from _legend(plan, width)
    for note in plan.notes:
        yield from textwrap.wrap(f"note: {note}", width, subsequent_indent="      ")


def _cells(one: Configuration, plan: Plan) -> tuple[str, ...]:
    parallel, device = one.workload.parallel, one.workload.device
    assert device is not None
    batch = f"{one.workload.batch} × {one.passes}"
    if parallel.data > 1:
        batch += f" × {parallel.data}"
    return (
        format_bytes(one.process_bytes),
        format_percent(100 * one.process_bytes / device.total_bytes, 0),
        batch,
        one.workload.checkpointing,
        spread(one),
        format_percent(100 * one.recomputation, 0) if one.recomputation else NONE_SHOWN,
        format_percent(100 * one.bubble, 0) if one.bubble else NONE_SHOWN,
        format_bytes(one.sent_bytes) if one.traffic else NONE_SHOWN,
        ", ".join(strengths(one, plan.configurations)),
    )


def spread(one: Configuration) -> str:
    """How a configuration is spread over GPUs, in a few letters."""
    parallel = one.workload.parallel
    if parallel.gpus == 1:
        return "one GPU"
    parts = []
    if parallel.tensor > 1:
        parts.append(f"TP {parallel.tensor}" + (" SP" if parallel.sequence else ""))
    if parallel.pipeline > 1:
        parts.append(f"PP {parallel.pipeline}")
    if parallel.context > 1:
        parts.append(f"CP {parallel.context}")
    if parallel.data * parallel.context > 1:
        name = f"ZeRO-{parallel.zero}" if parallel.zero else "DDP"
        parts.append(f"{name} {parallel.data}")
    return " ".join(parts)


def _details(
    number: int, one: Configuration, asked: str, width: int, best: str = ""
) -> Iterator[str]:
    lead = f"{number:>3}  "
    command = " ".join((f"vramtop estimate {asked}", *options(one.workload)))
    yield lead + command
    if best:
        yield f"     best in: {best}"
    if one.traffic:
        sent = " · ".join(f"{item.purpose} {format_bytes(item.sent_bytes)}" for item in one.traffic)
        yield from textwrap.wrap(
            f"sends {sent}", width, initial_indent="     ", subsequent_indent="     "
        )


def _nothing(plan: Plan, asked: str, width: int) -> Iterator[str]:
    nearest = plan.nearest
    if nearest is None:
        yield "Nothing fits, or no layout suits the model."
        return
    need = format_bytes(nearest.process_bytes)
    missing = format_bytes(nearest.process_bytes - plan.limit_bytes)
    yield from textwrap.wrap(
        f"Nothing fits{' as wanted' if plan.configurations else ''}. Least is {need}, {missing} "
        f"more than may be used: {spread(nearest)}, {nearest.workload.checkpointing} "
        f"checkpointing, micro-batch {nearest.workload.batch}"
        + "".join(f", {words}" for words in nearest.arithmetic.departures),
        width,
    )
    if not plan.configurations:
        yield from _details(1, nearest, asked, width)


def _legend(plan: Plan, width: int) -> Iterator[str]:
    sources = {item.source: item.purpose for one in plan.configurations for item in one.traffic}
    text = (
        "BATCH micro-batch × micro-batches a step"
        + (" × data-parallel GPUs" if plan.wish.workload.parallel.gpus > 1 else "")
        + ". AGAIN arithmetic that checkpointing makes again, over a step without it."
    )
    if sources:
        text += (
            " BUBBLE a pipeline's idle time over its busy time. SENT/STEP by one GPU with ring "
            "collectives; of a pipeline's stages the fullest."
        )
    yield from textwrap.wrap(text, width)
    if sources:
        yield from textwrap.wrap("sources: " + "; ".join(sources), width)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], gap: str = "  ") -> Iterator[str]:
    shown = [
        index
        for index in range(len(heads))
        if index < 4 or any(row[index] not in {"", NONE_SHOWN} for row in rows)
    ]
    widths = {i: max(len(row[i]) for row in (heads, *rows)) for i in shown}
    for row in (heads, *rows):
        yield gap.join(
            row[i].ljust(widths[i]) if i in _LEFT else row[i].rjust(widths[i]) for i in shown
        ).rstrip()
