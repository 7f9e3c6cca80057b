"""What buyers, nodes and the payment provider ask for, and who sees what of it."""

import uuid
from datetime import UTC, datetime, timedelta

from behave import given, then, when

from tests.harness.dealing import euros


@given("{name:w} follows {channel:S} over {over:w}")
def follows(context, name, channel, over):
    context.trade.follow(name, channel, over)


@when("{name:w} follows the {kind:w} over {over:w}")
def follows_own(context, name, kind, over):
    context.trade.follow(name, kind, over, cursor="earliest")


@when('{name:w} wants "{title}"')
def wants(context, name, title):
    trade = context.trade
    trade.done(trade.desk.intent(trade.id_of(name), title=title), "intent")


@when('{name:w} wants "{title}" and says so twice')
def wants_twice(context, name, title):
    trade = context.trade
    ask = trade.desk.intent(trade.id_of(name), title=title)
    context.answers = []
    for _ in range(2):
        trade.done(ask, "intent")
        context.answers.append(trade.answer)


@when("{name:w} quotes {amount:S}")
def quotes(context, name, amount):
    trade = context.trade
    trade.done(trade.desk.quote(trade.id_of(name), trade.ids["intent"], amount=amount), "quote")


@when("{name:w} opens at {amount:S}")
def opens(context, name, amount):
    trade = context.trade
    trade.done(
        trade.desk.start(trade.id_of(name), trade.ids["intent"], trade.ids["quote"], amount=amount), "negotiation"
    )


@when("{name:w} opens at {amount:S} for half a second")
def opens_for_a_moment(context, name, amount):
    trade = context.trade
    soon = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    ids = trade.ids
    ask = trade.desk.start(trade.id_of(name), ids["intent"], ids["quote"], amount=amount, expires_at=soon)
    trade.done(ask, "negotiation")


@when("{name:w} offers {amount:S}")
def offers(context, name, amount):
    trade = context.trade
    trade.done(trade.desk.offer("node", trade.id_of(name), trade.ids["negotiation"], amount=amount))


@when("{name:w} accepts")
def accepts(context, name):
    trade = context.trade
    trade.done(trade.desk.accept("buyer", trade.id_of(name), trade.ids["negotiation"]))
    trade.accepted(name)


@when("{buyer:w} and {node:w} agree on {amount:S}")
def agree(context, buyer, node, amount):
    wants(context, buyer, "an hour")
    quotes(context, node, "100.00")
    opens(context, buyer, amount)
    trade = context.trade
    trade.done(trade.desk.accept("node", trade.id_of(node), trade.ids["negotiation"]))
    trade.accepted(buyer)


@when("the provider tells that {amount:S} were paid")
def tells_paid(context, amount):
    trade = context.trade
    asked = trade.desk.query("payments", f"/v1/payments/{trade.ids['order']}", "admin", "root").now().json()
    assert asked["state"]["amount"] == euros(amount), asked
    trade.done(trade.desk.result(trade.ids["order"]))


@when("the provider tells that the payment failed")
def tells_failed(context):
    context.trade.done(context.trade.desk.result(context.trade.ids["order"], "failed", reason="card declined"))


@when("{name:w} cancels the order")
def cancels(context, name):
    trade = context.trade
    trade.done(trade.desk.cancel_order("buyer", trade.id_of(name), trade.ids["order"]))


@when("{name:w} looks at the intent and follows it from there over {over:w}")
def looks_and_follows(context, name, over):
    trade = context.trade
    shown = trade.look(name, f"/v1/intents/{trade.ids['intent']}")
    assert [quote["quote_id"] for quote in shown["state"]["quotes"]] == [trade.ids["quote"]]
    trade.follow(name, "intent", over, cursor=shown["cursor"])
    context.follows_from_there = True


@then("{channel:S} brings the deal to {name:w}, in this order")
def brings_the_deal(context, channel, name):
    wanted = [row["type"] for row in context.table]
    found = context.trade.seen(channel, *wanted[-1:])
    assert [event["type"] for event in found] == wanted, [event["type"] for event in found]
    context.deal = found


@then("{channel} brings all of it to {name:w}, in the same order")
def brings_all(context, channel, name):
    found = context.trade.seen(channel.removeprefix("the "), context.deal[-1]["type"])
    assert found == context.deal, [event["type"] for event in found]


@then("{channel} brings all of it but the {kind:w} to {name:w}, in the same order")
def brings_all_but(context, channel, kind, name):
    found = context.trade.seen(channel, context.deal[-1]["type"])
    assert found == [event for event in context.deal if event["type"] != kind], [event["type"] for event in found]


@then("the {kind:w} brings its part to {name:w}, in the same order")
def brings_part(context, kind, name):
    wanted = [row["type"] for row in context.table]
    found = context.trade.seen(kind, *wanted[-1:])
    assert [event["type"] for event in found] == wanted
    assert found == [event for event in context.deal if event in found]


@then("every event names what caused it, and all name the deal")
def names_causes(context):
    ids = {event["id"] for event in context.deal}
    assert len(ids) == len(context.deal)
    for event in context.deal:
        assert event["correlationid"] == context.trade.ids["intent"]
        # A command's key, or an event of the same deal.
        assert event["causationid"].startswith("command:") or event["causationid"] in ids, event


@then("{name:w} learns of it")
def learns_of_it(context, name):
    while context.people.watching[name].next_event()["data"]["intent_id"] != context.trade.ids["intent"]:
        pass


@then("{channel} ends with {kinds}")
def ends_with(context, channel, kinds):
    found = context.trade.seen(channel.removeprefix("the "), *kinds.split(", "))
    assert len({event["id"] for event in found}) == len(found), "an event came twice"
    if getattr(context, "follows_from_there", False):
        assert len(found) == len(kinds.split(", ")), found
    context.last = found[-1]


@then("the last event says that it expired")
def says_expired(context):
    assert (context.last["data"]["by"], context.last["data"]["reason"]) == ("system", "expired")


@then("money that comes now is refused as {code:w}")
def money_is_refused(context, code):
    context.trade.refused(context.trade.desk.result(context.trade.ids["order"]), code)


@then("cancelling the order is refused as {code:w}")
def cancelling_is_refused(context, code):
    trade = context.trade
    trade.refused(trade.desk.cancel_order("buyer", trade.id_of("ada"), trade.ids["order"]), code)


@then("both times the answer was the same")
def same_answer(context):
    assert context.answers[0] == context.answers[1]


@then("{name:w} is told of the intent, the quote and the negotiation what is told of none")
def is_told_nothing(context, name):
    trade = context.trade
    eve, ids, none = trade.id_of(name), trade.ids, str(uuid.uuid4())
    desk = trade.desk
    for mine, unknown in (
        (f"/v1/intents/{ids['intent']}", f"/v1/intents/{none}"),
        (f"/v1/negotiations/{ids['negotiation']}", f"/v1/negotiations/{none}"),
    ):
        told = [desk.query("deals", path, "buyer", eve).now() for path in (mine, unknown)]
        assert (told[0].status_code, told[0].content) == (told[1].status_code, told[1].content)
    for one in (ids["quote"], none):
        trade.refused(desk.start(eve, ids["intent"], one), "not_found")
        trade.refused(desk.withdraw(eve, one), "not_found")
