"""Breakdown, waterfall, modules and segment map: what they show, by keyboard and by mouse."""

import dataclasses

import pytest
from textual.events import MouseScrollDown

from vramtop.core.memory import (
    CATEGORIES,
    TENSOR_CATEGORIES,
    Block,
    ModuleUse,
    Segment,
    SegmentMap,
)
from vramtop.core.units import format_bytes
from vramtop.sources.fake import snapshots
from vramtop.tui.theme import TEXTURES, make_ink

SIZES = [(60, 20), (80, 24), (160, 50)]
THEMES = ["vramtop-dark", "vramtop-light"]
MIB = 1 << 20


def told(scenario="training"):
    """What the probe of a scenario's training tells of its device."""
    shown = next(snapshots(scenario))
    return shown.processes[0].probe.devices[0]


def changed(part=None, scenario="training", **probe):
    """The scenario's first snapshot with other values of the probe or of its device."""
    snapshot = next(snapshots(scenario))
    first, *others = snapshot.processes
    devices = (dataclasses.replace(first.probe.devices[0], **(part or {})),)
    first = dataclasses.replace(
        first, probe=dataclasses.replace(first.probe, devices=devices, **probe)
    )
    return dataclasses.replace(snapshot, processes=(first, *others))


@pytest.fixture
def given(shown, stepped):
    """``async with given(snapshot, ...) as screen``: the app on one snapshot."""

    def open_(snapshot, **more):
        source = stepped(first=0)
        source.step = lambda count=1: source.give(snapshot)
        return shown(source=source, **more)

    return open_


# Breakdown


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_every_category_has_its_bytes_on_every_screen(shown, size, theme):
    async with shown(size=size, theme=theme) as screen:
        await screen.press("3")
        table = "\n".join(screen.pane("breakdown"))
        held = screen.app.frame.part.breakdown
        for category in CATEGORIES:
            size_bytes = held.bytes_of(category)
            if size_bytes:
                assert format_bytes(size_bytes) in table


async def test_columns_and_bars_now_and_at_the_peak(shown):
    async with shown() as screen:
        rows = screen.pane("breakdown")
        now, peak = (next(row for row in rows if row.startswith(f" {w} ")) for w in ("now", "peak"))
        part = screen.app.frame.part
        lengths = [len(row[6:].rstrip()) for row in (now, peak)]
        totals = [part.breakdown.process_bytes, part.detail.peak.total_bytes]
        assert lengths[1] / lengths[0] == pytest.approx(totals[1] / totals[0], abs=0.03)
        gradients = next(row for row in rows if "gradients" in row)
        assert format_bytes(part.detail.peak.breakdown.gradient_bytes) in gradients
        assert "AT PEAK" in screen.text
        parameters = next(i for i, row in enumerate(rows) if "parameters" in row)
        assert rows[parameters + 1].startswith("     buffers")
        peak = part.detail.peak
        said = f"peak {format_bytes(peak.total_bytes)} in {peak.phase} of {peak.module}"
        assert said in screen.text


async def test_before_the_first_sampled_step_every_pane_says_so(given):
    pending = changed({"detail": None, "segments": None, "stages": ()}, detail="pending")
    async with given(pending, size=(80, 24)) as screen:
        screen.source.step()
        await screen.pilot.pause()
        for number in "567":
            await screen.press(number)
            assert "detail after the next sampled step" in screen.text
    async with given(
        changed({"detail": None, "segments": None}, detail="off", problem="hooks failed"),
        size=(80, 24),
    ) as screen:
        screen.source.step()
        await screen.pilot.pause()
        await screen.press("6")
        assert "this probe samples no steps" in screen.text
        assert "hooks failed" in screen.text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ({"state": "stale"}, "stale 10s · 4101 cuda:0"),
        ({"state": "gone"}, "probe gone · 4101 cuda:0"),
        ({"state": "gone", "ended": "detached"}, "detached · 4101 cuda:0"),
        ({"state": "streaming"}, "─ 4101 cuda:0"),
    ],
)
async def test_figures_of_the_past_are_marked_as_such(given, size, probe, said):
    snapshot = changed(**probe, at=next(snapshots("training")).taken_at - 10)
    async with given(snapshot, size=size, select_pid=4101) as screen:
        assert said in screen.line_with("3 Breakdown")


