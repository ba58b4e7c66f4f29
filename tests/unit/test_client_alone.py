"""The client of a lake stands without the web app: whoever asks in Python needs no server's packages."""

import subprocess
import sys

from k2.client.asynchronous import AsyncConnection
from k2.client.connection import Connection

ASKED = """
import sys

import k2.client
from k2.model.errors import K2Error

folder = sys.argv[1]
properties = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}"}
with k2.connect(catalog=properties) as db:
    try:
        db.trades("BHP")
    except K2Error as error:
        print(type(error).__name__)
loaded = {name.split(".")[0] for name in sys.modules} | {name for name in sys.modules if name.startswith("k2.")}
print(sorted(loaded & {"duckdb", "fastapi", "starlette", "uvicorn", "confluent_kafka", "k2.api"}))
"""


def test_a_question_to_a_lake_loads_no_web_framework(tmp_path):
    done = subprocess.run([sys.executable, "-c", ASKED, str(tmp_path)], capture_output=True, text=True, check=True)
    # The engine is there (the control), and neither the web app nor Kafka's client.
    assert done.stdout.splitlines() == ["TableMissingError", "['duckdb']"], done.stderr


def test_every_question_can_be_asked_in_both_ways():
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Connection) - public(AsyncConnection) == set()
