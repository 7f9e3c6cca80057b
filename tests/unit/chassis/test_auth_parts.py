"""The parts of a token are read as PyJWT reads them, only faster."""

import base64

import jwt
from hypothesis import example, given
from hypothesis import strategies as st

from services.chassis.keys import ReadyJws

_CANONICAL = st.binary(max_size=12).map(lambda content: base64.urlsafe_b64encode(content).rstrip(b"="))
_SEGMENTS = st.one_of(_CANONICAL, st.text("AQZz09-_+/=!. \n", max_size=12).map(str.encode), st.binary(max_size=12))


@given(_SEGMENTS)
@example(b"")
@example(b"QQ==")
@example(b"QR")
@example(b"QQ\n")
def test_a_tokens_parts_are_read_as_pyjwt_reads_them(segment: bytes) -> None:
    def read(by: type[jwt.PyJWS]) -> bytes | str:
        try:
            return by._decode_base64url_segment(segment, "payload")
        except jwt.DecodeError as error:
            return str(error)

    assert read(ReadyJws) == read(jwt.PyJWS)
