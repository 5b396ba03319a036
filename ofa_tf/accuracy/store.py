"""A workdir's accuracy predictor: its weights and what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.errors import FormatError
from ofa_tf.jsonio import check_keys, read_json, write_json
from ofa_tf.space import SearchSpace

WEIGHTS, FACTS = "predictor.npz", "predictor.json"
ORIGINS = ("fitted", "imported")
TARGETS = ("float", "int8")
# Rank correlations (Spearman). Below the first, more than one pair of subnets in three is in the wrong order, if values
# are normally distributed; from the second on, differences between subnets are no noise.
LEAST_SPEARMAN, GOOD_SPEARMAN = 0.5, 0.8
ERRORS = {"spearman", "worst_points", "mean_rmse_points", "noise_points", "int8_pairs", "int8_drop_points"}


@dataclass(frozen=True, repr=False)
class FittedPredictor:
    """A predictor and its error on archs that it has not seen.

    Args:
        predictor: the predictor.
        errors: as from `fit_predictor`; for an imported predictor, the published `rmse_points` and `pairs`, if any.
        origin: "fitted" in this workdir, or "imported".
        source: for an imported predictor, the `address` and `sha256` of its file.
        target: which accuracy it predicts: that of the "float" network or of the "int8" file.
    """

    predictor: Predictor
    errors: Mapping[str, float]
    origin: str = "fitted"
    source: Mapping[str, str] = field(default_factory=dict)
    target: str = "float"

    def __repr__(self) -> str:
        errors = self.errors
        if not {"rmse_points", "pairs"} <= errors.keys():
            return f"FittedPredictor({self.label})"
        rank = f", rank correlation {errors['spearman']:.2f}" if "spearman" in errors else ""
        figures = f"{errors['pairs']:.0f} subnets, error {errors['rmse_points']:.2f} points (RMSE){rank}"
        return f"FittedPredictor({figures if self.label == 'fitted' else f'{self.label}: {figures}'})"

    @property
    def label(self) -> str:
        """The label of its predictions: its origin and, unless it is the usual one, its target."""
        return self.origin if self.target == "float" else f"{self.origin} {self.target}"

    @property
    def says_nothing(self) -> bool:
        """Whether subnets differ in accuracy, and it is no better than the mean of all at predicting by how much.

        If they differ by no more than the noise of evaluation, the mean is as good an answer as any.
        """
        mean_points, noise_points = (self.errors.get(name, 0.0) for name in ("mean_rmse_points", "noise_points"))
        return self.errors.get("rmse_points", 0.0) >= mean_points > noise_points

    @property
    def caution(self) -> str | None:
        """One sentence about a predictor that cannot rank subnets; None for one that can, or of which nothing is known.

        It cannot where it is no better than the mean; where its rank correlation on subnets it had not seen is below
        `LEAST_SPEARMAN`; and where it is below `GOOD_SPEARMAN` and the subnets differ by no more than the noise of
        evaluation.
        """
        mean_points, noise_points, rank = map(self.errors.get, ("mean_rmse_points", "noise_points", "spearman"))
        cannot = "The predictor cannot rank subnets"
        if self.says_nothing:
            return f"{cannot}, and is no better than the mean: searches refuse it."
        if rank is None or rank >= GOOD_SPEARMAN:
            return None
        if mean_points is not None and noise_points is not None and mean_points <= noise_points:
            return (
                f"{cannot}: those evaluated differ by {mean_points:.2f} points, and one accuracy may be off by "
                f"{noise_points:.2f} by chance, so a small subnet may be as good as a large one."
            )
        if rank < LEAST_SPEARMAN:
            return (
                f"{cannot}: its rank correlation on those it has not seen is {rank:.2f}, and below {LEAST_SPEARMAN:g} "
                "more than one pair in three is put in the wrong order; evaluate more subnets with `ofa-tf predictor "
                "fit --archs N`, or train the network for longer."
            )
        return None

    def save(self, folder: Path) -> None:
        """Writes both files into a workdir's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).unlink(missing_ok=True)  # so that weights never stand beside another one's facts
        self.predictor.save(folder / WEIGHTS)
        facts = {"origin": self.origin, "target": self.target, "source": dict(self.source)}
        write_json(folder / FACTS, {"errors": dict(self.errors), **facts})

    @classmethod
    def load(cls, folder: Path, space: SearchSpace) -> "FittedPredictor | None":
        """Reads the predictor of a workdir's folder; None if there is none.

        Raises:
            FormatError: the files are damaged, or of a predictor of another space.
        """
        if not (folder / WEIGHTS).exists() or not (folder / FACTS).exists():
            return None
        facts = read_json(folder / FACTS)
        check_keys(facts, {"errors"}, {"origin", "source", "target"}, str(folder / FACTS))
        errors, origin, source = facts["errors"], facts.get("origin", "fitted"), facts.get("source", {})
        target = facts.get("target", "float")
        for name, value, known in (("origin", origin, ORIGINS), ("target", target, TARGETS)):
            if value not in known:
                raise FormatError(f"{folder / FACTS}: `{name}` (={value!r}) must be one of {list(known)}.")
        imported = origin == "imported"
        required = set() if imported else {"rmse_points", "pairs", "spearman"}
        required |= {"int8_pairs", "int8_drop_points"} if target == "int8" else set()
        check_keys(errors, required, ERRORS | {"rmse_points", "pairs"}, f"{folder / FACTS}, `errors`,")
        check_keys(source, {"address", "sha256"} if imported else set(), set(), f"{folder / FACTS}, `source`,")
        for name, value in errors.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FormatError(f"{folder / FACTS}: `{name}` (={value!r}) must be a number.")
        return cls(Predictor.load(folder / WEIGHTS, space), errors, origin, source, target)
