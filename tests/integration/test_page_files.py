"""The page's files over HTTP: no key, nothing inline, cheap to ask for again, and honest when the chart library is missing."""

import re
import shutil

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from k2_testing.lake import catalog_properties

from k2.api.app import create_app
from k2.api.page.route import CHART_LIBRARY, FOLDER, page_router, read_assets
from k2.model.settings import Settings
from k2.model.workload import QueryConfig

pytestmark = pytest.mark.skipif(
    not (FOLDER / CHART_LIBRARY).exists(), reason="the chart library is not here: npm was away when k2 was installed"
)


def client_of(assets):
    app = FastAPI(docs_url=None)
    app.include_router(page_router(assets))
    return TestClient(app)


@pytest.fixture
def client():
    return client_of(read_assets())


def test_the_page_needs_no_key_and_runs_nothing_inline(client):
    reply = client.get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]* src=)", reply.text)
    assert not re.search(r"<style|\son\w+=|\sstyle=|javascript:", reply.text)


def test_everything_that_the_page_names_is_served_with_its_type(client):
    page = client.get("/").text
    named = set(re.findall(r'(?:src|href|data-charts)="(page/[^"]+)"', page))
    assert any("lightweight-charts" in name for name in named)
    modules = {f"page/{path.name}" for path in FOLDER.glob("*.js")}
    for name in named | modules:
        reply = client.get(f"/{name}")
        assert reply.status_code == 200, name
        assert reply.headers["x-content-type-options"] == "nosniff"
        kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[name.rsplit(".", 1)[1]]
        assert reply.headers["content-type"].startswith(kind), name


def test_no_file_of_ours_names_another_origin_but_in_links(client):
    for name in ["", *(f"page/{path.name}" for path in FOLDER.iterdir() if path.is_file())]:
        text = client.get(f"/{name}").text
        links = re.sub(r'<a href="https://[^"]+"|xmlns="[^"]+"', "", text)
        assert not re.findall(r"(?:https?|wss?)://", links), name


def test_an_unchanged_file_is_not_sent_again(client):
    first = client.get("/page/main.js")
    assert first.headers["cache-control"] == "no-cache"
    for tag in (first.headers["etag"], f'"other", {first.headers["etag"]}', "*"):
        again = client.get("/page/main.js", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b""), tag
        assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/page/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_chart_library_has_an_address_of_its_content_and_may_be_kept_for_ever(client):
    (address,) = re.findall(r'data-charts="([^"]+)"', client.get("/").text)
    reply = client.get(f"/{address}")
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert reply.content == (FOLDER / CHART_LIBRARY).read_bytes()
    assert client.get(f"/page/{CHART_LIBRARY}").status_code == 404, "without its digest it would be kept too long"


def test_head_is_answered_and_nothing_outside_of_the_folder_is(client):
    assert client.head("/").status_code == 200
    for path in ("/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/lib/package-lock.json", "/page/nothing.js"):
        assert client.get(path).status_code == 404, path


def test_without_the_chart_library_the_page_is_served_and_knows_it(tmp_path):
    bare = tmp_path / "page"
    shutil.copytree(FOLDER, bare, ignore=shutil.ignore_patterns("lib"))
    assert 'data-charts=""' in client_of(read_assets(bare)).get("/").text


def test_the_reference_of_the_api_names_nobody_else_and_runs_nothing_inline(client):
    reply = client.get("/docs")
    assert reply.status_code == client.head("/docs").status_code == 200
    policy = reply.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://|<script(?![^>]* src=)|<style", reply.text)
    named = re.findall(r'(?:src|href|data-library)="(page/[^"]+)"', reply.text)
    assert {name.rsplit("/", 1)[1] for name in named} == {"icon.svg", "docs.js", "swagger-ui.js", "swagger-ui.css"}
    for name in named:
        found = client.get(f"/{name}")
        assert found.status_code == 200, name
        assert ("immutable" in found.headers["cache-control"]) == ("swagger-ui" in name)
    assert client.get("/docs", headers={"If-None-Match": reply.headers["etag"]}).status_code == 304


def test_without_its_library_the_reference_is_a_link(tmp_path):
    bare = tmp_path / "page"
    shutil.copytree(FOLDER, bare, ignore=shutil.ignore_patterns("lib"))
    text = client_of(read_assets(bare)).get("/docs").text
    assert 'data-library=""' in text
    assert 'href="openapi.json"' in text


def test_the_service_sends_it_compressed_and_tells_caches(tmp_path):
    settings = Settings(catalog_properties=catalog_properties(tmp_path), data_dir=tmp_path)
    app = create_app(QueryConfig(), settings)
    with TestClient(app) as client:
        (address,) = re.findall(r'data-charts="([^"]+)"', client.get("/").text)
        reply = client.get(f"/{address}", headers={"Accept-Encoding": "gzip"})
        assert reply.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in reply.headers["vary"]
        assert reply.num_bytes_downloaded < 75_000
        again = client.get(f"/{address}", headers={"If-None-Match": reply.headers["etag"]})
        assert again.status_code == 304
        modules = {f"page/{path.name}" for path in FOLDER.glob("*.js")} - {"page/docs.js"}
        parts = {"", address, "page/page.css", "page/icon.svg"} | modules
        weights = {
            name: client.get(f"/{name}", headers={"Accept-Encoding": "gzip"}).num_bytes_downloaded for name in parts
        }
        assert sum(weights.values()) < 400_000, weights
        assert "/page/{path}" not in client.get("/openapi.json").json()["paths"]
