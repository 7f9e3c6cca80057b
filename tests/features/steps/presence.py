"""Who is there, and what the others are told of it."""

from behave import given, then, when


@given("{name:w} is in {channel:S}")
@when("{name:w} comes into {channel:S}")
def comes(context, name, channel):
    context.attendance.come(name, channel)


@when('{name:w} enters saying "{text}"')
def enters(context, name, text):
    context.attendance.say(name, op="presence", action="enter", data=text)
    person = context.people.id_of(name)
    if name != "rival":  # a stranger is not told of itself either
        context.attendance.until(name, lambda guest: guest.members.get(person) == text)


@when("{name:w} leaves")
def leaves(context, name):
    context.attendance.say(name, op="presence", action="leave")


@when("{name:w} loses the connection and comes back")
def comes_back(context, name):
    context.attendance.come_back(name)


@when("{name:w} is typing")
def is_typing(context, name):
    context.attendance.say(name, op="signal", kind="typing", data={"field": "price"})


@then('{name:w} sees {other:w} saying "{text}"')
def sees_saying(context, name, other, text):
    person = context.people.id_of(other)
    context.attendance.until(name, lambda guest: guest.members.get(person) == text)


@then("{name:w} sees {other:w} no more")
def sees_no_more(context, name, other):
    person = context.people.id_of(other)
    context.attendance.until(name, lambda guest: person in guest.left and person not in guest.members)


@then("{name:w} was never told that {other:w} left")
def was_never_told(context, name, other):
    assert context.people.id_of(other) not in context.attendance.listen(name).left


@then("{name:w} learns that {other:w} is typing")
def learns_of_typing(context, name, other):
    context.attendance.until(name, lambda guest: guest.signals)
    signal = context.attendance.guest(name).signals[0]
    assert (signal["from"]["sub"], signal["kind"]) == (context.people.id_of(other), "typing")


@then("{name:w} sees only herself")
def sees_only_herself(context, name):
    guest = context.attendance.listen(name)
    assert set(guest.members) == {context.people.id_of(name)}
    assert guest.signals == []


@then("{name:w} sees nobody")
def sees_nobody(context, name):
    guest = context.attendance.listen(name)
    assert (guest.members, guest.signals) == ({}, [])


@then("the list of {channel:S} for {name:w} is {others}")
def list_is(context, channel, name, others):
    wanted = set() if others == "nobody" else {context.people.id_of(other) for other in others.split(" and ")}
    found = context.attendance.listed(name, channel)
    assert found == wanted, f"listed {found}"
