"""What is published, and what arrives."""

import httpx
from behave import given, then, when

from tests.features.watcher import Refused
from tests.harness.events import deal
from tests.harness.tokens import bearer


def publish(context, *documents):
    for answer in context.people.publish(*documents):
        assert answer.is_success, answer.text
        context.people.let_it_arrive(answer)


def names_without_none(**names):
    return {key: name for key, name in names.items() if name}


@given("an {kind:w} of {buyer:w} with {node:w} is published")
@when("an {kind:w} of {buyer:w} with {node:w} is published")
def is_published(context, kind, buyer, node):
    publish(context, context.people.document(kind, buyer=buyer, node=node))


@when("an {kind:w} of {buyer:w} is published")
def is_published_by_buyer(context, kind, buyer):
    publish(context, context.people.document(kind, buyer=buyer))


@given("an {kind:w} of {buyer:w} with {node:w} over {order:w} is published")
@when("an {kind:w} of {buyer:w} with {node:w} over {order:w} is published")
@when("a {kind:w} of {buyer:w} with {node:w} over {order:w} is published")
def is_published_over_order(context, kind, buyer, node, order):
    publish(context, context.people.document(kind, buyer=buyer, node=node, order=order))


@when("a {kind:w} of {buyer:w} with {node:w} under {intent:w} is published")
def is_published_under_intent(context, kind, buyer, node, intent):
    publish(context, context.people.document(kind, buyer=buyer, node=node, intent=intent))


@when("{count:d} {kind:w} of {buyer:w} with {node:w} are published")
def are_published(context, count, kind, buyer, node):
    publish(context, *(context.people.document(kind, buyer=buyer, node=node) for _ in range(count)))


@when("a whole deal of {buyer:w} with {node:w} is published")
def deal_is_published(context, buyer, node):
    publish(context, *deal(buyer=context.people.id_of(buyer), node=context.people.id_of(node)))


@when("the same is published again")
def is_published_again(context):
    (answer,) = context.people.publish(context.people.published.pop())
    assert answer.is_success, answer.text
    assert "true" in answer.text, f"not told as a duplicate: {answer.text}"


@when("{name:w} tries to publish an {kind:w} of {buyer:w} with {node:w}")
def tries_to_publish(context, name, kind, buyer, node):
    people = context.people
    headers = {**bearer(people.id_of(name), "buyer"), "Content-Type": "application/cloudevents+json"}
    document = people.document(kind, buyer=buyer, node=node)
    answer = httpx.post(f"{context.system.ingest}/v1/events", json=document, headers=headers)
    context.refused = Refused(answer.json()["code"], answer.status_code)


@when('an {kind:w} of {buyer:w} with {node:w} is published with "{amount}" as its amount')
def is_published_with_amount(context, kind, buyer, node, amount):
    document = context.people.document(kind, buyer=buyer, node=node)
    document["data"]["total"] = {"amount": amount, "currency": "EUR"}
    (context.answer,) = context.people.publish(document)
    context.refused = Refused(context.answer.json()["code"], context.answer.status_code)


@when("{name:w} asks for the history of {channel:S}")
def asks_for_history(context, name, channel):
    answer = context.people.history(name, channel)
    context.refused = None if answer.is_success else Refused(answer.json()["code"], answer.status_code)


def ids(events):
    return [event["id"] for event in events]


def receive(context, name, count):
    return [context.people.watching[name].next_event() for _ in range(count)]


def assert_same(found, wanted):
    assert ids(found) == ids(wanted), f"received {[e['type'] for e in found]}: {ids(found)}, not {ids(wanted)}"


@given("{name:w} receives it")
@then("{name:w} receives it")
def receives_it(context, name):
    (found,) = receive(context, name, 1)
    assert found == context.people.published[-1], f"received {found}"


@then("{name:w} receives the first published")
def receives_first(context, name):
    assert_same(receive(context, name, 1), context.people.published[:1])


@then("the next that {name:w} receives is the last published")
def receives_last(context, name):
    assert_same(receive(context, name, 1), context.people.published[-1:])


@then("{name:w} receives it, maybe after others")
def receives_it_after_others(context, name):
    wanted = context.people.published[-1]["id"]
    while context.people.watching[name].next_event()["id"] != wanted:
        pass


@then("{name:w} receives, in this order")
def receives_in_order(context, name):
    found = receive(context, name, len(context.table.rows))
    assert [event["type"] for event in found] == [row["type"] for row in context.table]
    assert_same(found, context.people.published)


@then("{name:w} receives exactly what was published, each once")
def receives_all(context, name):
    assert_same(receive(context, name, len(context.people.published)), context.people.published)


@then("{name:w} receives exactly the last {count:d} published, each once")
def receives_last_count(context, name, count):
    found = context.replayed + receive(context, name, count - len(context.replayed))
    assert_same(found, context.people.published[-count:])


@then("{name:w} has received exactly the last {count:d} published")
def has_received_last(context, name, count):
    assert_same(context.received, context.people.published[-count:])


@then("{name:w} has received the last published and nothing else")
def has_received_only_last(context, name):
    assert_same(context.received, context.people.published[-1:])


@then("{name:w} has received nothing")
def has_received_nothing(context, name):
    assert context.received == []


@then("the history of {channel:S} that {name:w} reads is exactly what was published")
def history_is_what_was_published(context, channel, name):
    answer = context.people.history(name, channel)
    assert answer.is_success, answer.text
    assert [entry["event"] for entry in answer.json()["events"]] == context.people.published


@then("the field {pointer:S} is named")
def field_is_named(context, pointer):
    assert pointer in context.answer.text, context.answer.text
