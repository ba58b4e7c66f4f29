"""Which trades count: filters as a person writes them, as tokens carry them, and as SQL on decimals of any width."""

import json
from decimal import Context, Decimal
from itertools import pairwise

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.extent import sized

from k2.client.asking import prints as of_python
from k2.forms.print_parameters import PrintParams
from k2.lake.reader import ColumnInfo
from k2.model import prints
from k2.model.errors import UserError
from k2.model.events import COLUMNS, SIDES
from k2.model.prints import COLUMN_OF, PrintFilter, check_prints, parse_amount
from k2.model.topics import DataType
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.requests import EventsQuery
from k2.query.rows import print_sql

CODES = st.text(st.characters(min_codepoint=33, max_codepoint=0x3000, exclude_characters=",", categories=("L", "N", "P", "S")), min_size=1, max_size=8)  # fmt: skip
EXACT = Context(prec=100)
AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**25), max_value=10**25, places=20)


@st.composite
def filters(draw):
    codes = draw(st.lists(CODES, unique=True, max_size=6))
    cut = draw(st.integers(0, len(codes)))
    bounds = {}
    for of in ("quantity", "price"):
        least, most = sorted(draw(st.tuples(AMOUNTS, AMOUNTS)))
        bounds |= {f"min_{of}": draw(st.sampled_from([None, least])), f"max_{of}": draw(st.sampled_from([None, most]))}
    side = draw(st.sampled_from([None, *SIDES]))
    return PrintFilter(tuple(codes[:cut]), tuple(codes[cut:]), side, **bounds)


@settings(max_examples=sized(50, 500), deadline=None)
@given(filters())
def test_a_filter_is_the_same_after_its_way_through_a_token_and_the_parameters(made):
    said = json.loads(json.dumps(made.to_dict()))
    assert PrintFilter.from_dict(said) == made
    assert PrintParams(**said).prints == ((made,) if made else ())
    assert set(said) == set(made.said)
    cursor = Cursor(ReplayQuery(prints=(made,) if made else ()), dict.fromkeys(DataType, ()), {})
    assert Cursor.decode(cursor.encode()).query.prints == cursor.query.prints


def test_a_cursor_without_filters_is_what_it_was_before_there_were_any():
    token = Cursor(ReplayQuery((DataType.TRADES,)), {DataType.TRADES: ()}, {}).encode()
    assert Cursor.decode(token).query.prints == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"conditions": 3}, {"conditions": ["3"]}),
        ({"conditions": "XT"}, {"conditions": ["XT"]}),
        ({"exclude_conditions": [1, "3"], "side": "BUY"}, {"exclude_conditions": ["1", "3"], "side": "BUY"}),
        ({"exclude_conditions": []}, {"exclude_conditions": None}),
        ({"min_price": 36.75, "max_price": Decimal("1E+2")}, {"min_price": "36.75", "max_price": "100"}),
        ({"min_quantity": 1e-08, "max_quantity": 10}, {"min_quantity": "0.00000001", "max_quantity": "10"}),
        ({"side": None, "min_price": None}, {}),
    ],
)
def test_python_may_say_it_in_its_own_values(given, said):
    assert of_python(given) == said


