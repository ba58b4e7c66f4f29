"""Whom an answer that is none tells to mend what: the one who asked, or time."""

import pytest

from k2.client.errors import refusal
from k2.model.errors import UserError, WorldError


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_the_asker_can_mend_is_a_user_error(status):
    assert isinstance(refusal(status, "No."), UserError)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_what_time_mends_is_a_world_error(status):
    assert isinstance(refusal(status, "Later."), WorldError)


def test_a_key_that_is_not_known_is_told_with_its_remedy():
    assert str(refusal(401, "The API key is not known.")) == (
        "The API key is not known. Set K2_API_KEY; `k2 up` leaves one in the data directory."
    )
