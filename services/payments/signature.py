"""Who sent a payment's result: the provider, by the Standard Webhooks headers (HMAC-SHA256, v1).

The signature is over the id, the time and the very bytes of the body, and stands in for a token. A message is good
for 300 s before and after its time; that it comes twice is the payment's to notice, by its id. While the provider
changes its secret it sends several signatures, and one that fits is enough.
"""

import base64
import binascii
from collections.abc import Mapping

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from contracts.errors import ErrorCode, Problem, Refused

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_PREFIX = "whsec_"
_LONGEST_ID = 255


class InvalidSecret(ValueError):
    """The secret is not one; the message says what it has to be."""


class Signatures:
    """Judges signatures by one secret: `whsec_<base64>`, or any other text, whose bytes are then the key."""

    def __init__(self, secret: str) -> None:
        """Read the secret.

        Raises:
            InvalidSecret: it is empty, or what follows `whsec_` is not base64.
        """
        self._webhooks = [Webhook(key) for key in keys_of(secret)]

    def judge(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The id of the message.

        Raises:
            Refused: `invalid_signature`; a header is missing, no signature fits, or the time is too far off.
        """
        given = {name: headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE)}
        reasons = [_reason(webhook, body, given) for webhook in self._webhooks]
        if None not in reasons:
            raise Refused(Problem(ErrorCode.INVALID_SIGNATURE, reasons[0] or ""))
        found = given[ID]
        if len(found) > _LONGEST_ID or not found.isprintable():
            raise Refused(Problem(ErrorCode.INVALID_SIGNATURE, f"{ID} has at most {_LONGEST_ID} printable characters"))
        return found


def keys_of(secret: str) -> list[bytes]:
    """The keys that a secret may mean. Base64 without its prefix is in use as well as its text is.

    Raises:
        InvalidSecret: it means none.
    """
    if secret.startswith(_PREFIX):
        key = _decoded(secret.removeprefix(_PREFIX))
        if not key:
            raise InvalidSecret("what follows whsec_ must be base64")
        return [key]
    if not secret:
        raise InvalidSecret("must not be empty")
    decoded = _decoded(secret)
    return [secret.encode(), decoded] if decoded else [secret.encode()]


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _reason(webhook: Webhook, body: bytes, headers: dict[str, str]) -> str | None:
    """Why the message is not to be believed, or None where it is."""
    try:
        webhook.verify(body, headers, json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    except ValueError:  # of the library's own parsing: bytes that are no text, a signature that is no base64
        return "the headers or the body cannot be read"
    return None
