"""Who is there, and who watches what."""

import jwt
from behave import given, then, when

from tests.features.watcher import Refused
from tests.harness.tokens import SECRET


@given("a {role:w} {name:w}")
@given("an {role:w} {name:w}")
def is_there(context, role, name):
    context.people.add(name, role)


@given("{name:w} watches {channel:S} over {over:w}")
def watches(context, name, channel, over):
    assert context.people.watch(name, channel, over).until_live() == []


@given("{name:w} watches {channel:S} in {region:w} over {over:w}")
def watches_in(context, name, channel, region, over):
    context.people.watch(name, channel, over, region=region).until_live()


@when("{name:w} watches {channel:S} over {over:w} from the earliest on")
def watches_from_earliest(context, name, channel, over):
    context.received = context.people.watch(name, channel, over, cursor="earliest").until_live()


@when("{name:w} watches {channel:S} over {over:w} from the last {count:d} on")
def watches_last(context, name, channel, over, count):
    context.received = context.people.watch(name, channel, over, last=count).until_live()


@when("{name:w} watches {channel:S} over {over:w} from cursor {cursor:S} on")
def watches_from_cursor(context, name, channel, over, cursor):
    watcher = context.people.watch(name, channel, over, cursor=cursor)
    watcher.until_live()
    context.gaps = watcher.gaps


@when("{name:w} hangs up")
def hangs_up(context, name):
    context.people.hang_up(name)


@when("{name:w} comes back over {over:w} with the cursor")
def comes_back(context, name, over):
    people = context.people
    context.replayed = people.watch(name, f"buyer:{name}", over, cursor=people.cursors[name]).until_live()


@when("{name:w} comes back in {region:w} over {over:w} with the cursor")
def comes_back_in(context, name, region, over):
    people = context.people
    watcher = people.watch(name, f"buyer:{name}", over, region=region, cursor=people.cursors[name])
    context.replayed = watcher.until_live()


def try_to_watch(context, name, channel, over, **options):
    context.refused = None
    try:
        context.people.watch(name, channel, over, **options).until_live()
    except Refused as refused:
        context.refused = refused


@when("{name:w} tries to watch {channel:S} over {over:w}")
def tries_to_watch(context, name, channel, over):
    try_to_watch(context, name, channel, over)


@when('{name:w} tries to watch the channel "{channel}" over {over:w}')
def tries_to_watch_text(context, name, channel, over):
    context.people.channel = lambda text: text
    try_to_watch(context, name, channel, over)


@when("{name:w} tries to watch {channel:S} over {over:w} with a token for {claim:S} only")
def tries_with_narrowed_token(context, name, channel, over, claim):
    try_to_watch(context, name, channel, over, bearing=context.people.token(name, channels=[claim]))


@when("{name:w} tries to watch {channel:S} over {over:w} with no token")
def tries_without_token(context, name, channel, over):
    try_to_watch(context, name, channel, over, bearing="")


@when("{name:w} tries to watch {channel:S} over {over:w} with a token that is none")
def tries_with_noise(context, name, channel, over):
    try_to_watch(context, name, channel, over, bearing="not-a-token")


@when("{name:w} tries to watch {channel:S} over {over:w} with a token of another secret")
def tries_with_another_secret(context, name, channel, over):
    claims = jwt.decode(context.people.token(name), SECRET, ["HS256"])
    try_to_watch(context, name, channel, over, bearing=jwt.encode(claims, SECRET[::-1], "HS256"))


@when("{name:w} tries to watch {channel:S} over {over:w} with an unsigned token")
def tries_unsigned(context, name, channel, over):
    claims = jwt.decode(context.people.token(name), SECRET, ["HS256"])
    try_to_watch(context, name, channel, over, bearing=jwt.encode(claims, None, "none"))


@when("{name:w} tries to watch {channel:S} over {over:w} with a token that has expired")
def tries_expired(context, name, channel, over):
    try_to_watch(context, name, channel, over, bearing=context.people.token(name, expires_in=-3600))


@then("it is granted")
def is_granted(context):
    assert context.refused is None, f"refused as {context.refused.code}"


@then("it is refused as {code:w}")
def is_refused(context, code):
    assert context.refused is not None, "it was granted"
    assert context.refused.code == code, f"refused as {context.refused.code}"


@then("the number told is {number:d}")
def number_is_told(context, number):
    assert context.refused.number == number, f"told {context.refused.number}"


@then("a gap is told as {reason:w}")
def gap_is_told(context, reason):
    assert context.gaps == [reason], f"told {context.gaps}"


@then("no gap is told to {name:w}")
def no_gap_is_told(context, name):
    assert context.people.watching[name].gaps == []
