"""Numbers in prose: reading the one a completion ends with, showing one, and when two count as equal."""

import re
from fractions import Fraction

MARK = "####"
"""What stands before the answer, as in GSM8K."""

# At most 30 digits: a degenerate completion may hold thousands, which no answer needs.
NUMBER = re.compile(
    r"(?P<sign>[-+−]?)\s?[$€£]?\s?(?P<minus>-?)"
    r"(?:(?:(?P<whole>[0-9]{1,30})\s)?(?P<over>[0-9]{1,30})\s?/\s?(?P<under>[0-9]{1,30})(?![0-9])"
    r"|(?P<plain>[0-9]{1,3}(?:,[0-9]{3}){1,9}|[0-9]{1,30})?(?P<decimals>\.[0-9]{1,30})?)(?![0-9]|[.,/:eE^][0-9])"
)


def number_after_mark(completion: str) -> Fraction | None:
    """The first number of the line after the last mark; None without a mark or a readable number."""
    _, mark, tail = completion.rpartition(MARK)
    return read_number(tail.strip().partition("\n")[0]) if mark else None


def read_number(text: str) -> Fraction | None:
    """The first number of a text, whatever words, currency or unit surround it; None where it cannot be told.

    `1,080`, `$2.50`, `-3`, `50 %`, `5/6`, `2 1/3`. Not: commas that part no thousands, times, powers, division by zero.
    """
    first = re.search(r"[0-9]", text)
    if first is None:
        return None
    # The match that covers the first digit: sign, currency and a leading point stand before it.
    found = next((m for m in NUMBER.finditer(text) if m.start() <= first.start() < m.end()), None)
    if found is None:
        return None
    if found["over"]:
        if int(found["under"]) == 0:
            return None
        value = int(found["whole"] or 0) + Fraction(int(found["over"]), int(found["under"]))
    else:
        value = Fraction((found["plain"] or "").replace(",", "") + (found["decimals"] or "") or "0")
    return -value if (found["sign"] in ("-", "−")) != bool(found["minus"]) else value


def same_number(given: Fraction, truth: Fraction) -> bool:
    """Equality; a truth of more than two decimals is also met by what rounds like it.

    That is a difference of at most 0.005, and of 5 % of the truth, so that 0 never stands for something small.
    """
    if given == truth or (truth * 100).denominator == 1:
        return given == truth
    return abs(given - truth) <= min(Fraction(1, 200), abs(truth) / 20)


def exact(value: Fraction) -> str:
    """`504`, `10.22`, and a fraction where decimals would not end."""
    return decimal(value) if _ends(value) else str(value)


def decimal(value: Fraction) -> str:
    """Decimals in full where they end, else two of them."""
    if value.denominator == 1:
        return str(value.numerator)
    if not _ends(value):
        return f"{float(value):.2f}"
    # Enough places to make it whole: the exponents of 2 and 5 are at most the denominator's binary digits.
    places = value.denominator.bit_length()
    whole, rest = divmod(int(abs(value) * 10**places), 10**places)
    return f"{'-' if value < 0 else ''}{whole}.{rest:0{places}d}".rstrip("0")


def mixed(value: Fraction) -> str:
    """As a person writes it: `504`, `10.22`, `5/6`, `11 1/6`."""
    whole, rest = divmod(value, 1)
    return exact(value) if _ends(value) or whole <= 0 else f"{whole} {rest}"


def _ends(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1
