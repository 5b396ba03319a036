"""Names of classes: those of a folder found among those of a network."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): archives of a Mac write "Ä" as "A" and two dots."""
    return unicodedata.normalize("NFC", name)


FORMS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    composed,
    lambda name: composed(name).replace("_", " "),
    lambda name: composed(composed(name).replace("_", " ").casefold()),
)


def class_finder(lists: Iterable[Sequence[str]]) -> Callable[[str], list[int]]:
    """Tells the classes that a name may mean.

    A name that is written as a class is that class: ImageNet has a Cardigan, a dog, and a cardigan. Where none is, an
    accent may be written in another form of Unicode; then "_" may stand for " ", and then case makes no difference.

    Args:
        lists: names of all classes, in their order; several lists are other names of the same classes.

    Returns:
        A function from a name to the numbers of the classes: none, one, or those between which it leaves the choice.
    """
    tables: list[dict[str, list[int]]] = [{} for _ in FORMS]
    for names in lists:
        for number, name in enumerate(names):
            for form, table in zip(FORMS, tables, strict=True):
                table.setdefault(form(name), []).append(number)

    def find(name: str) -> list[int]:
        for form, table in zip(FORMS, tables, strict=True):
            if found := table.get(form(name)):
                return sorted(set(found))
        return []

    return find