async def test_what_cannot_be_told_apart_is_said(given):
    detail = dataclasses.replace(told().detail, notes=("inside a compiled region: one",))
    async with given(changed({"detail": detail}), size=(160, 50)) as screen:
        screen.source.step()
        await screen.press("3", "3")
        assert "inside a compiled region: one" in screen.text


# Waterfall


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_a_row_a_phase_with_its_bytes(shown, size, theme):
    async with shown(size=size, theme=theme) as screen:
        await screen.press("5")
        detail = screen.app.frame.detail
        for phase in detail.phases:
            label = {"step": "optimizer step"}.get(phase.name, phase.name)
            (row,) = (row for row in screen.pane("waterfall") if row.startswith(f" {label}"))
            wanted = [phase.after_bytes, phase.peak_bytes]
            if size[0] >= 80:
                wanted.insert(0, phase.before_bytes)
            for size_bytes in wanted:
                assert format_bytes(size_bytes) in row
            sign = "+" if phase.change_bytes > 0 else ""
            assert f" {sign}{format_bytes(phase.change_bytes)}" in row
            assert "┤" in row
        assert f"step {detail.step}" in screen.pane("waterfall")[0]
        assert "0s ago" in "".join(screen.pane("waterfall")[:2])


async def test_all_bars_of_the_waterfall_are_on_one_scale(shown):
    async with shown(size=(160, 50)) as screen:
        await screen.press("5", "5")
        rows = screen.pane("waterfall")
        detail = screen.app.frame.detail
        start = rows[1].index("PEAK") + 5
        marks = {row[1:14].strip(): row.index("┤") - start for row in rows[2:] if "┤" in row}
        most = max(phase.peak_bytes for phase in detail.phases)
        ceiling = {row.rindex("┊") - start for row in rows if "┊" in row}
        assert len(ceiling) == 1
        ((ceiling_at),) = ceiling
        for phase in detail.phases:
            label = {"step": "optimizer step"}.get(phase.name, phase.name)[:13].strip()
            name = next(name for name in marks if name.startswith(label))
            assert marks[name] / ceiling_at == pytest.approx(phase.peak_bytes / most, abs=0.02)


async def test_the_title_ages_while_no_step_is_sampled(shown, stepped):
    source = stepped()
    async with shown(source=source, size=(80, 24)) as screen:
        await screen.press("5")
        old = screen.app.frame.detail
        await screen.step(3)
        snapshot = changed({"detail": old})
        later = dataclasses.replace(snapshot, taken_at=old.at + 75)
        source.give(later)
        await screen.pilot.pause()
        assert " 1m15s ago" in screen.pane("waterfall")[1], "the title has no room for it"
        await screen.pilot.resize_terminal(160, 50)
        await screen.pilot.pause()
        assert f"step {old.step}, 1m15s ago" in screen.pane("waterfall")[0]


async def test_stages_are_indented_below_the_phases(shown):
    async with shown() as screen:
        rows = screen.pane("waterfall")
        outer = next(i for i, row in enumerate(rows) if row.startswith(" epoch"))
        assert rows[outer + 1].startswith("   load")
        assert outer > next(i for i, row in enumerate(rows) if "zero_grad" in row)


async def test_on_the_cpu_stages_are_resident_memory_on_a_scale_of_their_own(given):
    stage = dataclasses.replace(told().stages[0], before_bytes=0, after_bytes=1 << 40)
    part = {"stages": (stage,)}
    async with given(changed(part, scenario="nogpu"), size=(80, 24)) as screen:
        screen.source.step()
        await screen.press("5")
        rows = screen.pane("waterfall")
        assert "in resident memory" in screen.text
        forward = next(row for row in rows if row.startswith(" forward"))
        assert forward.count("█") > 5


# Modules


