from typing import Any

import pytest
import structlog

from services.gateway.bus.decode import Decoder
from services.gateway.core.log import Life
from services.gateway.core.replica import Tally
from tests.harness.archive import EPOCH, KEYS

LIFE = Life("MARKET", EPOCH)
SUBJECT = "market.i.b.n.order.o1"


class Notes:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def warning(self, event: str, **more: Any) -> None:
        self.lines.append({"event": event, **more})


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def decoder(notes: Notes, tally: Tally) -> Decoder:
    log: structlog.stdlib.BoundLogger = notes  # type: ignore[assignment]  # all of a logger that a decoder uses
    return Decoder("MARKET", KEYS, tally, log)


def test_an_entry_bears_the_keys_of_its_subject_and_what_its_envelope_says(decoder: Decoder) -> None:
    entry = decoder.entry(LIFE, 7, 99, SUBJECT, b'{"type":"A","final":true,\n"data":{}}')
    assert entry is not None
    assert (entry.sequence, entry.time_ns, entry.type, entry.final) == (7, 99, "A", True)
    assert entry.payload == b'{"type":"A","final":true, "data":{}}'
    assert entry.keys == KEYS.keys("MARKET", SUBJECT)


@pytest.mark.parametrize(
    ("subject", "payload"),
    [
        (SUBJECT, b""),
        (SUBJECT, b"[]"),
        (SUBJECT, b'{"type":'),
        (SUBJECT, b'{"type":"\xff"}'),
        (SUBJECT, b'{"data":"' + b"x" * 256 * 1024 + b'"}'),
        (SUBJECT, b'{"data":' + b"[" * 100_000 + b"}"),
        ("market.i.b.n.order", b"{}"),
        ("market.i.b.n.order.a b", b"{}"),
        ("plan.o.p", b"{}"),
    ],
)
def test_what_is_no_event_is_counted_and_logged_and_harms_nothing(
    decoder: Decoder, notes: Notes, tally: Tally, subject: str, payload: bytes
) -> None:
    assert decoder.entry(LIFE, 7, 0, subject, payload) is None
    assert tally.not_events == 1
    [line] = notes.lines
    assert (line["event"], line["stream"], line["sequence"], line["subject"]) == ("not_an_event", "MARKET", 7, subject)
    assert len(line["error"]) <= 200
    assert decoder.entry(LIFE, 8, 0, SUBJECT, b"{}") is not None


def test_the_keys_of_what_has_ended_are_forgotten(decoder: Decoder) -> None:
    decoder.entry(LIFE, 1, 0, SUBJECT, b"{}")
    ended = decoder.entry(LIFE, 2, 0, SUBJECT, b'{"final":true}')
    assert ended is not None
    assert ended.keys == KEYS.keys("MARKET", SUBJECT)
    assert not decoder._keys


def test_the_keys_of_a_subject_are_remembered_and_the_memory_is_bounded(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.bus.decode._CACHED_SUBJECTS", 2)
    first, again = (decoder.entry(LIFE, n, 0, SUBJECT, b"{}") for n in (1, 2))
    assert first is not None
    assert again is not None
    assert first.keys is again.keys
    for number in range(5):
        decoder.entry(LIFE, 3, 0, f"{SUBJECT}{number}", b"{}")
        assert len(decoder._keys) <= 2
