"""Reading orders from CSV files as customers and spreadsheets write them.

Pure reading: no queue, no database. A file is read in constant memory, and from any position a former reader has
reached, so an interrupted import goes on where it stood. A row that cannot be read is reported with its number and
never takes a good row with it.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import BinaryIO, TypeVar

from actors import german
from actors.errors import FileUnreadable, WrongColumns
from actors.headers import is_address, is_one_line

#: Column names as we ask for them, and the English ones that are understood too.
COLUMNS = MappingProxyType(
    {
        "Bestellnummer": "order_number",
        "Kunde": "customer",
        "E-Mail": "email",
        "Artikel": "article",
        "Menge": "quantity",
        "Einzelpreis": "unit_price",
        "Bestelldatum": "ordered_on",
    }
)
DELIMITERS = (";", ",")

# Below the csv module's own limit of 131,072 characters per field, which is global to the process and so not ours to
# change.
MAX_ROW_BYTES = 65_536
_MAX_QUANTITY = 1_000_000
_MAX_UNIT_PRICE = Decimal("9999999999.99")
_T = TypeVar("_T")
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading goes on: ``row`` rows (the header is the first) end at ``offset`` bytes."""

    row: int
    offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is written, and where its first row after the header begins."""

    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    start: Position


@dataclass(frozen=True, slots=True)
class OrderRow:
    """A good row."""

    row: int
    number: str
    customer: str
    email: str
    article: str
    quantity: int
    unit_price: Decimal
    ordered_on: date


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not an order, with a reason a person can act on."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Record:
    fields: tuple[str, ...]
    end: Position


class _RowProblem(ValueError):
    """What is wrong with one row."""


def read_rows(
    file: BinaryIO, layout: Layout, start: Position | None = None
) -> Iterator[tuple[OrderRow | RejectedRow, Position]]:
    """Yield each row from ``start`` on with the position after it; blank rows are passed over.

    Rows are numbered as a spreadsheet shows them: the header is row 1, and a field with line breaks stays in its row.
    """
    position = start or layout.start
    while True:
        try:
            record = _read_record(file, layout, position)
        except _RowProblem as problem:
            position = _after_first_line(file, position)
            yield RejectedRow(position.row, str(problem)), position
            continue
        if record is None:
            return
        position = record.end
        if any(field.strip() for field in record.fields):
            yield _parse(record, layout), position


def read_layout(file: BinaryIO) -> Layout:
    """Find out encoding, delimiter and columns.

    Raises:
        WrongColumns: The header does not name every column once.
        FileUnreadable: The file is empty, or written in UTF-16.
    """
    file.seek(0)
    head = file.read(len(_UTF8_BOM))
    if not head:
        raise FileUnreadable(f"The file is empty; expected columns {', '.join(COLUMNS)}.")
    if head.startswith(_UTF16_BOMS):
        raise FileUnreadable("The file is encoded in UTF-16; save it as CSV UTF-8.")
    begin = Position(0, len(_UTF8_BOM) if head == _UTF8_BOM else 0)
    encoding = "utf-8" if begin.offset else _detect_encoding(file)
    return _best_layout([_layout(file, encoding, delimiter, begin) for delimiter in DELIMITERS])


def _best_layout(layouts: list[Layout]) -> Layout:
    best = max(layouts, key=lambda layout: len(COLUMNS.keys() & set(layout.columns)))
    if any(best.columns.count(name) != 1 for name in COLUMNS):
        widest = max(layouts, key=lambda layout: len(layout.columns))
        raise WrongColumns(COLUMNS, [_quote(name) for name in widest.columns] or ["none"])
    return best


def _detect_encoding(file: BinaryIO) -> str:
    """Return UTF-8 or cp1252, whichever more lines beyond ASCII are written in.

    Looks at the whole file: in a long list the first umlaut may come late. The majority decides, so that a single
    broken row of a UTF-8 file is reported instead of turning every name of the file into gibberish.
    """
    file.seek(0)
    utf8_lines = other_lines = 0
    for line in iter(partial(file.readline, MAX_ROW_BYTES), b""):
        if not line.isascii():
            if _is_utf8(line):
                utf8_lines += 1
            else:
                other_lines += 1
    return "utf-8" if utf8_lines >= other_lines else "cp1252"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _layout(file: BinaryIO, encoding: str, delimiter: str, begin: Position) -> Layout:
    unread = Layout(encoding, delimiter, (), begin)
    try:
        header = _read_record(file, unread, begin)
    except _RowProblem:
        # Quoted names look broken when they are read with the other delimiter.
        return unread
    if header is None:
        return unread
    return replace(unread, columns=tuple(map(_column_name, header.fields)), start=header.end)


def _column_name(field: str) -> str:
    wanted = field.strip().casefold()
    for german_name, english_name in COLUMNS.items():
        if wanted in (german_name.casefold(), english_name):
            return german_name
    return field.strip()


def _read_record(file: BinaryIO, layout: Layout, position: Position) -> _Record | None:
    """Return the record at the position, or ``None`` at the end of the file.

    A record over several lines that does not come out right is a problem of its first line alone: a forgotten closing
    quote must not swallow the rows below it.
    """
    file.seek(position.offset)
    lines = _Lines(file, layout.encoding)
    try:
        fields = next(csv.reader(lines, delimiter=layout.delimiter, strict=True), None)
    except csv.Error as error:
        raise _RowProblem(f"is not well-formed CSV: {error}") from error
    if fields is None:
        return None
    if layout.columns and any(field.strip() for field in fields):
        fields = _fit(fields, len(layout.columns))
    return _Record(tuple(fields), Position(position.row + 1, position.offset + lines.bytes_read))


def _fit(fields: list[str], width: int) -> list[str]:
    # Spreadsheets pad rows with empty fields up to the widest one of the sheet.
    if len(fields) < width or any(field.strip() for field in fields[width:]):
        raise _RowProblem(f"expected {width} fields, found {len(fields)}")
    return fields[:width]


class _Lines:
    """The lines of one record, decoded one by one, and how many bytes they took."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self.bytes_read = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.bytes_read += len(line)
        if self.bytes_read > MAX_ROW_BYTES:
            raise _RowProblem(f"is longer than {MAX_ROW_BYTES:,} bytes; perhaps a quote is not closed")
        if b"\0" in line:
            raise _RowProblem("contains a NUL byte")
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise _RowProblem(f"is not {self._encoding} text") from error