def module_rows(screen):
    """(marked, indent, mark, name) of the rows of the modules pane."""
    rows = []
    for row in screen.pane("modules")[2:]:
        text = row[1:34]
        name = text.strip(" ▾▸")
        if name:
            inside = text.index(name[0]) - 2
            mark = text.strip()[0] if text.strip()[0] in "▾▸" else " "
            rows.append((row[0] == "▌", inside // 2, mark, name.split("  ")[0]))
    return rows


async def test_the_tree_opens_where_it_says_something(shown):
    async with shown(size=(160, 50)) as screen:
        await screen.press("6", "6")
        rows = module_rows(screen)
        assert [row[3] for row in rows[:3]] == ["GPT2LMHeadModel", "transformer", "h"]
        assert [row[2] for row in rows[:4]] == ["▾", "▾", "▾", "▸"]
        modules = screen.app.frame.detail.modules
        total = sum(use.activation_bytes for use in modules)
        assert format_bytes(total) in screen.pane("modules")[2]
        block = sum(u.activation_bytes for u in modules if u.path.startswith("transformer.h.3."))
        assert format_bytes(block) in next(r for r in screen.pane("modules") if "▸ 3 " in r)


async def test_the_keys_of_the_tree(shown):
    async with shown(size=(160, 50)) as screen:
        await screen.press("6", "6")
        for keys, cursor, mark in (
            (("down", "j", "down"), "0", "▸"),
            (("right",), "0", "▾"),
            (("left",), "0", "▸"),
            (("enter",), "0", "▾"),
            (("l",), "mlp", " "),
            (("h",), "0", "▾"),
            (("h", "h"), "h", "▾"),
            (("enter",), "h", "▸"),
            (("k", "k", "up"), "GPT2LMHeadModel", "▾"),
            (("left",), "GPT2LMHeadModel", "▸"),
        ):
            await screen.press(*keys)
            (row,) = (row for row in module_rows(screen) if row[0])
            assert (row[3], row[2]) == (cursor, mark), keys
        assert len(module_rows(screen)) == 1
        await screen.step(2)
        assert len(module_rows(screen)) == 1, "what the user closed stays closed"


async def test_t_shows_the_largest_and_the_tree_again(shown):
    async with shown(size=(160, 50)) as screen:
        await screen.press("6", "3", "t")
        assert screen.app.focused.id == "modules"
        await screen.press("6")
        largest = max(screen.app.frame.detail.modules, key=lambda use: use.activation_bytes)
        first = module_rows(screen)[0]
        assert first[3] == largest.path
        assert format_bytes(largest.activation_bytes) in screen.pane("modules")[2]
        await screen.press("enter", "right")  # nothing inside
        await screen.press("t")
        assert module_rows(screen)[0][3] == "GPT2LMHeadModel"


async def test_the_mouse_in_the_tree(shown):
    async with shown(size=(160, 50)) as screen:
        await screen.press("6", "6")
        y = next(y for y, row in enumerate(screen.lines) if "▸ 2 " in row)
        x = screen.lines[y].index("▸")
        await screen.click(x + 2, y)
        assert next(row for row in module_rows(screen) if row[0])[2:] == ("▸", "2")
        await screen.click(x, y)
        assert next(row for row in module_rows(screen) if row[0])[2:] == ("▾", "2")
        await screen.click(x + 12, y)
        assert next(row for row in module_rows(screen) if row[0])[2:] == ("▸", "2")
    async with shown(size=(80, 24)) as screen:
        await screen.press("6")
        before = screen.pane("modules")[2]
        pane = screen.app.query_one("#modules")
        await screen.pilot._post_mouse_events([MouseScrollDown], widget=pane, offset=(5, 5))
        await screen.pilot.pause()
        assert screen.pane("modules")[1].split()[0] == "MODULE", "the heads stay"
        assert screen.pane("modules")[2] != before


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_the_cursor_is_always_on_the_screen(shown, size, theme):
    async with shown(size=size, theme=theme) as screen:
        await screen.press("6")
        for key in ("G", "pageup", "pagedown", "end", "home", "pagedown"):
            await screen.press(key)
            assert sum(row[0] == "▌" for row in screen.pane("modules")) == 1


async def test_the_cursor_stays_on_the_screen_when_that_shrinks(shown):
    async with shown(size=(160, 50)) as screen:
        await screen.press("6", "6", "G")
        await screen.press("escape")
        await screen.pilot.resize_terminal(80, 24)
        await screen.pilot.pause()
        assert any(row[0] == "▌" for row in screen.pane("modules"))


async def test_a_deep_tree_and_strange_names_harm_nothing(given):
    names = [".".join(["x"] * depth) for depth in range(1, 150)]
    names += ["a.\x1b[31m.b", "漢字.層", ""]
    uses = tuple(ModuleUse(name, "Evil\n", 1 << 20, 0) for name in names)
    detail = dataclasses.replace(told().detail, modules=uses)
    async with given(changed({"detail": detail}), size=(80, 24)) as screen:
        screen.source.step()
        await screen.press("6", "6", *["right"] * 20, "G", "t", "G")
        assert not any(ord(char) < 32 for row in screen.lines for char in row)


# Segment map


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_totals_and_the_warning_stand_above_the_map(shown, size, theme):
    async with shown(size=size, theme=theme) as screen:
        await screen.press("7")
        segments = screen.app.frame.part.segments.segments
        blocks = [block for segment in segments for block in segment.blocks]
        free = [block.size_bytes for block in blocks if block.state == "free"]
        for words in (
            f"reserved {format_bytes(sum(s.total_bytes for s in segments))}",
            f"free {format_bytes(sum(free))}",
            f"largest free {format_bytes(max(free))}",
            "request would need new memory although",
        ):
            assert words in screen.words
        assert "large s0" in screen.text


def a_map():
    mib = MIB
    held = [
        Block(6 * mib, "allocated", "parameter"),
        Block(2 * mib, "free"),
        Block(8 * mib, "allocated", "activation"),
        Block(4 * mib, "pending"),
    ]
    segments = (
        Segment(2 * mib, "small", 0, False, (Block(2 * mib, "allocated", None),)),
        Segment(10 * mib, "large", 0, False, (Block(10 * mib, "free"),)),
        Segment(20 * mib, "large", 0, False, tuple(held)),
    )
    return SegmentMap(told().detail.at, segments, 3, 5 * mib)


async def test_the_map_is_what_the_allocator_says(given, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with given(changed({"segments": a_map()}), size=(80, 24)) as screen:
        screen.source.step()
        await screen.press("7", "7")
        rows = [row.rstrip() for row in screen.pane("segments")]
    assert rows[1] == (
        " reserved 37.0 MiB · allocated 16.0 MiB · free 12.0 MiB · largest free 10.0 MiB"
    )
    assert "and 3 smaller segments, 5.00 MiB together" in "\n".join(rows)
    first = next(i for i, row in enumerate(rows) if row.startswith(" large"))
    drawn = "".join(row.strip() for row in rows[first + 1 :] if set(row) & set("█░▚▞·?"))
    # Each glyph is in the legend once; the hole of 2 MiB says how many cells that is.
    cells = {glyph: drawn.count(glyph) - 1 for glyph in "█▚░▞·?"}
    a_mib = cells["▚"] / 2
    assert {glyph: round(count / a_mib) for glyph, count in cells.items()} == {
        "█": 6,
        "▚": 2,
        "░": 8,
        "▞": 4,
        "·": 10,
        "?": 2,
    }


async def test_the_legend_names_what_the_map_shows(given):
    async with given(changed({"segments": a_map()}), size=(160, 50)) as screen:
        screen.source.step()
        await screen.press("7")
        legend = "\n".join(screen.pane("segments"))
        for word in ("parameters", "activations", "unknown", "cached, free", "fragmentation"):
            assert word in legend
        assert "▞ pending" in legend
        assert "gradients" not in legend


async def test_on_the_cpu_the_map_says_why_there_is_none(shown):
    async with shown("nogpu", size=(80, 24)) as screen:
        await screen.press("7")
        assert "the CPU has no caching allocator" in screen.text


async def test_a_process_without_a_probe_has_none_of_it(shown):
    async with shown(select_pid=4102, size=(80, 24)) as screen:
        for number in "3567":
            await screen.press(number)
            assert "vramtop run -- …" in screen.words
            await screen.press("right", "down", "t", "G")


# All of them


async def test_left_and_right_lead_to_the_other_torch_device(given):
    snapshot = changed()
    first, *others = snapshot.processes
    cpu = dataclasses.replace(told("nogpu"), detail=None)
    probe = dataclasses.replace(first.probe, devices=(*first.probe.devices, cpu))
    both = (dataclasses.replace(first, probe=probe), *others)
    async with given(dataclasses.replace(snapshot, processes=both), size=(80, 24)) as screen:
        screen.source.step()
        for number, on_cpu in (
            ("3", "rest of RSS"),
            ("5", "detail after the next sampled step"),
            ("7", "the CPU has no caching allocator"),
        ):
            await screen.press(number)
            assert on_cpu not in screen.text
            await screen.press("right")
            assert on_cpu in screen.text
            assert "cpu 2/2" in screen.text
            await screen.press("left")
            assert on_cpu not in screen.text


async def test_the_same_category_has_the_same_colour_in_bars_map_and_legend(shown):
    async with shown(size=(160, 50)) as screen:
        await screen.press("7")
        await screen.step(3)
        tones = {
            make_ink(is_dark=True, color_system="truecolor", no_color=False)(key).color.name: key
            for key in TENSOR_CATEGORIES
        }
        for name in ("breakdown", "waterfall", "segments", "timeline"):
            region = screen.app.query_one(f"#{name}").region
            found = set()
            for y in range(region.y + 1, region.bottom):
                cells = screen.cells(0, y)[region.x : region.right]
                found |= {tones.get(color) for glyph, color in cells if glyph == "█"}
            assert {"parameter", "optimizer_state", "activation"} <= found, name


@pytest.mark.parametrize("is_dark", [True, False])
@pytest.mark.parametrize("colors", ["truecolor", "standard"])
def test_no_two_parts_of_a_bar_look_alike(is_dark, colors):
    from vramtop.core.devices import SEGMENT_LABELS

    ink = make_ink(is_dark=is_dark, color_system=colors, no_color=False)
    looks = {(ink(key).color.name, TEXTURES.get(key)) for key in SEGMENT_LABELS}
    assert len(looks) == len(SEGMENT_LABELS)


async def test_a_probe_cannot_write_to_the_terminal(given):
    evil = "\x1b[31m\x07\r\nbad\u202e 漢字"
    detail = told().detail
    phases = tuple(dataclasses.replace(phase, name=evil) for phase in detail.phases)
    peak = dataclasses.replace(detail.peak, module=evil, phase=evil)
    detail = dataclasses.replace(detail, phases=phases, peak=peak, notes=(evil,))
    stage = dataclasses.replace(told().stages[0], path=evil)
    pool = dataclasses.replace(a_map().segments[0], pool=evil)
    segments = dataclasses.replace(a_map(), segments=(pool,))
    part = {"detail": detail, "stages": (stage,), "segments": segments}
    async with given(changed(part, problem=evil), size=(80, 24)) as screen:
        screen.source.step()
        for key in ("3", "3", "5", "7", "escape", "enter"):
            await screen.press(key)
            text = "".join(screen.lines)
            assert text.isprintable()
            assert "bad" in text or key == "escape"


async def test_many_phases_scroll_under_their_heads(given):
    detail = told().detail
    many = dataclasses.replace(detail, phases=detail.phases * 12)
    async with given(changed({"detail": many}), size=(80, 24)) as screen:
        screen.source.step()
        await screen.press("5", "G")
        assert "BEFORE" in screen.pane("waterfall")[1]
        assert "load" in screen.pane("waterfall")[-1]


async def test_details_show_the_peak_and_the_phases(shown):
    async with shown(size=(160, 60)) as screen:
        await screen.press("enter")
        assert "at peak" in screen.text
        peak = screen.app.frame.detail.peak
        assert (
            f"peak {format_bytes(peak.total_bytes)} in {peak.phase} of {peak.module}" in screen.text
        )
        assert "forward ×4" in screen.line_with("→")
        assert "zero_grad" in screen.text
