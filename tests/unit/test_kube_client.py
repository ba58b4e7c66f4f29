"""The client of the Kubernetes API, against a server that says what it is asked."""

import asyncio

from aiohttp import web

from k2_operator.kube.client import PAGE, Access, Kube


def test_a_list_comes_a_page_at_a_time():
    asked = []

    async def answer(request):
        asked.append(dict(request.query))
        first = int(request.query.get("continue", "0"))
        last = min(first + int(request.query["limit"]), 2 * PAGE + 1)
        items = [{"metadata": {"name": f"d{number}"}} for number in range(first, last)]
        more = {"continue": str(last)} if last <= 2 * PAGE else {}
        return web.json_response({"metadata": {"resourceVersion": "7", **more}, "items": items})

    async def listed():
        application = web.Application()
        application.add_routes([web.get("/apis/apps/v1/namespaces/m/deployments", answer)])
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with Kube(lambda: Access(f"http://127.0.0.1:{port}", {}, None)) as kube:
                return [each async for each in kube.list("Deployment", "m", "a=b")]
        finally:
            await runner.cleanup()

    found = asyncio.run(listed())
    assert [each["metadata"]["name"] for each in found] == [f"d{number}" for number in range(2 * PAGE + 1)]
    assert {(each["apiVersion"], each["kind"]) for each in found} == {("apps/v1", "Deployment")}
    assert [each.get("continue") for each in asked] == [None, str(PAGE), str(2 * PAGE)]
    assert {(each["limit"], each["labelSelector"]) for each in asked} == {(str(PAGE), "a=b")}
