"""A payment's result is believed by its signature alone: Standard Webhooks, v1."""

import base64
import hashlib
import hmac
import time

import pytest

from contracts.errors import ErrorCode, Refused
from services.payments.signature import InvalidSecret, Signatures, keys_of

KEY = b"a key that nobody else has, of 32+ bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = '{"status":"succeeded","reference":"psp-1", "note": "ü"}'.encode()


def signed(
    body: bytes = BODY, *keys: bytes, webhook_id: str = "msg_1", age: float = 0, timestamp: str | None = None
) -> dict[str, str]:
    """The headers of the specification, made apart from the code under test."""
    at = timestamp if timestamp is not None else str(int(time.time() - age))
    said = f"{webhook_id}.{at}.".encode() + body
    signatures = [base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode() for key in keys or (KEY,)]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def refused(body: bytes, headers: dict[str, str], secret: str = SECRET) -> None:
    with pytest.raises(Refused) as error:
        Signatures(secret).judge(body, headers)
    assert error.value.problem.code is ErrorCode.INVALID_SIGNATURE


def test_a_signed_message_is_known_by_its_id() -> None:
    assert Signatures(SECRET).judge(BODY, signed(webhook_id="msg_7")) == "msg_7"


def test_one_changed_byte_is_refused() -> None:
    refused(BODY.replace(b"succeeded", b"succeedex"), signed())


def test_the_id_and_the_time_are_signed_too() -> None:
    refused(BODY, {**signed(), "webhook-id": "msg_2"})
    refused(BODY, {**signed(), "webhook-timestamp": str(int(time.time()) - 5)})


def test_another_secret_is_refused() -> None:
    refused(BODY, signed(BODY, b"another"))


@pytest.mark.parametrize("age", [310, -310, 86400])
def test_a_message_too_old_or_too_new_is_refused_though_it_is_signed(age: float) -> None:
    refused(BODY, signed(age=age))


@pytest.mark.parametrize("age", [290, -290])
def test_a_message_is_good_for_five_minutes_around_its_time(age: float) -> None:
    assert Signatures(SECRET).judge(BODY, signed(age=age)) == "msg_1"


def test_while_a_secret_changes_one_of_two_signatures_is_enough() -> None:
    headers = signed(BODY, b"the old key", KEY)
    assert Signatures(SECRET).judge(BODY, headers) == "msg_1"


def test_signatures_of_other_versions_are_passed_over() -> None:
    headers = signed()
    headers["webhook-signature"] = f"v1a,AAAA v2,BBBB {headers['webhook-signature']}"
    assert Signatures(SECRET).judge(BODY, headers) == "msg_1"
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v9,")
    refused(BODY, headers)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    headers = signed()
    del headers[name]
    refused(BODY, headers)


@pytest.mark.parametrize("timestamp", ["", "yesterday", "nan", "inf", "-1", "1e999", "9" * 400])
def test_a_time_that_is_none_is_refused(timestamp: str) -> None:
    refused(BODY, signed(timestamp=timestamp))


@pytest.mark.parametrize("signature", ["v1", "v1,", "v1,***", "v1,ü", "garbage", "v1,AAAA,BBBB", " "])
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    refused(BODY, {**signed(), "webhook-signature": signature})


def test_a_body_that_is_no_text_is_refused() -> None:
    refused(b"\xff\xfe", signed(b"\xff\xfe"))


def test_an_id_that_no_event_could_bear_is_refused() -> None:
    refused(BODY, signed(webhook_id="x" * 256))


def test_a_secret_is_base64_behind_its_prefix_and_else_its_own_bytes() -> None:
    assert keys_of(SECRET) == [KEY]
    assert Signatures("a plain text, as some providers give").judge(
        BODY, signed(BODY, b"a plain text, as some providers give")
    )
    assert Signatures(SECRET.removeprefix("whsec_")).judge(BODY, signed())
    assert Signatures(SECRET.removeprefix("whsec_")).judge(BODY, signed(BODY, SECRET.removeprefix("whsec_").encode()))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_no base64!"])
def test_a_secret_that_is_none_is_told(secret: str) -> None:
    with pytest.raises(InvalidSecret):
        Signatures(secret)
