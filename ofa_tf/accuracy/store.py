"""A workdir's accuracy predictor: its weights, and what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.errors import FormatError
from ofa_tf.jsonio import check_keys, read_json, write_json
from ofa_tf.space import SearchSpace

WEIGHTS, FACTS = "predictor.npz", "predictor.json"
ORIGINS = ("fitted", "imported")


@dataclass(frozen=True)
class FittedPredictor:
    """A predictor, and the error it has on archs that it did not see.

    Args:
        predictor: the predictor.
        errors: `rmse_points` and, where known, `spearman`, and the number of `pairs`; of an imported one as published.
        origin: "fitted" in this workdir, or "imported".
        source: of an imported one, the `address` and `sha256` of its file.
    """

    predictor: Predictor
    errors: Mapping[str, float]
    origin: str = "fitted"
    source: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes both files into a workdir's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).unlink(missing_ok=True)  # so that weights never stand beside another one's facts
        self.predictor.save(folder / WEIGHTS)
        facts = {"errors": dict(self.errors), "origin": self.origin, "source": dict(self.source)}
        write_json(folder / FACTS, facts)

    @classmethod
    def load(cls, folder: Path, space: SearchSpace) -> "FittedPredictor | None":
        """Reads the predictor of a workdir's folder; None if there is none.

        Raises:
            FormatError: the files are damaged, or of a predictor of another space.
        """
        if not (folder / WEIGHTS).exists() or not (folder / FACTS).exists():
            return None
        facts = read_json(folder / FACTS)
        check_keys(facts, {"errors"}, {"origin", "source"}, str(folder / FACTS))
        errors, origin, source = facts["errors"], facts.get("origin", "fitted"), facts.get("source", {})
        if origin not in ORIGINS:
            raise FormatError(f"{folder / FACTS}: `origin` (={origin!r}) must be one of {list(ORIGINS)}.")
        imported = origin == "imported"
        required = {"rmse_points", "pairs"} | (set() if imported else {"spearman"})
        check_keys(errors, required, {"spearman"}, f"{folder / FACTS}, `errors`,")
        check_keys(source, {"address", "sha256"} if imported else set(), set(), f"{folder / FACTS}, `source`,")
        for name, value in errors.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FormatError(f"{folder / FACTS}: `{name}` (={value!r}) must be a number.")
        return cls(Predictor.load(folder / WEIGHTS, space), errors, origin, source)
