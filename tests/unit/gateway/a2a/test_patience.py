"""A quiet A2A stream says something at least every 4 s, whatever is set: the SDK's client gives up after 5."""

from typing import Any

import pytest
from annotated_types import Le

from services.gateway.core.limits import Limits
from services.gateway.core.wheel import SLOT_SECONDS
from services.gateway.settings import GatewaySettings

_FIELD = GatewaySettings.model_fields["task_idle_s"]
(_LARGEST,) = [one.le for one in _FIELD.metadata if isinstance(one, Le)]


@pytest.mark.parametrize("seconds", [_FIELD.default, _LARGEST])
def test_a_comment_comes_within_four_seconds(seconds: Any) -> None:
    # The wheel wakes a stream one slot late at most, and it may have just missed one.
    assert seconds + 2 * SLOT_SECONDS <= 4


def test_the_default_is_the_settings() -> None:
    assert Limits().task_idle_seconds == _FIELD.default
