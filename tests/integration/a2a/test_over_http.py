"""What goes over the wire: versions, numbered errors, who may ask what."""

from typing import Any

import pytest

from services.local.embedded import EmbeddedNats
from tests.harness.a2acalls import A2aCaller, body_of, error_of
from tests.harness.events import fresh
from tests.harness.gateway import Gateway, running_gateway
from tests.harness.planner import Planner, status
from tests.harness.tokens import token

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("planner")]

NOT_FOUND = (200, -32001, "TASK_NOT_FOUND")


async def test_the_card_is_there_for_everybody_and_says_where_it_was_asked(gateway: Gateway, nats_server: str) -> None:
    async with gateway.http as client:
        answer = await client.get("/.well-known/agent-card.json")
        assert answer.json()["supportedInterfaces"][0]["url"] == f"{gateway.url}/a2a"
        assert answer.headers["cache-control"] == "no-store"
    async with running_gateway(nats_server, public_url="https://a2a.example") as named, named.http as client:
        answer = await client.get("/.well-known/agent-card.json")
        assert answer.json()["supportedInterfaces"][0]["url"] == "https://a2a.example/a2a"
        assert answer.headers["cache-control"] == "public, max-age=300"


@pytest.mark.parametrize("version", ["1.0", "1.0.3", "1"])
async def test_a_request_may_speak_any_patch_of_1_0(gateway: Gateway, version: str) -> None:
    caller = A2aCaller(gateway, fresh("buyer"))
    assert error_of(await caller.rpc("GetTask", {"id": "p1"}, version=version)) == NOT_FOUND
    answer = await caller.rest("GET", f"/tasks/p1?A2A-Version={version}", headers={"A2A-Version": ""})
    assert error_of(answer) == (404, 404, "TASK_NOT_FOUND")


@pytest.mark.parametrize("version", ["0.3", "0.3.0", ""])
async def test_without_a_version_it_is_0_3(gateway: Gateway, version: str) -> None:
    caller = A2aCaller(gateway, fresh("buyer"))
    assert error_of(await caller.rpc("tasks/get", {"id": "p1"}, version=version)) == NOT_FOUND
    for method in ("GetTask", "SubscribeToTask"):
        told = error_of(await caller.rpc(method, {"id": "p1"}, version=version))
        assert told == (200, -32009, "VERSION_NOT_SUPPORTED")
    answer = await caller.rest("GET", "/tasks/p1", headers={"A2A-Version": version})
    assert error_of(answer) == (400, 400, "VERSION_NOT_SUPPORTED")


@pytest.mark.parametrize("version", ["2.0", "1.1", "0.2.5", "one", "1.0; drop"])
async def test_another_version_is_refused_as_such(gateway: Gateway, version: str) -> None:
    caller = A2aCaller(gateway, fresh("buyer"))
    assert error_of(await caller.rpc("GetTask", {"id": "p1"}, version=version))[1] == -32009
    assert error_of(await caller.rest("GET", "/tasks/p1", headers={"A2A-Version": version}))[0] == 400


@pytest.mark.parametrize(
    ("body", "number", "request_id"),
    [
        (b"{", -32700, None),
        (b"[" * 100_000, -32700, None),
        (b'{"a":' * 20_000, -32700, None),
        (b"\xff", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":NaN}}', -32700, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"GetTask"}]', -32600, None),
        (b"7", -32600, None),
        (b"", -32600, None),
        (b'{"id":1,"method":"GetTask"}', -32600, 1),
        (b'{"jsonrpc":"1.0","id":"x","method":"GetTask"}', -32600, "x"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600, 1),
        (b'{"jsonrpc":"2.0","id":{},"method":"GetTask"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"GetTask"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"GetTask"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"DanceTask"}', -32601, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"p"}}', -32601, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":[]}', -32602, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{}}', -32602, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":7}}', -32602, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{"pageSize":1000}}', -32602, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{}}', -32602, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":"hi"}}', -32602, 1),
        (b'{"jsonrpc":"2.0","method":"GetTask","params":{"id":"p1"}}', -32001, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"GetExtendedAgentCard"}', -32004, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"ListTaskPushNotificationConfigs","params":{"taskId":"p"}}', -32003, 1),
    ],
)
async def test_a_bad_json_rpc_request_gets_its_number_and_its_id_back(
    gateway: Gateway, body: bytes, number: int, request_id: Any
) -> None:
    answer = await A2aCaller(gateway, fresh("buyer")).post(body, A2A_Version="1.0")
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, number)
    assert answer.json()["id"] == request_id


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/tasks/p1", (404, "TASK_NOT_FOUND")),
        ("GET", "/tasks/p.1", (404, "TASK_NOT_FOUND")),
        ("GET", "/tasks/p1?historyLength=two", (400, "INVALID_PARAMS")),
        ("GET", "/tasks?pageSize=0", (400, "INVALID_PARAMS")),
        ("GET", "/tasks?includeArtifacts=perhaps", (400, "INVALID_PARAMS")),
        ("POST", "/tasks/p1:cancel", (404, "TASK_NOT_FOUND")),
        ("POST", "/message:send", (400, "INVALID_PARAMS")),
        ("POST", "/message:stream", (400, "INVALID_PARAMS")),
        ("GET", "/tasks/p1/pushNotificationConfigs", (400, "PUSH_NOTIFICATION_NOT_SUPPORTED")),
        ("DELETE", "/tasks/p1/pushNotificationConfigs/c1", (400, "PUSH_NOTIFICATION_NOT_SUPPORTED")),
        ("GET", "/extendedAgentCard", (400, "UNSUPPORTED_OPERATION")),
        ("GET", "/dances", (404, "METHOD_NOT_FOUND")),
        ("PUT", "/tasks/p1", (404, "METHOD_NOT_FOUND")),
    ],
)
async def test_a_bad_rest_request_gets_a_google_status(
    gateway: Gateway, method: str, path: str, expected: tuple[int, str]
) -> None:
    answer = await A2aCaller(gateway, fresh("buyer")).rest(method, path)
    http, code, reason = error_of(answer)
    assert (http, code, reason) == (expected[0], expected[0], expected[1])


