"""The options of each kind of reader: names of columns and arrays, and the meaning of numbers.

Plain dataclasses without heavy imports, so that they are checked when definitions are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from dagster_active_learning.errors import SettingError
from dagster_active_learning.text import did_you_mean

BBOX_UNITS = ("pixel", "relative")
BOXES = ("xywh", "xyxy", "xcycwh")
SCORE_TRANSFORMS = ("sigmoid", "percent")


class Options:
    """Base of the options; as text only those that differ from their defaults."""

    single_probability: bool = False

    @property
    def is_binary(self) -> bool:
        """True where a row has one probability, that of the second of two classes."""
        return self.single_probability

    def __repr__(self) -> str:
        options = fields(self)  # pyright: ignore[reportArgumentType]
        given = [
            f"{option.name}={value!r}"
            for option in options
            if (value := getattr(self, option.name)) != option.default
        ]
        return ", ".join(given) or "no option"


@dataclass(frozen=True, kw_only=True, repr=False)
class TableOptions(Options):
    """Options of tables: Parquet, CSV, JSON Lines, data frames, DuckDB queries.

    Class probabilities are one list column, or one column per class; one class column alone has the
    probability of its class, the other being "not" that class. At most one of
    ``class_columns``, ``class_column_prefix`` and ``class_column_pattern`` is given; with none of
    them ``class_probs_column`` is a list column. Or it has the names of the classes beside the
    numbers, in any order: a struct, a mapping, an Arrow map, or a list of objects with a label and
    a score. Each row must have the same names; those that most of the first rows have, unless
    ``class_names`` says which. They stand in the order of a struct's fields, or else of the
    alphabet.

    A table of objects has one row per object, or one row per image. There ``score_column``, or
    without it ``class_probs_column``, has lists of one element per object, and so have the columns
    of classes and boxes. An empty list says that the image was seen and no object found. Rows are
    then counted by objects. CSV has no lists of lists, and so no such rows.

    Attributes:
        image_id_column: Column with the image's id (text or integers).
        class_probs_column: Column with the K class probabilities of a prediction, a list or by
            name.
        class_columns: Names of the columns that hold one class each, in class order.
        class_column_prefix: Every column whose name starts with this is a class, in table order;
            the rest of the column's name is the class name.
        class_column_pattern: Every column whose whole name matches this regular expression is a
            class, in table order; the first group, where there is one, is the class name. It is one
            of polars: without look-around and backreferences.
        class_names: Class names in class order, where the source does not carry them. An object
            of another class goes to quarantine.
        single_probability: A row has one probability p, that of the second of two classes, as a
            binary classifier gives it; its class probabilities are [1 - p, p].
        score_column: For objects in images: column with the detector's own score. With it the
            table may do without class probabilities.
        category_column: For objects: column with the name of the class the detector decided for.
        bbox_column: For objects: list column of four numbers, or a column of objects with four
            fields by whose names they are known, such as xmin, ymin, xmax and ymax.
        bbox_columns: For objects: the four columns of the box instead.
        box: The meaning of the four numbers: ``"xywh"`` (top left corner, width and height),
            ``"xyxy"`` (two corners) or ``"xcycwh"`` (center, width and height). Fields that are
            named as corners or as a center need no such option.
        bbox_unit: The unit of boxes, ``"pixel"`` or ``"relative"`` to the image's size.
        score_transform: See ``ObjectOptions``.

    Raises:
        ValueError: If more than one way to find the class columns is given, the pattern is not a
            regular expression, a list of names is empty or repeats itself, or an option has a
            value that it cannot have.
    """

    image_id_column: str = "image_id"
    class_probs_column: str = "class_probs"
    class_columns: Sequence[str] | None = None
    class_column_prefix: str | None = None
    class_column_pattern: str | None = None
    class_names: Sequence[str] | None = None
    single_probability: bool = False
    score_column: str | None = None
    category_column: str | None = None
    bbox_column: str | None = None
    bbox_columns: Sequence[str] | None = None
    box: str = "xywh"
    bbox_unit: str = "pixel"
    score_transform: str | None = None

    def __post_init__(self) -> None:
        given = [
            name
            for name in ("class_columns", "class_column_prefix", "class_column_pattern")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")
        check_names("class_columns", self.class_columns)
        check_single(self.single_probability, self.class_names)
        check_names("bbox_columns", self.bbox_columns)
        if self.bbox_column is not None and self.bbox_columns is not None:
            raise ValueError("bbox_column and bbox_columns exclude each other: give one of them")
        if self.bbox_columns is not None and len(self.bbox_columns) != 4:
            raise ValueError(f"bbox_columns must name 4 columns, got {self.bbox_columns!r}")
        check_choice("box", self.box, BOXES)
        check_choice("bbox_unit", self.bbox_unit, BBOX_UNITS)
        check_choice("score_transform", self.score_transform, (None, *SCORE_TRANSFORMS))
        check_names("class_names", self.class_names)
        if self.class_column_pattern is not None:
            check_pattern("class_column_pattern", self.class_column_pattern)

    @property
    def is_binary(self) -> bool:
        """True also where one class has a column."""
        return self.single_probability or len(self.class_columns or ()) == 1

    @property
    def one_column_per_class(self) -> bool:
        """True where the class probabilities stand in one column per class."""
        return (
            self.class_columns is not None
            or self.class_column_prefix is not None
            or self.class_column_pattern is not None
        )


class FixedColumns(TableOptions):
    """Columns of a table of objects as its format names them, which no option changes.

    Each row has a category and a box.
    """


@dataclass(frozen=True, kw_only=True, repr=False)
class NpyOptions(Options):
    """Options of one matrix per file, ``(n_predictions, n_classes)``, with its ids next to it.

    Attributes:
        image_ids: The list of ids next to the matrix, in row order: a path in which ``{stem}``
            stands for the matrix's file name without its suffix, relative to the matrix's folder.
            A name ending in ``.npy`` is an array of text or whole numbers, any other a UTF-8 text
            file with one id per line.
        class_names: Class names in class order.
        single_probability: The shape is (n_predictions,) or (n_predictions, 1); a row has one
            probability p, that of the second of two classes: [1 - p, p].

    Raises:
        ValueError: If ``class_names`` is empty or repeats a name.
    """

    image_ids: str = "{stem}.ids.txt"
    class_names: Sequence[str] | None = None
    single_probability: bool = False

    def __post_init__(self) -> None:
        check_names("class_names", self.class_names)
        check_single(self.single_probability, self.class_names)


@dataclass(frozen=True, kw_only=True, repr=False)
class NpzOptions(Options):
    """Options of an archive of arrays.

    Attributes:
        class_probs_array: Name of the matrix ``(n_predictions, n_classes)`` in the archive.
        image_ids_array: Name of the array of ids in row order, text or whole numbers.
        class_names_array: Name of the array of class names; it need not be there.
        class_names: Class names in class order, where the archive does not carry them.
        single_probability: See ``NpyOptions``.

    Raises:
        ValueError: If ``class_names`` is empty or repeats a name.
    """

    class_probs_array: str = "class_probs"
    image_ids_array: str = "image_ids"
    class_names_array: str = "class_names"
    class_names: Sequence[str] | None = None
    single_probability: bool = False

    def __post_init__(self) -> None:
        check_names("class_names", self.class_names)
        check_single(self.single_probability, self.class_names)


@dataclass(frozen=True, kw_only=True, repr=False)
class ObjectOptions(Options):
    """Options that every format of objects has.

    Attributes:
        class_names: Class names in class order, where the source does not carry them. An object
            of another class goes to quarantine.
        score_transform: The way from a score that is not a probability to one: ``"sigmoid"`` for
            logits, ``"percent"`` for a scale of 0..100. Without it scores must be in 0..1.

    Raises:
        ValueError: If ``class_names`` is empty or repeats a name, or another option has a value
            that it cannot have.
    """

    class_names: Sequence[str] | None = None
    score_transform: str | None = None

    def __post_init__(self) -> None:
        check_names("class_names", self.class_names)
        check_choice("score_transform", self.score_transform, (None, *SCORE_TRANSFORMS))


@dataclass(frozen=True, kw_only=True, repr=False)
class CocoOptions(ObjectOptions):
    """Options of COCO results.

    Attributes:
        instances: Path of the COCO file with the tables ``images`` and ``categories``. With it
            image_id is the image's file_name and category the category's name; without it both
            are the numbers of the results file, as text, and so are the ``class_names``. Where
            the table has no file_name, it is the last part of the coco_url, or the id.
    """

    instances: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class YoloOptions(ObjectOptions):
    """Options of YOLO text files, one per image; ``class_names`` turns class numbers into names.

    Attributes:
        confidence: Whether the confidence stands ``"last"`` or ``"second"`` in a line.
        box: The meaning of a line's four numbers: ``"xcycwh"`` (center), ``"xywh"`` (top left
            corner) or ``"xyxy"`` (two corners).
        bbox_unit: ``"relative"`` to the image's size, or ``"pixel"``.

    Raises:
        ValueError: If an option has a value that it cannot have.
    """

    confidence: str = "last"
    box: str = "xcycwh"
    bbox_unit: str = "relative"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("confidence", self.confidence, ("last", "second"))
        check_choice("box", self.box, BOXES)
        check_choice("bbox_unit", self.bbox_unit, BBOX_UNITS)


@dataclass(frozen=True, kw_only=True, repr=False)
class RvcOptions(ObjectOptions):
    """Options of RVC (PDQ) files, which name no images.

    Attributes:
        image_ids: A UTF-8 text file with one id per line, in the order of the sequence's images, as
            a path in which ``{stem}`` stands for the file's name without its suffix, relative to
            its folder. Without it an image's id is ``<stem>/<position from 0>``.
    """

    image_ids: str | None = None


def find_class_columns(names: Sequence[str], options: TableOptions) -> dict[str, str]:
    """Class columns with the class name each one stands for, in class order."""
    if options.class_columns is not None:
        return {name: name for name in options.class_columns}
    taken = {
        options.image_id_column,
        options.score_column,
        options.category_column,
        options.bbox_column,
        *(options.bbox_columns or ()),
    }
    others = [name for name in names if name not in taken]
    if options.class_column_prefix is not None:
        prefix = options.class_column_prefix
        return {name: name.removeprefix(prefix) for name in others if name.startswith(prefix)}
    if options.class_column_pattern is not None:
        import polars as pl

        pattern = whole_name(options.class_column_pattern)
        matching = pl.Series(others, dtype=pl.String)
        matching = matching.filter(matching.str.contains(pattern))
        groups = matching.str.extract(pattern, 1)
        return {name: group or name for name, group in zip(matching, groups, strict=True)}
    return {}


def check_single(single_probability: bool, class_names: Sequence[str] | None) -> None:
    """Raise ValueError unless a single probability is declared as true or false, of two classes."""
    if not isinstance(single_probability, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"single_probability is {single_probability!r}, expected true or false")
    if single_probability and class_names is not None and len(class_names) != 2:
        raise ValueError(
            f"single_probability is the probability of the second of two classes, but class_names "
            f"has {len(class_names)}: {class_names!r}"
        )


def check_choice(option: str, value: object, choices: Sequence[object]) -> None:
    """Raise SettingError unless ``value`` is one of ``choices``."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise SettingError(
            option, f"{option} is {value!r}, expected one of {listed}{did_you_mean(value, choices)}"
        )


def check_pattern(option: str, pattern: str) -> None:
    """Raise ValueError unless ``pattern`` is a regular expression of polars."""
    # Where no pattern is given nothing needs polars yet.
    import polars as pl

    try:
        pl.Series([""]).str.contains(whole_name(pattern))
    except pl.exceptions.ComputeError as error:
        fault = str(error).partition("\n\nThis error occurred")[0]
        raise ValueError(
            f"{option} {pattern!r} is not a regular expression without look-around and "
            f"backreferences: {fault}"
        ) from error


def whole_name(pattern: str) -> str:
    """A regular expression of whole names, for polars.

    Its time is linear in the length of a name. Python's own takes for ever for some patterns, such
    as ``(a+)+``, and a column's name of 40 characters.
    """
    return rf"\A(?:{pattern})\z"


def check_names(option: str, names: Sequence[str] | None) -> None:
    """Raise ValueError unless ``names`` is None or a list of at least one name, each once."""
    if names is None:
        return
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise ValueError(f"{option} must be a list of different names, got {names!r}")
