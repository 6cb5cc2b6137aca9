"""Order files: good rows are kept, bad ones named, whatever program wrote the file."""

import io
import tracemalloc
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import FileUnreadable, WrongColumns
from actors.order_csv import COLUMNS, MAX_ROW_BYTES, OrderRow, RejectedRow, read_layout, read_rows

HEADER = ";".join(COLUMNS)
GOOD = "B-1;Müller GmbH;einkauf@mueller.example;A-1001;2;1.234,56;31.12.2026"


def rows_of(content: str | bytes) -> list[OrderRow | RejectedRow]:
    file = io.BytesIO(content.encode() if isinstance(content, str) else content)
    return [row for row, _ in read_rows(file, read_layout(file))]


def file_of(*rows: str) -> str:
    return "\n".join([HEADER, *rows, ""])


def reason_of(row: str) -> str:
    (rejected,) = rows_of(file_of(row))
    assert isinstance(rejected, RejectedRow)
    return rejected.reason


def numbers_of(rows: list[OrderRow | RejectedRow]) -> list[str]:
    return [row.number for row in rows if isinstance(row, OrderRow)]


def rejected_rows_of(rows: list[OrderRow | RejectedRow]) -> list[int]:
    return [row.row for row in rows if isinstance(row, RejectedRow)]


def test_a_row_becomes_an_order() -> None:
    assert rows_of(file_of(GOOD)) == [
        OrderRow(
            row=2,
            number="B-1",
            customer="Müller GmbH",
            email="einkauf@mueller.example",
            article="A-1001",
            quantity=2,
            unit_price=Decimal("1234.56"),
            ordered_on=date(2026, 12, 31),
        )
    ]


@pytest.mark.parametrize(
    ("encoding", "delimiter", "newline", "price"),
    list(product(["utf-8", "utf-8-sig", "cp1252"], ";,", ["\n", "\r\n"], ["1.234,56", "1234.56"])),
)
def test_every_way_of_writing_reads_the_same(encoding: str, delimiter: str, newline: str, price: str) -> None:
    cells = ["B-1", "Müller GmbH", "einkauf@mueller.example", "A-1001", "2", f'"{price}"', "2026-12-31"]
    content = newline.join([delimiter.join(COLUMNS), delimiter.join(cells)])

    assert rows_of(content.encode(encoding)) == rows_of(file_of(GOOD))


def test_column_names_may_be_english_in_any_order_and_case_beside_others() -> None:
    header = "QUANTITY,remark,email,article,unit_price,ordered_on,customer,order_number"
    row = '2,urgent,einkauf@mueller.example,A-1001,"1.234,56",31.12.2026,Müller GmbH,B-1'

    assert rows_of(f"{header}\n{row}\n") == rows_of(file_of(GOOD))


def test_quoted_names_and_cells_are_read() -> None:
    lines = (";".join(f'"{cell}"' for cell in line.split(";")) for line in (HEADER, GOOD))

    assert rows_of("\n".join(lines)) == rows_of(file_of(GOOD))


@pytest.mark.parametrize("delimiter", [";", ","])
def test_wrong_columns_are_one_error_that_names_both(delimiter: str) -> None:
    with pytest.raises(WrongColumns) as caught:
        rows_of(delimiter.join(["Bestellnummer", "Name\0", "Preis"]))

    assert caught.value.expected == tuple(COLUMNS)
    assert "expected Bestellnummer, Kunde," in str(caught.value)


def test_the_columns_that_were_found_are_named() -> None:
    with pytest.raises(WrongColumns, match=r"found 'Bestellnummer', 'Name', 'Preis'\.$"):
        rows_of("Bestellnummer;Name;Preis\n1;2;3\n")


def test_a_column_that_stands_twice_is_wrong() -> None:
    with pytest.raises(WrongColumns):
        rows_of(f"{HEADER};order_number\n")


def test_a_file_that_is_no_table_is_wrong() -> None:
    with pytest.raises(WrongColumns, match=r"found none\.$"):
        rows_of("\n\n")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error_that_names_the_columns(content: bytes) -> None:
    with pytest.raises(FileUnreadable, match=r"Bestellnummer"):
        rows_of(content)


def test_utf16_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(FileUnreadable, match="save it as CSV UTF-8"):
        rows_of(file_of(GOOD).encode("utf-16"))


def test_a_header_alone_is_a_list_without_orders() -> None:
    assert rows_of(HEADER) == []


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("Bestellnummer", " ", "Bestellnummer is empty"),
        ("Bestellnummer", "B" * 65, "Bestellnummer is longer than 64 characters"),
        ("Kunde", "", "Kunde is empty"),
        ("Kunde", "\x1b[31mrot", "Kunde contains control characters"),
        ("E-Mail", "niemand", "E-Mail 'niemand' is not a mail address"),
        ("E-Mail", "a@b, c@d", "E-Mail 'a@b, c@d' is not a mail address"),
        ("Artikel", "", "Artikel is empty"),
        ("Menge", "0", "Menge '0' is not a whole number from 1 to 1,000,000"),
        ("Menge", "1,5", "Menge '1,5' is not a whole number from 1 to 1,000,000"),
        ("Menge", "1.000.001", "Menge '1.000.001' is not a whole number from 1 to 1,000,000"),
        ("Menge", "zwei", "Menge 'zwei' is not a number such as 1.234,56 or 1234.56"),
        ("Einzelpreis", "-1", "Einzelpreis '-1' is negative or too large"),
        ("Einzelpreis", "10.000.000.000", "Einzelpreis '10.000.000.000' is negative or too large"),
        ("Einzelpreis", "1,999", "Einzelpreis '1,999' has more than two decimals"),
        ("Einzelpreis", "x" * 99, f"Einzelpreis '{'x' * 39}…' is not a number such as 1.234,56 or 1234.56"),
        ("Bestelldatum", "30.02.2026", "Bestelldatum '30.02.2026' is not a date such as 31.12.2026 or 2026-12-31"),
        ("Kunde", "Müller\0", "contains a NUL byte"),
    ],
)
def test_a_bad_cell_is_a_reason(column: str, cell: str, reason: str) -> None:
    cells = GOOD.split(";")
    cells[list(COLUMNS).index(column)] = cell

    assert reason_of(";".join(cells)) == reason


