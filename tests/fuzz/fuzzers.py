"""All fuzzers: one for each thing that is read and that somebody else may have written."""

from tests.fuzz import (
    nvml_layer,
    post_mortems,
    probe_wire,
    recordings,
    screen,
    settings_files,
    viewer_wire,
)

FUZZERS = (
    viewer_wire.FUZZER,
    probe_wire.FUZZER,
    recordings.FUZZER,
    post_mortems.FUZZER,
    settings_files.CONFIG,
    settings_files.STATE,
    nvml_layer.FUZZER,
    screen.FUZZER,
)
