"""The bounded map."""

from k2.model.lru import Lru


def test_a_bounded_map_forgets_what_was_used_longest_ago():
    kept = Lru(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)


def test_a_value_put_again_counts_once():
    kept = Lru(5, len)
    kept.put("a", "xx")
    kept.put("b", "yyy")
    kept.put("a", "zz")
    assert (kept.get("a"), kept.get("b")) == ("zz", "yyy")
    kept.put("c", "w")
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (None, "yyy", "w")


def test_the_newest_value_is_kept_even_where_it_alone_is_more_than_the_capacity():
    kept = Lru(2, len)
    kept.put("a", "x")
    kept.put("b", "yyyy")
    assert (kept.get("a"), kept.get("b")) == (None, "yyyy")
