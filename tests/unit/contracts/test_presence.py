"""What gateways tell each other of presence is read as it was told, and what is none is told apart."""

import pytest
from msgspec import Raw

from contracts.presence import Member, Note, NotPresence, decode_note, decode_page, encode_note, encode_page

# Of a page's member and of a note, what is wrong in the same place of both.
WRONG = [b"\xff", b'"\xff\xfe"', b"[" * 100_000 + b"]" * 100_000]
WRONG_MOMENTS = [b"9" * 400, b"-1", b"1.5", b"null"]


def test_a_page_and_a_note_are_read_as_they_were_written() -> None:
    member, note = Member("b1", "buyer", 5, Raw(b'{"a":"\xc3\xa9"}')), Note("b1", "buyer", "typing", 5, Raw(b"null"))
    (read,) = decode_page(encode_page([member]))
    assert (read.key, read.at, read.says_the_same(member)) == (member.key, 5, True)
    assert decode_note(encode_note(note)) == note


@pytest.mark.parametrize("data", WRONG)
def test_data_that_no_client_could_read_makes_it_none(data: bytes) -> None:
    with pytest.raises(NotPresence):
        decode_page(b'[["b1","buyer",5,%b]]' % data)
    with pytest.raises(NotPresence):
        decode_note(b'["b1","buyer","typing",5,%b]' % data)


@pytest.mark.parametrize("moment", WRONG_MOMENTS)
def test_so_does_a_moment_that_cannot_be_reckoned_with(moment: bytes) -> None:
    with pytest.raises(NotPresence):
        decode_page(b'[["b1","buyer",%b,null]]' % moment)
    with pytest.raises(NotPresence):
        decode_note(b'["b1","buyer","typing",%b,null]' % moment)
