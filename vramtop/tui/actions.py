"""All that a key can do: one table makes the bindings, the footer, the help and the palette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from textual.binding import Binding

from .panes import PANES


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do; ``name`` is textual's action string."""

    name: str
    keys: tuple[str, ...]
    shown_keys: str
    """As the footer and the help write them."""
    label: str
    """A word or two, for the footer and the palette."""
    help: str
    group: str
    in_footer: bool = False
    in_palette: bool = True
    is_signal: bool = False
    """Acts on processes: not there with --readonly."""
    when: Literal["always", "live", "replay"] = "always"
    """Whether it needs processes that run, or a recording of them."""


def _move(to: str, keys: tuple[str, ...], shown: str, what: str) -> Action:
    return Action(f"move('{to}')", keys, shown, to, what, "Moving", in_palette=False)


def _replay(name: str, keys: tuple[str, ...], shown: str, label: str, what: str) -> Action:
    in_footer = name in {"seek(-10)", "seek(10)", "speed(1)"}
    return Action(name, keys, shown, label, what, "Replay", in_footer, when="replay")


def _signal(name: str, key: str, what: str) -> Action:
    return Action(
        f"signal('{name}')", (key,), key, name, what, "Process", in_footer=True, is_signal=True
    )


ACTIONS: Final = (
    Action("quit", ("q", "ctrl+c"), "q", "Quit", "leave vramtop", "General", in_footer=True),
    Action(
        "help", ("question_mark", "f1"), "?", "Help", "keys and colours", "General", in_footer=True
    ),
    Action("what_if", ("e",), "e", "What if", "other settings: does it fit?", "Process", True),
    Action("batches", ("b",), "b", "Batches", "how far can the batch go?", "Process", True),
    Action(
        "command_palette",
        ("ctrl+p",),
        "^p",
        "Palette",
        "all commands by name",
        "General",
        in_footer=True,
        in_palette=False,
    ),
    Action("back", ("escape",), "esc", "Back", "end filter, undo enlarging", "General"),
    Action("pause", ("space",), "space", "Pause", "freeze the screen", "General", in_footer=True),
    Action("faster", ("plus",), "+", "Faster", "read more often (0.25 s)", "General", when="live"),
    Action("slower", ("minus",), "-", "Slower", "read less often (10 s)", "General", when="live"),
    Action("record", ("r",), "r", "Record", "to a file; again: end it", "General", when="live"),
    _replay("seek(-10)", ("comma",), ",", "−10 s", "ten seconds back"),
    _replay("seek(10)", ("full_stop",), ".", "+10 s", "ten seconds on"),
    _replay("seek(-60)", ("left_curly_bracket",), "{", "−1 min", "a minute back"),
    _replay("seek(60)", ("right_curly_bracket",), "}", "+1 min", "a minute on"),
    _replay("step(-1)", ("left_square_bracket",), "[", "Before", "one snapshot back, halted"),
    _replay("step(1)", ("right_square_bracket",), "]", "After", "one snapshot on, halted"),
    _replay("to_end(False)", ("0", "ctrl+home"), "0", "Begin", "to the beginning"),
    _replay("to_end(True)", ("dollar_sign", "ctrl+end"), "$", "End", "to the end"),
    _replay("speed(1)", ("greater_than_sign", "plus"), "> +", "Faster", "twice as fast (64×)"),
    _replay("speed(-1)", ("less_than_sign", "minus"), "< -", "Slower", "half as fast (0.25×)"),
    Action("toggle_theme", (), "", "Theme", "dark or light", "General"),
    Action("problems", ("p",), "p", "Problems", "alerts and failed readings", "General"),
    Action("filter", ("slash",), "/", "Filter", "show matching rows", "Processes", in_footer=True),
    Action("sort", ("s", "o"), "s", "Sort", "then a column's letter", "Processes", in_footer=True),
    Action("fold", ("f",), "f", "Ranks", "one row a job, or each rank", "Processes"),
    Action("details", ("enter",), "enter", "Details", "all of it; modules: open", "Process", True),
    Action("post_mortem", ("w",), "w", "Why", "why it ran out of memory", "Process"),
    Action("module_list", ("t",), "t", "Modules", "tree, or largest first", "Process"),
    Action("moment", ("m",), "m", "Moment", "predicted: now, peak, phases", "Process"),
    Action("attach", ("a",), "a", "Attach", "put the probe into it", "Process", is_signal=True),
    _signal("SIGTERM", "T", "ask it to end"),
    _signal("SIGKILL", "K", "end it at once"),
    _signal("SIGINT", "I", "interrupt, as ctrl+c"),
    *(
        Action(
            f"pane({number})",
            (str(number),),
            str(number),
            pane.TITLE,
            "show; again: enlarge",
            "Panes",
        )
        for number, pane in enumerate(PANES, 1)
    ),
    Action("focus_next", ("tab",), "tab", "", "next pane", "Moving", in_palette=False),
    Action("focus_previous", ("shift+tab",), "⇧tab", "", "pane before", "Moving", in_palette=False),
    _move("up", ("up", "k"), "↑ k", "up"),
    _move("down", ("down", "j"), "↓ j", "down"),
    _move("left", ("left", "h"), "← h", "back, device before, close"),
    _move("right", ("right", "l"), "→ l", "on, next device, open"),
    _move("first", ("home", "g"), "home g", "first"),
    _move("last", ("end", "G"), "end G", "last"),
    _move("page_up", ("pageup",), "pgup", "a page up"),
    _move("page_down", ("pagedown",), "pgdn", "a page down"),
)


_LATE_IN_A_REPLAY: Final = {"what_if", "batches", "command_palette"}


def available(*, readonly: bool, is_replay: bool = False) -> tuple[Action, ...]:
    """The actions of this run, those first that a narrow footer must have."""
    other = "live" if is_replay else "replay"
    found = (
        action
        for action in ACTIONS
        if action.when != other and not (action.is_signal and (readonly or is_replay))
    )
    return tuple(sorted(found, key=lambda action: is_replay and action.name in _LATE_IN_A_REPLAY))


def bindings(actions: tuple[Action, ...]) -> list[Binding]:
    """One binding for each key of each action; keys that only live trainings have say so."""
    found = {
        key: Binding(key, action.name, action.help, show=action.in_footer)
        for action in actions
        for key in action.keys
    }
    for action in ACTIONS:
        if action.is_signal or action.when == "live":
            for key in action.keys:
                found.setdefault(key, Binding(key, "not_here", show=False))
    return list(found.values())
