"""What a section of the report is made of: plain data, which the page's template draws and escapes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from training.estimates import Estimate

# Under which persona something was scored or written, as tables and figures call it: training.conditioning.CONDITIONS, in their order.
CONDITION_WORDS = {"true": "true persona", "none": "no persona", "wrong": "wrong persona"}

Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Table:
    """`header`: one text a column. A cell that is an Estimate is drawn with its interval and n; one that is withheld says why.

    The first column names the row. A cell that is a judge's label is drawn with what is known of that judge.
    signed: columns (by index) whose estimates are differences, drawn with a sign and with zero in the middle.
    plain: columns whose estimates are no shares (kappa, alpha, correlations): drawn as they are, with two digits, not in %.
    folded: drawn shut, to be opened by who wants it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    signed: Sequence[int] = ()
    plain: Sequence[int] = ()
    folded: bool = False


@dataclass(frozen=True)
class Figure:
    """number: of the paper's figure, as `10` (`2, 13` for two in one), or None for one that the paper does not have. image: an SVG data
    address (eval.drawings).

    words: what the figure shows, its values included, for a reader who cannot see it.
    """

    title: str
    image: str
    words: str
    number: str | None = None
    caption: str = ""


@dataclass(frozen=True)
class Example:
    """One sample to look into: `parts` are (heading, text) as they came from a person or a model; they are escaped."""

    title: str
    parts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """One part of the report. text: paragraphs, plain. scripted: the verdicts come from a scripted judge; simulated: the answers come from
    simulated raters. Both are labelled so wherever they stand."""

    anchor: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    examples: Sequence[Example] = field(default_factory=tuple)
    scripted: bool = False
    simulated: bool = False

    @property
    def mark(self) -> str:
        """What stands beside the section's title and those of its tables and figures; empty where there is nothing to warn of."""
        return " and ".join(["simulated"] * self.simulated + ["scripted"] * self.scripted)
