"""A gateway leaves, and its client goes on at another one."""

from behave import given, then, when

from tests.features.leaver import Leaver, Returner
from tests.harness.events import event


def begin(context, spread_seconds):
    context.leaver = Leaver(context.system.told["nats"], spread_seconds=spread_seconds)
    context.add_cleanup(context.leaver.kill)


@given("another gateway")
def another_gateway(context):
    begin(context, spread_seconds=1)


@given("{name:w} is connected there for {channel:S}")
def is_connected(context, name, channel):
    kind = channel.partition(":")[0]
    context.returner = Returner(context.people.id_of(name), f"{kind}:{context.people.id_of(name)}")
    context.add_cleanup(context.returner.close)
    context.returner.come_to(context.leaver.url)
    context.came = []


@given("the other gateway would take a minute to leave")
def takes_long(context):
    context.returner.close()
    begin(context, spread_seconds=60)
    context.returner.come_to(context.leaver.url)


@when("the other gateway is told to leave")
def leaves(context):
    context.leaver.leave()


@then("the other gateway is ready no more")
def is_unready(context):
    assert context.leaver.has_become_unready()


@when("an event comes for {name:w}")
@when("another event comes for {name:w}")
def event_comes(context, name):
    document = event("ORDER_CREATED", buyer=context.people.id_of(name))
    context.people.publish(document)
    context.came.append(document["id"])


@then("{name:w} has it there")
def has_it(context, name):
    assert context.returner.until("event")["event"]["id"] == context.came[-1]


@then("{name:w} is told when to come back")
def is_told(context, name):
    assert 0 <= context.returner.until("drain")["reconnect_in_ms"] <= 1000


@when("{name:w} is closed there with {number:d}")
@then("{name:w} is closed there with {number:d}")
def is_closed(context, name, number):
    code = context.returner.close_code()
    assert code == number, code


@when("{name:w} comes back to the first gateway")
def comes_back(context, name):
    context.returner.come_to(context.system.gateway)


@then("{name:w} has what came meanwhile, once")
def has_all(context, name):
    assert context.returner.events == context.came, (context.returner.events, context.came)


@then("the other gateway has ended well")
def has_ended(context):
    assert context.leaver.exit_code() == 0
