"""What an A2A client asks, and what it is told."""

import httpx
from a2a.utils.errors import UnsupportedOperationError
from behave import given, then, when

from tests.features.agent import A2aUser


def user(context, name) -> A2aUser:
    return context.people.plans.users[name]


@given("{name:w} has an A2A client of {binding}")
def has_client(context, name, binding):
    people = context.people
    people.plans.users[name] = A2aUser(context.system.gateway, people.id_of(name), "buyer", binding)


@when('{name:w} asks for "{text}"')
def asks_for(context, name, text):
    user(context, name).ask(text)


@when('{name:w} answers "{text}"')
def answers(context, name, text):
    user(context, name).ask(text)


@when('{name:w} is asked "{question}"')
def is_asked(context, name, question):
    found = user(context, name).next()
    while found is not None and found.state != "INPUT_REQUIRED":
        found = user(context, name).next()
    assert found is not None
    assert question in found.text, found.text


@then("{name:w} is told of the task, of three offers and a plan made of them, and that it is completed")
def is_told_of_all(context, name):
    told = user(context, name).rest()
    assert [one.payload.artifact.artifact_id for one in told if one.kind == "artifact_update"] == ["offers"] * 3 + [
        "plan"
    ]
    assert told[-1].state == "COMPLETED", told[-1].state
    assert user(context, name).tasks[0].kind == "task"


@when("{name:w} is told everything")
def is_told_everything(context, name):
    user(context, name).rest()


@when("{name:w} is cut off after {count:d} updates")
def is_cut_off(context, name, count):
    for _ in range(count):
        user(context, name).next()
    user(context, name).drop()


@when("{name:w}'s client subscribes again with its cursor")
def subscribes_again(context, name):
    user(context, name).subscribe(user(context, name).cursor)


@then("the task that {name:w} is told first is as {same:w} knew it")
def task_is_as_known(context, name, same):
    task = user(context, name).tasks[-1]
    known = [one for one in user(context, name).told if one.kind == "artifact_update"]
    parts = [part.text for artifact in task.payload.artifacts for part in artifact.parts]
    assert parts == [one.text for one in known], parts
    assert task.cursor == user(context, name).told[-1].cursor


@then("{name:w} has been told every event of the plan once, in order")
def told_every_event(context, name):
    found = user(context, name)
    found.rest()
    url = f"{context.system.gateway}/v1/channels/plan:{found.plan}/events"
    page = httpx.get(url, headers={"Authorization": f"Bearer {context.people.token(name)}"}).json()
    # The first is what the task was told with.
    assert [one.cursor for one in found.told] == [entry["cursor"] for entry in page["events"]][1:]


@then("the same task is completed")
def same_task_is_completed(context):
    (found,) = context.people.plans.users.values()
    assert found.rest()[-1].state == "COMPLETED"
    assert len({task.payload.id for task in found.tasks}) == 1


@when("{name:w} cancels the plan")
def cancels_plan(context, name):
    user(context, name).cancel()


@then("{name:w} is told that it is canceled, and the stream closes")
def is_told_canceled(context, name):
    assert user(context, name).rest()[-1].state == "CANCELED"


@when("{name:w}'s client is gone")
def client_is_gone(context, name):
    context.people.plans.users.pop(name).close()


@then("{one:w} is refused alike for the plan of {other:w} and for one that never was, whatever {same:w} asks")
def refused_alike(context, one, other, same):
    found = user(context, one).refusals(user(context, other).plan)
    assert found == user(context, one).refusals("never_made")
    assert {text.partition(":")[0] for text in found} == {"TaskNotFoundError"}, found


@then("subscribing again is refused as UnsupportedOperation")
def refused_as_unsupported(context):
    (found,) = context.people.plans.users.values()
    assert found.refusals(found.plan)[1].startswith("UnsupportedOperationError")


@then("with the cursor of the third update the rest is told again")
def rest_is_told_again(context):
    (found,) = context.people.plans.users.values()
    before = [one.cursor for one in found.told]
    found.subscribe(before[2])
    assert [one.cursor for one in found.rest()] == before[3:]


@then("a further message of {name:w} for the same task is refused as UnsupportedOperation")
def further_message_is_refused(context, name):
    try:
        user(context, name).ask("and a lamp, at most 30 EUR")
    except UnsupportedOperationError:
        return
    raise AssertionError("it was taken")
