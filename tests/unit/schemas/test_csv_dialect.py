"""What splits a CSV file: what the CLI and the worker go by."""

from __future__ import annotations

import csv
import io
import random

import pytest

from trainyard_schemas.csv_dialect import DELIMITERS, header_of, likely_delimiters


@pytest.mark.parametrize(
    ("start", "names", "delimiter"),
    [
        ("income, USD\tage, years\ty\n1,5\t2\t3\n", ["income, USD", "age, years", "y"], "\t"),
        ("a|b\n1|2\n", ["a", "b"], "|"),
        ("a;b\n1,5;2,5\n", ["a", "b"], ";"),
        ("y\n1,5\n", ["y"], ","),
        ("a,,b \n1,2,3\n", ["a", "", "b"], ","),
        ("", [], ","),
        ("\n\n", [], ","),
    ],
)
def test_the_header_is_split_as_the_lines_below_are(start: str, names: list[str], delimiter: str) -> None:
    assert header_of(start) == (names, delimiter)


def test_a_line_that_is_cut_off_does_not_count() -> None:
    whole = "a, b\ty\n" + "1\t2\n" + "x" * (1 << 20)
    assert likely_delimiters(whole[: 1 << 20]) == ["\t"]
    assert likely_delimiters(whole[: 1 << 19]) == (",", ";", "\t")


def test_what_a_program_wrote_below_a_plain_header_is_split_as_it_was_joined() -> None:
    draw = random.Random(7)
    for _ in range(1_000):
        out, delimiter, columns = io.StringIO(newline=""), draw.choice(DELIMITERS), draw.randint(2, 5)
        writer = csv.writer(out, delimiter=delimiter, quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        writer.writerow([f"name {index}" for index in range(columns)])
        writer.writerows(["".join(draw.choices("a1,;|\t\n \"'", k=4)) for _ in range(columns)] for _ in range(25))
        assert likely_delimiters(out.getvalue()) == [delimiter], out.getvalue()
