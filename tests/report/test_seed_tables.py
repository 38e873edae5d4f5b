"""The seed texts' tables as text."""

from __future__ import annotations

from vramtop.report.seed_tables import render_tables

STRATEGIES = """\
13B over several GPUs, bytes on each (text 1)
                                           PRINTED   FORMULA     TRUE  FORMULA IS OFF BY
  data parallel, 2 GPUs                   104.0 GB  208.0 GB        –                  –
  data parallel, 4 GPUs                   104.0 GB  208.0 GB        –                  –
  pipeline parallel, 2 GPUs                52.0 GB  104.0 GB        –                  –
  pipeline parallel, 4 GPUs                26.0 GB   52.0 GB        –                  –
  fsdp zero3, 2 GPUs                       52.0 GB  104.0 GB        –                  –
  fsdp zero3, 4 GPUs                       26.0 GB   52.0 GB        –                  –
  data parallel, 4 GPUs: sent a step             –         –  39.0 GB                  –
  pipeline parallel, 4 GPUs: sent a step         –         –  10.5 MB                  –
  fsdp zero3, 4 GPUs: sent a step                –         –  58.6 GB                  –
"""


def test_a_table() -> None:
    assert STRATEGIES in render_tables(lambda workload: None)


def test_lines_stay_within_the_width() -> None:
    for width in (80, 100, 160):
        text = render_tables(lambda workload: None, width)
        assert max(map(len, text.splitlines())) <= width