async def test_a_body_that_is_no_object_or_too_large_is_refused(gateway: Gateway) -> None:
    caller = A2aCaller(gateway, fresh("buyer"))
    assert error_of(await caller.rest("POST", "/message:send", content=b"[]"))[2] == "INVALID_PARAMS"
    large = b'{"a":"%b"}' % (b"x" * 300_000)
    assert error_of(await caller.post(large, A2A_Version="1.0"))[:2] == (413, -32000)
    for path in ("/message:send", "/tasks/p1:cancel", "/tasks/p1:subscribe"):
        assert error_of(await caller.rest("POST", path, content=large))[0] == 413


async def test_who_asks_is_judged_before_what_is_asked(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    nobody = A2aCaller(gateway, owner)
    nobody.headers = {}
    answer = await nobody.post(b"{", A2A_Version="1.0")
    assert error_of(answer) == (401, -32000, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert error_of(await nobody.rest("GET", f"/tasks/{plan}"))[0] == 401
    late = A2aCaller(gateway, owner, expires_in=-100)
    assert error_of(await late.rpc("GetTask", {"id": plan}))[0] == 401


async def test_a_token_that_is_narrowed_sees_the_plans_it_names(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan, other = await planner.begin(owner), await planner.begin(owner)
    one = A2aCaller(gateway, owner, channels=[f"plan:{plan}"])
    assert (await one.rpc("GetTask", {"id": plan})).json()["result"]["id"] == plan
    for method in ("GetTask", "CancelTask", "SubscribeToTask"):
        assert error_of(await one.rpc(method, {"id": other}))[0] == 403
        # What it may not see is refused alike, whether there is such a plan or not.
        assert (await one.rpc(method, {"id": other})).content == (await one.rpc(method, {"id": "p0"})).content.replace(
            b"plan:p0", f"plan:{other}".encode()
        )
    for method in ("ListTasks", "SendMessage", "SendStreamingMessage"):
        assert error_of(await one.rpc(method, {"message": {"messageId": "m", "parts": []}}))[0] == 403
    every = A2aCaller(gateway, owner, channels=["plan:*"])
    assert (await every.rpc("ListTasks")).json()["result"]["totalSize"] == 2


async def test_a_service_may_begin_a_plan_and_sees_none(gateway: Gateway) -> None:
    service = A2aCaller(gateway, fresh("shop"), "service")
    message = {"messageId": fresh("m"), "role": "ROLE_USER", "parts": [{"text": "restock"}]}
    task = (await service.rpc("SendMessage", {"message": message})).json()["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
    assert error_of(await service.rpc("GetTask", {"id": task["id"]}))[0] == 403
    assert error_of(await service.rpc("SendStreamingMessage", {"message": message}))[0] == 403


async def test_an_admin_follows_anybodys_plan(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    async with A2aCaller(gateway, fresh("root"), "admin").follow(plan) as blocks:
        await blocks.read()
        await planner.publish(status(plan, owner, "COMPLETED"))
        assert "statusUpdate" in body_of(await _next(blocks))


async def test_push_notifications_in_a_message_are_refused_before_anything_begins(
    gateway: Gateway, planner: Planner
) -> None:
    owner = fresh("buyer")
    caller = A2aCaller(gateway, owner)
    message = {"messageId": fresh("m"), "parts": [{"text": "hi"}], "role": "user"}
    wanted = {"configuration": {"taskPushNotificationConfig": {"url": "https://example.com"}}, "message": message}
    assert error_of(await caller.rpc("SendMessage", wanted))[1] == -32003
    wanted = {"configuration": {"pushNotificationConfig": {"url": "https://example.com"}}, "message": message}
    assert error_of(await caller.rpc("message/send", wanted, version="0.3"))[1] == -32003
    assert owner not in planner.owners.values()


@pytest.mark.parametrize(
    "configuration", [{"historyLength": -1}, {"historyLength": "x"}, {"returnImmediately": "soon"}], ids=str
)
async def test_a_configuration_that_cannot_be_meant_begins_nothing(
    gateway: Gateway, planner: Planner, configuration: dict[str, object]
) -> None:
    caller, before = A2aCaller(gateway, fresh("buyer")), dict(planner.owners)
    message = {"messageId": fresh("m"), "role": "ROLE_USER", "parts": [{"text": "go"}]}
    refused = await caller.rpc("SendMessage", {"message": message, "configuration": configuration})
    assert error_of(refused)[1] == -32602
    assert planner.owners == before


async def test_an_answer_at_once_has_as_much_history_as_was_asked_for(gateway: Gateway, planner: Planner) -> None:
    caller = A2aCaller(gateway, fresh("buyer"))
    message = {"messageId": fresh("m"), "role": "ROLE_USER", "parts": [{"text": "go"}]}
    configuration = {"returnImmediately": True, "historyLength": 0}
    answer = await caller.rpc("SendMessage", {"message": message, "configuration": configuration})
    assert answer.json()["result"]["task"].get("history", []) == []


async def test_what_the_plans_service_refuses_is_told_as_it_refuses(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    caller = A2aCaller(gateway, owner)
    message = {"message": {"messageId": fresh("m"), "role": "ROLE_USER", "parts": []}}
    for code, details, expected in (
        ("invalid_message", {"field": "/message/parts"}, (200, -32602, "INVALID_PARAMS")),
        ("conflict", {}, (409, -32000, "CONFLICT")),
        ("revoked", {}, (403, -32000, "FORBIDDEN")),
        ("a_code_of_tomorrow", {}, (200, -32603, "INTERNAL_ERROR")),
    ):
        planner.refusals["start"] = {"code": code, "message": "no", "retryable": False, "details": details}
        try:
            for method in ("SendMessage", "SendStreamingMessage"):
                assert error_of(await caller.rpc(method, message)) == expected
        finally:
            planner.refusals.clear()
    assert gateway.replica is not None
    assert not gateway.replica.connections


async def test_a_trace_goes_along_to_the_plans_service(gateway: Gateway, planner: Planner) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await A2aCaller(gateway, fresh("buyer")).rpc("ListTasks", traceparent=trace)
    assert planner.traces[-1] == trace


async def test_without_a_plans_service_a_retry_is_advised(fresh_nats: EmbeddedNats) -> None:
    async with running_gateway(fresh_nats.url) as alone:
        caller = A2aCaller(alone, fresh("buyer"))
        for method in ("GetTask", "SubscribeToTask"):
            answer = await caller.rpc(method, {"id": "p1"})
            assert error_of(answer) == (503, -32000, "UNAVAILABLE")
            assert answer.json()["error"]["data"][0]["metadata"]["code"] == "unavailable"
            assert answer.headers["retry-after"] == "1"
        fresh_nats.stop()
        assert error_of(await caller.rest("GET", "/tasks"))[0] == 503
        assert alone.replica is not None
        assert not alone.replica.principals


async def test_a_cookie_serves_a_page_of_an_allowed_origin(gateway: Gateway, planner: Planner) -> None:
    owner = fresh("buyer")
    plan = await planner.begin(owner)
    cookie = {"Cookie": f"a2a_session={token(owner, 'buyer')}", "A2A-Version": "1.0"}
    async with gateway.http as client:
        own = await client.get(f"/a2a/tasks/{plan}", headers={**cookie, "Origin": gateway.url})
        assert own.json()["id"] == plan
        other = await client.get(f"/a2a/tasks/{plan}", headers={**cookie, "Origin": "https://evil.example"})
        assert other.status_code == 403


async def _next(blocks: Any) -> dict[str, str]:
    """The next block, without the comments before it."""
    found: dict[str, str] = await blocks.read()
    return found
