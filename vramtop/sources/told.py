"""All that one probe has said, whether over its socket or in a post-mortem file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..core.memory import Detail, SegmentMap, Stage
from ..core.model import Ended, HistoryPoint, Probe, ProbeDevice
from ..errors import ProtocolError
from ..protocol import PROTOCOL_VERSION
from . import decode, decode_failure, decode_job, fields

_ENDS: dict[str, Ended] = {"exit": "exit", "detached": "detached"}


@dataclass(slots=True)
class Told:
    """Takes in one message after the other; ``probe`` is what they come to."""

    probe: Probe = field(default_factory=lambda: Probe(state="waiting"))
    has_sample: bool = False
    history: dict[str, list[HistoryPoint]] = field(default_factory=dict)
    """Not in ``probe``: whoever shows it takes it from here."""
    # What comes beside the samples, by torch device.
    details: dict[str, Detail] = field(default_factory=dict)
    segments: dict[str, SegmentMap] = field(default_factory=dict)
    stages: dict[str, tuple[Stage, ...]] = field(default_factory=dict)

    def take(self, message: dict[str, Any]) -> None:
        """Take in one message; unknown types are a newer probe's business.

        Raises:
            ProtocolError: it says something that the protocol does not allow.
        """
        probe, kind = self.probe, message["type"]
        if kind == "sample":
            self.has_sample = True
            self.probe = replace(
                probe,
                at=fields.moment(message),
                step=fields.integer(message, "step"),
                steps_per_s=fields.number(message, "steps_per_s"),
                overhead_percent=fields.number(message, "overhead_percent"),
                dropped_samples=fields.integer(message, "dropped") or 0,
                devices=self._joined(decode.devices(message)),
                detail=decode.detail_state(message),
            )
        elif kind == "job":
            self.probe = replace(
                probe,
                torch=fields.text(message, "torch"),
                cuda=fields.text(message, "cuda"),
                rank=fields.integer(message, "rank"),
                local_rank=fields.integer(message, "local_rank"),
                world_size=fields.integer(message, "world_size"),
                group=fields.text(message, "group"),
                models=decode_job.models(message),
                optimizers=decode_job.optimizers(message),
            )
        elif kind == "history":
            device, points = decode.history(message)
            kept = self.history.setdefault(device, [])
            kept.extend(points[: max(0, decode.MAX_HISTORY_POINTS - len(kept))])
            if len(self.history) > decode.MAX_DEVICES:
                raise ProtocolError(f"it tells of more than {decode.MAX_DEVICES} devices")
        elif kind in {"detail", "segments", "stages"}:
            self._take_beside(kind, message)
        elif kind == "hello":
            if message.get("protocol") != PROTOCOL_VERSION:
                raise ProtocolError(f"it speaks protocol {message.get('protocol')!r:.40}")
            self.probe = replace(probe, python=fields.text(message, "python"))
        elif kind == "problem":
            self.probe = replace(probe, problem=fields.text(message, "message"))
        elif kind == "oom":
            caught_ooms = fields.integer(message, "caught_ooms") or 0
            failure = decode_failure.failure(message)
            self.probe = replace(probe, failure=failure, caught_ooms=caught_ooms)
        elif kind == "bye":
            self.probe = replace(probe, ended=_ENDS.get(fields.text(message, "why") or ""))

    def _take_beside(self, kind: str, message: dict[str, Any]) -> None:
        """What comes beside the samples: it may name a device before a sample does."""
        if kind == "detail":
            device, detail = decode.detail(message)
            self.details[device] = detail
        elif kind == "segments":
            device, segments = decode.segments(message)
            self.segments[device] = segments
        else:
            self.stages = decode.stages(message)
        if len({*self.details, *self.segments}) > decode.MAX_DEVICES:
            raise ProtocolError(f"it tells of more than {decode.MAX_DEVICES} devices")
        self.probe = replace(self.probe, devices=self._joined(self.probe.devices))

    def _joined(self, devices: tuple[ProbeDevice, ...]) -> tuple[ProbeDevice, ...]:
        """The devices of a sample with all that has been told of them beside it."""
        return tuple(
            replace(
                device,
                detail=self.details.get(device.device),
                segments=self.segments.get(device.device),
                stages=self.stages.get(device.device, ()),
            )
            for device in devices
        )