def test_python_is_told_of_an_option_that_there_is_not_and_of_no_conditions():
    with pytest.raises(TypeError, match="There is no option condition; of trades there are conditions, exclude_"):
        of_python({"condition": "3"})
    with pytest.raises(UserError, match="conditions names no code, expected one or more"):
        of_python({"conditions": []})


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"conditions": ["1,2"], "exclude_conditions": [2]}, "name the same code: found '2'"),
        ({"conditions": [""]}, "conditions names no code"),
        ({"conditions": []}, "conditions names no code"),
        ({"exclude_conditions": ["a\nb"]}, "Not a condition code in exclude_conditions"),
        ({"min_price": "2", "max_price": "1"}, "The bounds of price are reversed: found 'min_price 2, max_price 1'"),
        ({"min_quantity": "many"}, "min_quantity is not a number: found 'many', expected a decimal, such as 36.75"),
        *(
            ({"max_price": text}, "max_price is not a number")
            for text in ("", "NaN", "inf", "1e999", "0x1", "1,5", "٣")
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(given, error):
    with pytest.raises(UserError, match=error):
        _ = PrintParams(**given).prints


def test_what_a_filter_is_about_are_columns_of_trades_and_of_nothing_else():
    assert prints.SIDES == SIDES
    for data_type in DataType:
        there = {column.name for column in COLUMNS[data_type]} & set(COLUMN_OF.values())
        assert there == (set(COLUMN_OF.values()) if data_type is DataType.TRADES else set())


def test_quotes_have_none_of_the_columns_and_beside_trades_need_none():
    for name in COLUMN_OF:
        value = {"side": "BUY"}.get(name, ("3",) if "conditions" in name else Decimal(1))
        only = (PrintFilter(**{name: value}),)
        with pytest.raises(
            UserError, match=f"quotes cannot be filtered by {name}: found 'no column {COLUMN_OF[name]}'"
        ):
            EventsQuery(DataType.QUOTES, prints=only)
        assert EventsQuery(DataType.TRADES, prints=only).prints == only
        check_prints(only, (DataType.QUOTES, DataType.TRADES))
    with pytest.raises(UserError, match="Ask for trades, or leave the filter out"):
        ReplayQuery((DataType.QUOTES,), prints=(PrintFilter(side="BUY"),))


@settings(max_examples=sized(50, 500), deadline=None)
@given(AMOUNTS, AMOUNTS, st.sampled_from([(18, 8), (38, 18), (3, 0)]), st.data())
def test_bounds_on_a_column_of_any_width_are_those_of_exact_numbers(one, other, digits, data):
    precision, scale = digits
    least, most = sorted((one, other))
    near = st.sampled_from([least, most]).map(lambda bound: int(bound.scaleb(scale, EXACT))) | st.just(0)
    largest = 10**precision - 1
    drawn = data.draw(st.lists(st.builds(int.__add__, near, st.integers(-2, 2)), min_size=1, max_size=5))
    values = [Decimal(max(-largest, min(largest, number))).scaleb(-scale, EXACT) for number in drawn]
    column = ColumnInfo(1, "price", f"decimal({precision}, {scale})")
    for which in (
        PrintFilter(min_price=least),
        PrintFilter(max_price=most),
        PrintFilter(min_price=least, max_price=most),
    ):
        clauses, params = print_sql.conditions((which,), [column])
        assert not params
        rows = ", ".join(f"('{value:f}'::DECIMAL({precision}, {scale}))" for value in values)
        sql = f"SELECT count(*) FROM (VALUES {rows}) t(price) WHERE {' AND '.join(clauses)}"
        kept = [
            value
            for value in values
            if (which.min_price is None or value >= least) and (which.max_price is None or value <= most)
        ]
        assert CONNECTION.execute(sql).fetchone() == (len(kept),)


CONNECTION = duckdb.connect()


@pytest.mark.parametrize("more", [(), tuple(f"c{n}" for n in range(20))], ids=["few codes", "many"])
def test_a_list_without_codes_has_none_and_one_that_is_not_there_neither(more):
    rows = "(VALUES (['1', '3']), (['3']), (['13']), (['']), ([]), (NULL)) t(trade_conditions)"
    column = ColumnInfo(1, "trade_conditions", "list<string>")
    for which, kept in (
        (PrintFilter(("1", *more)), [["1", "3"]]),
        (PrintFilter((), ("1", *more)), [["3"], ["13"], [""], [], None]),
        (PrintFilter(("9", "3", *more)), [["1", "3"], ["3"]]),
        (PrintFilter((*more, "3"), ("1",)), [["3"]]),
    ):
        clauses, params = print_sql.conditions((which,), [column])
        sql = f"SELECT trade_conditions::VARCHAR[] FROM {rows} WHERE {' AND '.join(clauses)}"
        assert [row[0] for row in CONNECTION.execute(sql, params).fetchall()] == kept


def test_an_amount_keeps_every_digit():
    for text in ("0.1", "12345678901234567890.123456789012345678", "-1", "+.5", "7.", "1e-8"):
        assert parse_amount(text, "min_price") == Decimal(text)
    numbers = [parse_amount(f"0.{'0' * n}1", "min_price") for n in range(20)]
    assert all(a > b for a, b in pairwise(numbers))


def test_a_column_that_the_rows_do_not_have_lets_none_through():
    assert print_sql.conditions((PrintFilter(side="BUY"),), [ColumnInfo(1, "price", "decimal(18, 8)")]) == (
        ["false"],
        {},
    )