def _after_first_line(file: BinaryIO, position: Position) -> Position:
    file.seek(position.offset)
    for piece in iter(partial(file.readline, MAX_ROW_BYTES), b""):
        if piece.endswith(b"\n"):
            break
    return Position(position.row + 1, file.tell())


def _parse(record: _Record, layout: Layout) -> OrderRow | RejectedRow:
    row = record.end.row
    cells = dict(zip(layout.columns, record.fields, strict=True))
    try:
        return OrderRow(
            row,
            number=_text(cells, "Bestellnummer", 64),
            customer=_text(cells, "Kunde", 200),
            email=_email(cells),
            article=_text(cells, "Artikel", 64),
            quantity=_quantity(cells),
            unit_price=_unit_price(cells),
            ordered_on=_value(cells, "Bestelldatum", german.parse_date),
        )
    except _RowProblem as problem:
        return RejectedRow(row, str(problem))


def _text(cells: dict[str, str], column: str, longest: int) -> str:
    text = " ".join(cells[column].split())
    if not text:
        raise _RowProblem(f"{column} is empty")
    if len(text) > longest:
        raise _RowProblem(f"{column} is longer than {longest} characters")
    if not is_one_line(text):
        raise _RowProblem(f"{column} contains control characters")
    return text


def _email(cells: dict[str, str]) -> str:
    email = cells["E-Mail"].strip()
    if not is_address(email):
        raise _RowProblem(f"E-Mail {_quote(email)} is not a mail address")
    return email


def _quantity(cells: dict[str, str]) -> int:
    quantity = _value(cells, "Menge", german.parse_number)
    if quantity != int(quantity) or not 1 <= quantity <= _MAX_QUANTITY:
        raise _RowProblem(f"Menge {_quote(cells['Menge'])} is not a whole number from 1 to {_MAX_QUANTITY:,}")
    return int(quantity)


def _unit_price(cells: dict[str, str]) -> Decimal:
    price = _value(cells, "Einzelpreis", german.parse_money)
    if not 0 <= price <= _MAX_UNIT_PRICE:
        raise _RowProblem(f"Einzelpreis {_quote(cells['Einzelpreis'])} is negative or too large")
    return price


def _value(cells: dict[str, str], column: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(cells[column])
    except ValueError as error:
        raise _RowProblem(f"{column} {_quote(cells[column])} {error}") from error


def _quote(text: str) -> str:
    """Show what stood in the file, short and without control characters."""
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
