"""What an admin does about others, and what they are told."""

import time

import httpx
from behave import given, then, when

from tests.features.steps.people import try_to_watch
from tests.features.watcher import Refused
from tests.harness.events import event


def admin(context, name):
    headers = {"Authorization": f"Bearer {context.people.token(name)}"}
    return httpx.Client(base_url=context.system.gateway, headers=headers, timeout=10)


@given("{name:w} revokes {whom:w}")
@when("{name:w} revokes {whom:w}")
def revokes(context, name, whom):
    with admin(context, name) as client:
        answer = client.post("/v1/admin/revocations", json={"sub": context.people.id_of(whom)})
    assert answer.status_code == 201, answer.text


@then("{name:w} is told that it is revoked with {number:d}")
def is_told(context, name, number):
    told = None
    try:
        context.people.watching[name].next_event()
    except Refused as refused:
        told = (refused.code, refused.number)
    assert told == ("revoked", number), f"told {told}"


@then("{name:w} is still served")
def is_served(context, name):
    document = event("ORDER_CREATED", buyer=context.people.id_of(name))
    context.people.publish(document)
    assert context.people.watching[name].next_event()["id"] == document["id"]


@when("{name:w} tries to watch {channel:S} over {over:w} with the token it had")
def tries_with_the_old(context, name, channel, over):
    try_to_watch(context, name, channel, over, bearing=context.people.token(name, iat=int(time.time()) - 60))


@when("{name:w} tries to watch {channel:S} over {over:w} with a token issued afterwards")
def tries_with_a_new(context, name, channel, over):
    try_to_watch(context, name, channel, over, bearing=context.people.token(name, iat=int(time.time()) + 2))


@given("{name:w} has {count:d} connections")
def has_connections(context, name, count):
    context.crowd = []
    for _ in range(count):
        watcher = context.people.watch(name, f"buyer:{name}", "WebSocket")
        context.add_cleanup(watcher.close)
        context.crowd.append(watcher)


@when("an admin closes one of {name:w}'s by {by:w}")
def closes_one(context, name, by):
    with admin(context, by) as client:
        found = client.get("/v1/admin/connections", params={"sub": context.people.id_of(name)}).json()["connections"]
        assert len(found) == len(context.crowd)
        assert client.delete(f"/v1/admin/connections/{found[0]['id']}").status_code == 204
