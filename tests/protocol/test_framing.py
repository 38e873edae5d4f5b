import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.errors import ProtocolError
from vramtop.protocol.framing import LineReader, encode


def test_a_message_split_at_every_byte_arrives_whole():
    line = encode({"type": "sample", "text": "grün\n"})
    for cut in range(len(line)):
        reader = LineReader()
        assert reader.feed(line[:cut]) + reader.feed(line[cut:]) == [
            {"type": "sample", "text": "grün\n"}
        ]


def test_several_messages_and_blank_lines_in_one_read():
    data = b'{"type":"a"}\n\n{"type":"b"}\n{"ty'
    assert [m["type"] for m in LineReader().feed(data)] == ["a", "b"]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[1]\n",
        b'{"no":"type"}\n',
        b'{"type":7}\n',
        b"\xff\xfe\n",
        b"[" * 9000 + b"\n",
    ],
)
def test_what_is_not_a_message_is_refused(line):
    with pytest.raises(ProtocolError):
        LineReader().feed(line)


def test_a_line_is_bounded_before_and_after_its_end():
    with pytest.raises(ProtocolError, match="longer than 10 bytes"):
        LineReader(10).feed(b"x" * 11)
    with pytest.raises(ProtocolError, match="longer than 10 bytes"):
        LineReader(10).feed(b"x" * 11 + b"\n")


def test_nan_is_not_json():
    with pytest.raises(ValueError):
        encode({"type": "sample", "at": float("nan")})


@given(st.binary(max_size=300))
def test_any_bytes_either_decode_or_are_refused(data):
    try:
        messages = LineReader(100).feed(data)
    except ProtocolError:
        return
    assert all(isinstance(m["type"], str) for m in messages)
