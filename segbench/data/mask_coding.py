"""The coding of a data set's masks, from all their values; what can be two things is refused.

Every refusal says which files it is about and which option settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segbench.data.coding import COLOUR, Coding, list_values, name_value
from segbench.data.survey import MAX_VALUES, Survey
from segbench.data.values import ValueMap, region_map
from segbench.errors import UserError

_FEW = 0.05  # a class that only so small a share of the files holds may be a slip of the pen


_ENOUGH = 5  # files, of which a share can be told


def infer_coding(survey: Survey, names: tuple[str, ...], ignored: tuple[int, ...]) -> Coding:
    """The coding of masks whose values nobody has explained.

    {0, 1} and {0, 255} are two classes; 0..K-1 are K classes; other values with a 0, the
    background, twenty at most, become classes in sorted order and keep their value in the class
    name. ``names``, where given, name the classes and fix how many there are; numbers below that
    are then labels, whether or not all occur.

    Raises:
        UserError: values that can mean several things, fewer than two, more than twenty, or names
            that do not fit; the files are named.
    """
    found = [number for number in survey.found if number not in ignored]
    coded = _coded(found, len(names))
    if len(coded) > MAX_VALUES:
        raise UserError(
            f"the masks hold {len(coded)} distinct values ({list_values(coded)}), at most "
            f"{MAX_VALUES} classes are expected; are these masks, and stored without loss?"
        )
    _refuse_ambiguous(survey, found, coded, names)
    if names and len(names) != len(coded):
        raise UserError(_names_do_not_fit(survey, coded, names))
    _refuse_rare(survey, found, named=bool(names))
    pairs = tuple((survey.value(number), index) for index, number in enumerate(coded))
    void = tuple(survey.value(number) for number in ignored)
    coding = Coding(names or _default_names(coded), pairs, void)
    return _noted(coding, survey)


def explained_coding(survey: Survey, given: ValueMap) -> Coding:
    """The coding that a map gives.

    Raises:
        UserError: a value that the map does not have; the files that hold it are named.
    """
    known = dict(given.labels)
    strange = [n for n in survey.found if n not in known and n not in given.ignore]
    if strange:
        raise UserError(
            f"values= and regions= do not say what {list_values(strange)} is: "
            + "; ".join(f"{name_value(n)} is in {survey.where(n)}" for n in strange)
        )
    pairs = tuple((survey.value(number), label) for number, label in given.labels)
    ignored = tuple(survey.value(number) for number in given.ignore)
    return _noted(Coding(given.names, pairs, ignored, given.regions), survey)


def structure_coding(survey: Survey, names: Sequence[str], classes: tuple[str, ...]) -> Coding:
    """The coding of masks that hold a bit for each of several structures.

    Without ``names`` they are the parts of one structure. With them each is a class of its own, or,
    where some overlap, a structure that a network has a sigmoid for.

    Raises:
        UserError: ``classes`` name another number of them.
    """
    given = (*names,) or ("foreground",)
    if classes and len(classes) != len(given) + 1:
        raise UserError(
            f"classes={'+'.join(classes)} names {len(classes)} classes, but there are "
            f"{len(given)} structures and the background"
        )
    parts = sorted(number for number in survey.found if number)
    labelled = classes or ("background", *given)
    if not names:
        labels = ((0, 0), *((part, 1) for part in parts))
        note = "the masks of one image are taken together; masks= keeps them apart"
        coding = explained_coding(survey, ValueMap(labelled, labels))
        return replace(coding, notes=(*coding.notes, note))
    bits = {name: 1 << number for number, name in enumerate(labelled[1:])}
    if all(part in bits.values() for part in parts):
        labels = ((0, 0), *((bit, n) for n, bit in enumerate(bits.values(), start=1)))
        return Coding(labelled, labels, notes=(_structures_found(survey, labelled),))
    areas = {name: tuple(p for p in parts if p & bit) for name, bit in bits.items()}
    areas = {name: of or (bits[name],) for name, of in areas.items()}
    overlap = region_map(areas)
    notes = (
        _structures_found(survey, labelled),
        "the structures overlap: a network needs a sigmoid for each",
    )
    return Coding(labelled, overlap.labels, (), overlap.regions, notes=notes)


def refuse_values(values: str, regions: str, ignored: str) -> None:
    """Refuse what says what the values of one mask mean, where each structure has its own.

    ``ignored`` is the option that ignores a value, as it was written.

    Raises:
        UserError: one of them is given.
    """
    given = [f"values={values}"] if values else []
    given += [f"regions={regions}"] if regions else []
    given += [ignored] if ignored else []
    if given:
        raise UserError(
            f"{' and '.join(given)} cannot be obeyed: every structure has a mask of its own here, "
            "and is where that is not 0; put the structures of a case into one mask file, or leave "
            "it out where each mask is 0 outside its structure and nothing is to be ignored"
        )


def _structures_found(survey: Survey, names: Sequence[str]) -> str:
    """How many masks hold each structure."""
    counts = [
        sum(any(value >> bit & 1 for value in mask.counts) for mask in survey.masks)
        for bit in range(len(names) - 1)
    ]
    said = [f"{name} ({count})" for name, count in zip(names[1:], counts, strict=True)]
    return f"masks: of {len(survey.masks)} cases (how many hold it), {', '.join(said)}"


def _noted(coding: Coding, survey: Survey) -> Coding:
    """The coding with a sentence that says what was found."""
    said = []
    for value, label in coding.values:
        number = survey.numbers.get(value, value)
        name = coding.names[label] if not coding.regions else _region_names(coding, label)
        said.append(f"{name_value(number)} is {name} ({survey.files(number)})")
    said += [
        f"{name_value(survey.numbers.get(v, v))} is ignored "
        f"({survey.files(survey.numbers.get(v, v))})"
        for v in coding.ignore
    ]
    notes = [f"masks: of {len(survey.masks)} files (how many hold it), {', '.join(said)}"]
    return replace(coding, notes=tuple(filter(None, (*notes, survey.note))))


def _region_names(coding: Coding, label: int) -> str:
    inside = [n for n, of in zip(coding.names[1:], coding.regions, strict=True) if label in of]
    return " and ".join(inside) or coding.names[0]


def _coded(found: list[int], wanted: int) -> list[int]:
    """The numbers of classes 0, 1, ...; some may be absent from the files."""
    if set(found) == {255} and wanted == 2:
        return [0, 255]
    if found and wanted and min(found) >= 0 and max(found) < wanted:
        return list(range(wanted))
    return found


def _refuse_ambiguous(
    survey: Survey, found: list[int], coded: list[int], names: tuple[str, ...]
) -> None:
    negative = [number for number in found if number < 0]
    if negative:
        raise UserError(
            f"the masks hold the negative value {list_values(negative)} "
            f"({survey.where(negative[0])}); say what it is: ignore={negative[0]}, or values="
        )
    if {1, 255} <= set(found):
        raise UserError(
            f"the masks hold {list_values(found)}: 255 either marks what is not known "
            "(ignore=255), or is the same as 1 in masks of another origin (values=0+1&255), or is "
            f"a class (values={'+'.join(map(name_value, found))}); 1 is in {survey.where(1)}; "
            f"255 is in {survey.where(255)}"
        )
    if len(coded) >= 2 and 0 not in coded:
        listed = "+".join(map(name_value, found))
        raise UserError(
            f"the masks hold {list_values(found)} and no 0, so nothing says which of them is the "
            f"background; list the values, the background's first: values={listed} where it is "
            f"{name_value(found[0])}, values=0+{listed} where it is none of them"
        )
    if len(coded) < 2:
        only = found[0] if found else None
        raise UserError(
            f"all masks hold only the value {list_values(found)}; at least two classes are needed"
            + (f" (values=0+{name_value(only)}, where that is the foreground)" if only else "")
        )


def _refuse_rare(survey: Survey, found: list[int], *, named: bool) -> None:
    """A class that very few files hold, where neither names nor a map say that it is one."""
    if named or len(survey.masks) < _ENOUGH or len(found) < 3:
        return
    limit = max(1, int(_FEW * len(survey.masks)))
    for number in found:
        if number != 0 and survey.files(number) <= limit:
            raise UserError(
                f"of {len(survey.masks)} masks only {survey.where(number)} hold the value "
                f"{name_value(number)}; where it is a class, say so "
                f"(values={'+'.join(map(name_value, found))}), else mend it or say "
                f"ignore={name_value(number)}"
            )


def _names_do_not_fit(survey: Survey, coded: list[int], names: tuple[str, ...]) -> str:
    rarest = sorted((n for n in coded if n != 0), key=survey.files)[
        : max(1, len(coded) - len(names))
    ]
    where = "; ".join(f"{name_value(n)} is in {survey.where(n)}" for n in rarest)
    return (
        f"classes={'+'.join(names)} names {len(names)} classes, but the masks have "
        f"{len(coded)} (values {list_values(coded)}): {where}"
    )


def _default_names(coded: list[int]) -> tuple[str, ...]:
    if coded in ([0, 1], [0, 255]):
        return ("background", "foreground")
    if coded == list(range(len(coded))):
        return ("background", *(f"class {number}" for number in coded[1:]))
    return tuple("background" if number == 0 else _value_name(number) for number in coded)


def _value_name(number: int) -> str:
    return f"colour {name_value(number)}" if number >= COLOUR else f"value {number}"
