"""What happens in plans, and who is told of it by an event stream."""

import re
import time

import httpx
from behave import given, then, when

from tests.features.follower import PlanFollower
from tests.features.people import Plans
from tests.harness.planner import artifact, problem, status
from tests.harness.tokens import bearer


def plans(context) -> Plans:
    return context.people.plans


def quoted(text):
    return re.findall(r'"([^"]*)"', text)


@given("{name:w} begins the plan {plan:w}")
def begins(context, name, plan):
    plans(context).begin(name, plan)


@when('the plan {plan:w} makes "{text}"')
def makes(context, plan, text):
    plans(context).happens(plan, artifact, text)


@when("the plan {plan:w} completes")
def completes(context, plan):
    plans(context).happens(plan, status, "COMPLETED")


@when('the plan {plan:w} tells "{word}", makes "{thing}", fails to reach a node, and completes')
def does_it_all(context, plan, word, thing):
    context.people.published.clear()
    happens = plans(context).happens
    happens(plan, status, "WORKING", word)
    happens(plan, artifact, thing)
    happens(plan, problem, "node_away", "one node does not answer")
    happens(plan, status, "COMPLETED")


@when("{name:w} follows the plan {plan:w}")
def follows(context, name, plan):
    follow(context, name, plan)


@when("{name:w} follows the plans {one:w} and {other:w}")
def follows_two(context, name, one, other):
    follow(context, name, one, other)


def follow(context, name, *names):
    ids = [context.people.id_of(plan) for plan in names]
    plans(context).followers[name] = PlanFollower(context.system.gateway, context.people.token(name), ids)


def follower(context, name) -> PlanFollower:
    return plans(context).followers[name]


def told(context, name):
    event = follower(context, name).next_event()
    return event and event["data"]["artifact"]["parts"][0]["text"]


@then('the next that {name:w} is told is "{text}"')
@when('{name:w} is told "{text}"')
def is_told_next(context, name, text):
    found = told(context, name)
    assert found == text, f"told {found!r}"


@then("{name:w} is told {texts}, in this order")
def is_told(context, name, texts):
    wanted = quoted(texts)
    found = [told(context, name) for _ in wanted]
    assert found == wanted, f"told {found}"


@when("nothing happens in it for a while")
def nothing_happens(context):
    """How long a while is is the gateway's to say: the next step waits for it."""


@then("{name:w} is sent a ping and a position")
def is_sent_ping(context, name):
    sign = follower(context, name).next_sign()
    assert (sign[""], sign["event"]) == ("ping", "position"), sign


@when("{name:w} hangs up on the plan")
@when("{name:w} disconnects")
@when("the connection of {name:w} drops")
def drops(context, name):
    follower(context, name).drop()


@when("{name:w} follows the plan {plan:w} from that position on")
def follows_on(context, name, plan):
    follower(context, name).connect()


@when("{name:w}'s client reconnects by itself")
def reconnects(context, name):
    follower(context, name).connect()


@then("{name:w} is told of the end, and the stream closes")
def is_told_of_end(context, name):
    names = follower(context, name).rest()
    assert [one for one in names if one not in ("live", "position", "")] == ["PLAN_STATUS_UPDATED", "end"], names


@then("{name:w}'s client comes back, is answered 204 and stops")
def comes_back(context, name):
    follower(context, name).connect()
    assert follower(context, name).status == httpx.codes.NO_CONTENT, follower(context, name).status


@then("{name:w} is told of the plan {plan:w} what is told of no plan")
def is_told_nothing(context, name, plan):
    seen = []
    for one in (plan, "never_made"):
        stranger = PlanFollower(context.system.gateway, context.people.token(name), [context.people.id_of(one)])
        # Where the stream stands may have moved on between the two, and when to come back is made up.
        sign = {key: value for key, value in stranger.next_sign().items() if key != "id"}
        seen.append((stranger.status, stranger.told_at_first, sign))
        stranger.close()
    assert seen[0] == seen[1], seen


COUNTED = {
    "event stream": 'a2a_connections{transport="sse"}',
    "reader of plans": 'a2a_readers{stream="PLANS"}',
    "channel of plans": 'a2a_live_keys{stream="PLANS"}',
    "A2A stream": 'a2a_connections{transport="a2a"}',
}


def gauges(context):
    """What the gateway itself counts."""
    text = httpx.get(f"{context.system.gateway}/metrics", headers=bearer("root", "admin")).text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {what: int(float(found[name])) for what, name in COUNTED.items()}


def wanted_counts(text):
    """`1 reader of plans` and `0 readers of plans` name the same."""
    found = re.findall(r"(\d+) ((?:event stream|A2A stream|reader|channel))s?( of plans)?", text)
    return {what + of: int(number) for number, what, of in found}


@given("nobody else is connected to the gateway")
def nobody_is_connected(context):
    counts(context, "0 event streams, 0 readers of plans and 0 channels of plans", 10.0)


@then("the gateway counts {text}")
def gateway_counts(context, text):
    counts(context, text, 1.0)


@then("within a second the gateway counts {text}")
def gateway_counts_soon(context, text):
    counts(context, text, 1.0)


def counts(context, text, seconds):
    wanted, deadline = wanted_counts(text), time.monotonic() + seconds
    assert wanted, text
    while True:
        found = {what: number for what, number in gauges(context).items() if what in wanted}
        if found == wanted:
            return
        assert time.monotonic() < deadline, f"counted {found}"
        time.sleep(0.02)