def test_missing_and_additional_fields_are_a_reason() -> None:
    assert reason_of("B-1;Müller GmbH") == "expected 7 fields, found 2"
    assert reason_of(f"{GOOD};zu viel") == "expected 7 fields, found 8"


def test_blank_rows_and_empty_fields_at_the_end_are_passed_over() -> None:
    rows = rows_of(file_of("", f"{GOOD};;;", ";;;;;;;;", "   "))

    assert numbers_of(rows) == ["B-1"]
    assert rows[0].row == 3


def test_a_line_break_in_quotes_belongs_to_its_cell_and_its_row() -> None:
    broken = GOOD.replace("Müller GmbH", '"Müller\r\nGmbH"')
    rows = rows_of(file_of(broken, "unsinn", GOOD))

    assert [row.row for row in rows] == [2, 3, 4]
    assert rows[0] == rows_of(file_of(GOOD))[0]


@pytest.mark.parametrize("stray", ['"Müller', 'B-1;"Müller GmbH;a@b;A-1001', '"B-1"x;Müller'])
def test_a_quote_that_is_not_closed_costs_its_row_only(stray: str) -> None:
    quoted = GOOD.replace("Müller GmbH", '"Müller" GmbH').replace("B-1", "B-3")
    rows = rows_of(file_of(GOOD, stray, GOOD.replace("B-1", "B-2"), GOOD.replace("B-1", '"B-4"'), quoted))

    assert numbers_of(rows) == ["B-1", "B-2", "B-4"]
    assert rejected_rows_of(rows) == [3, 6]


def test_a_row_of_any_length_costs_its_row_only() -> None:
    rows = rows_of(file_of("B-0;" + "x" * 5 * MAX_ROW_BYTES, GOOD, '"' + "y" * 3 * MAX_ROW_BYTES + '"', GOOD))

    assert numbers_of(rows) == ["B-1", "B-1"]
    assert rejected_rows_of(rows) == [2, 4]


def test_a_row_in_another_encoding_is_named_in_a_utf8_file() -> None:
    odd = GOOD.replace("B-1", "B-2").encode("cp1252")
    rows = rows_of(b"\n".join([file_of(GOOD, GOOD).encode(), odd, GOOD.encode()]))

    assert numbers_of(rows) == ["B-1", "B-1", "B-1"]
    assert [row for row in rows if isinstance(row, RejectedRow)] == [RejectedRow(5, "is not utf-8 text")]


def test_an_umlaut_far_down_decides_the_encoding() -> None:
    plain = GOOD.replace("ü", "ue")
    rows = rows_of(file_of(*[plain] * 2000, GOOD).encode("cp1252"))

    assert isinstance(rows[-1], OrderRow)
    assert rows[-1].customer == "Müller GmbH"


def test_reading_goes_on_from_any_position() -> None:
    file = io.BytesIO(file_of(GOOD, '"x', GOOD.replace("Müller", '"Mül\nler"'), "", GOOD).encode("utf-8-sig"))
    layout = read_layout(file)
    whole = list(read_rows(file, layout))

    for done, (_, position) in enumerate(whole, start=1):
        assert list(read_rows(file, layout, position)) == whole[done:]


@given(st.lists(st.sampled_from([GOOD, "unsinn", '"', 'B;"x', "", ";;;", "\0", "ä" * 9, '"a\nb"'])), st.booleans())
def test_good_rows_survive_any_neighbours(lines: list[str], is_utf8: bool) -> None:
    content = file_of(*lines).encode("utf-8" if is_utf8 else "cp1252")

    rows = rows_of(content)

    assert len(numbers_of(rows)) == lines.count(GOOD)


@given(st.binary(max_size=300))
def test_any_bytes_give_rows_or_reasons(noise: bytes) -> None:
    rows = rows_of(HEADER.encode() + b"\n" + noise + b"\n")

    assert all(isinstance(row, OrderRow | RejectedRow) for row in rows)


def test_a_row_of_many_megabytes_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b"\n".join([HEADER.encode(), b"x" * 20_000_000, b'"' + b"y" * 20_000_000, GOOD.encode()]))

    with path.open("rb") as file:
        tracemalloc.start()
        rows = [row for row, _ in read_rows(file, read_layout(file))]
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert numbers_of(rows) == ["B-1"]
    assert peak_bytes < 1_000_000
