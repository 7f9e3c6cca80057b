"""deploy/nats, run as it is: a hub of three servers and a region, over TLS, with accounts."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest

from contracts.topology import streams
from services.chassis.jetstream import JetStreamError, StreamMissing, connect, ensure, request, state
from services.chassis.telemetry import logger
from services.local.embedded import find_binary, free_port
from services.relay.regions import RegionReconciler
from tests.harness.certificates import make_certificates
from tests.harness.deployed import FOLDER, HUBS, PASSWORD, Deployment, Server, deployment
from tests.harness.streams import looking_at
from tests.harness.waiting import until

SPECS = streams(market_max_bytes=64 * 1024**2, replicas=3)
IN_REGION = streams(market_max_bytes=64 * 1024**2)


def variables(example: Path) -> dict[str, str]:
    return dict(re.findall(r"^(NATS_\w+)=(.*)$", example.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", [*HUBS, "region"])
def test_the_configuration_is_valid_with_the_variables_of_its_example(name: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    given = variables(FOLDER / ("region.env.example" if name == "region" else "hub.env.example"))
    files = {"CERT": made.certificate, "KEY": made.key, "CA": made.authority}
    given |= {f"NATS_{kind}_FILE": f'"{path}"' for kind, path in files.items()} | {"NATS_STORE": f'"{tmp_path}"'}
    checked = subprocess.run(
        [find_binary(), "-t", "-c", str(FOLDER / f"{name}.conf")],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.fixture
async def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deployment]:
    """The hub's three servers, healthy; whoever connects trusts their authority."""
    with deployment(tmp_path) as found:
        monkeypatch.setenv("SSL_CERT_FILE", str(found.certificates.authority))
        for server in found.hub.values():
            await server.healthy()
        yield found


@pytest.mark.timeout(180)
async def test_a_region_follows_a_hub_of_three_over_tls_and_cannot_change_its_streams(deployed: Deployment) -> None:
    region = deployed.region("eu")
    region.start()
    try:
        await region.healthy()
        async with looking_at(deployed.hub["hub-1"].url) as hub, looking_at(region.url) as eu:
            await ensure(hub, SPECS)
            assert (await state(hub, "MARKET")).replicas == 3
            relay = RegionReconciler(eu, IN_REGION, region="eu", hub_domain="hub")

            async def is_made() -> bool:
                return all(report.is_as_declared for report in await relay.round())

            await until(is_made, seconds=30, what="the region has its mirrors")
            answer = await eu.request("market.i.b.n.order.o", b"{}", timeout=5)
            assert b'"seq":1' in answer.data

            async def has_it() -> bool:
                return (await state(eu, "MARKET")).messages == 1

            await until(has_it, seconds=30, what="the event is in the mirror")
            with pytest.raises((nats.errors.Error, JetStreamError)):
                await request(eu, "STREAM.DELETE.MARKET", api="$JS.hub.API", seconds=1)
            assert (await state(hub, "MARKET")).messages == 1
            with pytest.raises(StreamMissing):
                await state(eu, "MARKET_REPLAY")
    finally:
        region.kill()


def bare_leaf(deployed: Deployment, folder: Path) -> Server:
    """A leaf of the hub's that somebody made with the region's password, without a JetStream of its own."""
    port, monitor_port = free_port(), free_port()
    urls = [f"tls://region:{PASSWORD}@127.0.0.1:{port}" for port in deployed.leaf_ports]
    config = folder / "bare.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitor_port}"\n'
        f"leafnodes {{ remotes: [ {{ urls: {json.dumps(urls)}, "
        f'tls {{ ca_file: "{deployed.certificates.authority}" }} }} ] }}\n'
    )
    return Server("bare", config, {}, port, monitor_port, folder / "bare.log")


@pytest.mark.timeout(180)
async def test_who_has_the_password_of_a_region_can_empty_no_stream_by_it(deployed: Deployment, tmp_path: Path) -> None:
    first = deployed.hub["hub-1"]
    with pytest.raises(nats.errors.Error, match="Authorization"):
        await connect(first.url.replace("services:", "region:"), name="test", log=logger("test"))
    leaf = bare_leaf(deployed, tmp_path)
    leaf.start()
    try:
        await leaf.healthy()
        async with looking_at(first.url) as hub, looking_at(f"nats://127.0.0.1:{leaf.port}") as bare:
            await ensure(hub, SPECS)
            await hub.request("market.i.b.n.order.o", b"{}", timeout=5)

            async def is_linked() -> bool:
                with contextlib.suppress(nats.errors.Error):
                    return (await state(bare, "MARKET", api="$JS.hub.API")).messages == 1
                return False

            await until(is_linked, seconds=30, what="the hub answers the leaf")
            for api in ("$JS.API", "$JS.hub.API"):
                for what in ("STREAM.PURGE", "STREAM.DELETE", "STREAM.LEADER.STEPDOWN"):
                    with pytest.raises(nats.errors.Error):
                        await request(bare, f"{what}.MARKET", api=api, seconds=1)
            assert (await state(hub, "MARKET")).messages == 1
    finally:
        leaf.kill()


@pytest.mark.timeout(180)
async def test_a_service_goes_on_at_another_server_when_its_own_is_gone(deployed: Deployment) -> None:
    first = deployed.hub["hub-1"]
    async with looking_at(first.url) as client:
        first.kill()

        def is_elsewhere() -> bool:
            now = client.connected_url
            return client.is_connected and now is not None and now.port != first.port

        await until(is_elsewhere, seconds=30, what="the client is connected to another server")
        await client.publish("anything", b"")
        await client.flush(5)
