"""Headers of a mail: one plain recipient, one line, nothing smuggled in."""

import pytest

from actors.headers import is_address, is_one_line


@pytest.mark.parametrize("text", ["a@b", "einkauf@firma.example", "o'neil+erp@mail.firma.example"])
def test_a_plain_address_is_one(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "firma.example",
        "@firma.example",
        "a@",
        "a@b.",
        "a@b@c",
        "a@b, c@d",
        "a@b;c@d",
        "Firma <a@b>",
        "a@b\n",
        "a@b\r\nBcc: c@d",
        "a b@c",
        "ä@firma.example",
        "a@firmä.example",
        "a" * 65 + "@b",
        "a@" + "b" * 253,
    ],
)
def test_whatever_could_be_more_or_less_than_one_address_is_none(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize("text", ["", "Rechnung für Mai", "3\u00a0€", "weich\u00adgetrennt", "👩\u200d💻"])
def test_text_of_one_line_is_one(text: str) -> None:
    assert is_one_line(text)


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\t", "\x1b", "\x85", "\u2028", "\u2029", "\ud800"])
def test_a_character_that_could_end_the_line_or_not_be_written_is_refused(character: str) -> None:
    assert not is_one_line(f"Rechnung{character}Bcc: spam@firma.example")
