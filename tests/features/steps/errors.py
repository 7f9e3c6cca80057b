"""What a client does wrong, and what it is told."""

import httpx
from behave import then, when

from tests.features.watcher import Refused


@when("{name:w} sends {message} over the open connection")
def sends(context, name, message):
    watcher = context.people.watching[name]
    watcher._socket.send(message)
    context.refused = None
    try:
        watcher.next_event()
    except Refused as refused:
        context.refused = refused


@then("it is answered as {code:w}")
def is_answered(context, code):
    assert context.refused is not None, "an event came instead"
    assert context.refused.code == code, f"answered as {context.refused.code}"
    assert context.refused.number is None, "the connection was closed"


@when("{name:w} watches {channel:S} over SSE without gaps from cursor {cursor:S} on")
def watches_without_gaps(context, name, channel, cursor):
    people = context.people
    answer = httpx.get(
        f"{context.system.gateway}/v1/events",
        params={"channel": people.channel(channel), "on_gap": "refuse"},
        headers={"Authorization": f"Bearer {people.token(name)}", "Last-Event-ID": cursor},
    )
    context.refused = None if answer.is_success else Refused(answer.json()["code"], answer.status_code)
