"""`ClassifierTwoSample`: what a classifier can tell apart bounds TV from below.

For any rule "this came from the test side", TV >= TPR + TNR - 1, and for the best rule they are
equal. Of the same two samples it gives, each with its own label:

* `certificate_`, **lower**: classifier and threshold learn on one half, Clopper-Pearson limits on
  the two rates come from the other, at δ/2 each;
* `prequential_`, **lower**: the test by betting, on all rows (`prequential_two_sample`);
* `cross_fitted_`, **estimate**: TPR + TNR - 1 over all rows, each judged by a classifier of the
  other folds. Pooled folds are not independent, so it carries no limit of its own;
* `plug_in_`, **estimate**: E|2η - 1| at class weights ½ : ½ with η the cross-fitted score,
  calibrated by an isotonic regression of the other folds. TV is exactly that for the true η. |·| is
  convex, so noise in η pushes it up where the sides are alike.

And a test of "both sides have one law": twice the smaller of two exact p-values, that of the
classifier on the held-out half (`permutation_p_value`) and that of differences of shares on all
rows (`share_difference_p_value`), which finds what is rare before the former does.

Not among them: AUC. For the best score 2·AUC - 1 lies in [TV, 2TV - TV²], so it is no TV.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from estimators.concentration import check_delta, clopper_pearson
from estimators.estimate import Estimate, Guarantee
from estimators.total_variation.assumptions import FROZEN, INDEPENDENT
from estimators.total_variation.permutation import permutation_p_value
from estimators.total_variation.power import certificate_floor, detection_floors
from estimators.total_variation.prequential import PrequentialTest, prequential_of
from estimators.total_variation.samples import fold_of, number_groups, one_row_a_group, take
from estimators.total_variation.share_differences import share_difference_p_value

HELD_OUT_GAP = "TPR + TNR - 1 on the held-out half"
CROSS_FITTED = "cross-fitted TPR + TNR - 1"
PLUG_IN = "calibrated plug-in E|2η - 1|"


class ClassifierTwoSample(BaseEstimator):  # type: ignore[misc]
    """Bound the TV between two samples from below by a classifier, and estimate it.

    Args:
        classifier: Any scikit-learn classifier or pipeline that weighs the classes equally; it is
            cloned, never fitted itself. None: gradient boosting on numeric features.
        delta: Probability with which all lower limits together may fail.
        folds: Folds of the point estimates; 0 leaves them out (a sixth of the work), and the value
            is the held-out gap.
        prequential: Whether to bet too (about as much work again); the two limits then get δ/2
            each, and the larger is quoted.
        permutations: B of the permutation p-value (1+b)/(1+B).
        random_state: Seed of the splits.

    Attributes:
        tv_: The lower certificate; its ``value`` is `cross_fitted_`, never below the certificate.
        certificate_: The limit from the held-out half.
        prequential_: Outcome of the test by betting, None where it was not asked for.
        cross_fitted_: Point estimate, see the module.
        plug_in_: Point estimate, see the module.
        p_value_: Permutation p-value of "one law": twice the smaller of the next two.
        classifier_p_value_: That of the frozen classifier, from the held-out half.
        share_p_value_: That of differences of shares, from all rows. None where X is texts, which
            only the classifier can read, and where the classifier's is already 1/(1+B): no p-value
            is smaller, so `p_value_` is known.
        detection_floor_: z_{1-α/2}/√m, m the harmonic total of the held-out rows: a smaller TV
            looks like noise at level α if it is spread over all rows (see `power`).
        detection_floor_80_: The TV from which on a z-test of the best possible rule has 80 % power,
            (z_{1-α/2} + z_{0.8})/√m. The classifier may be far from that rule and miss any shift.
        certificate_floor_80_: About the TV from which on `certificate_` of the best possible rule
            is above 0 with 80 % power, see `estimators.total_variation.power`.
        held_out_: Rows of either side behind the certificate.
        held_out_scores_: Their scores, higher where a row looks like the second side, (m,).
        held_out_sides_: Their sides, 0 or 1, (m,).
        held_out_rates_: (TNR, TPR) there.
        cross_scores_: Cross-fitted scores of the judged rows.
        cross_sides_: Their sides.
        cross_folds_: Their folds.
        classifier_: The frozen classifier behind the certificate.
        classes_: The two labels of y; the second is the side that scores point to.

    >>> from sklearn.linear_model import LogisticRegression
    >>> x = np.r_[np.zeros(200), np.ones(200)].reshape(-1, 1)
    >>> test = ClassifierTwoSample(LogisticRegression()).fit(x, np.repeat([0, 1], 200))
    >>> test.cross_fitted_.value, test.tv_.lower > 0.9
    (1.0, True)
    """

    def __init__(
        self,
        classifier: Any = None,
        *,
        delta: float = 0.05,
        folds: int = 5,
        prequential: bool = False,
        permutations: int = 999,
        random_state: int = 0,
    ) -> None:
        self.classifier = classifier
        self.delta = delta
        self.folds = folds
        self.prequential = prequential
        self.permutations = permutations
        self.random_state = random_state

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        groups: Sequence[Hashable] | None = None,
    ) -> ClassifierTwoSample:
        """Split, learn, judge.

        Args:
            X: Examples of both sides: a matrix, sparse or not, or a list of what the classifier
                reads (texts).
            y: The side of each, two labels; the smaller is the train side.
            groups: Units or duplicate clusters, never divided; one row of each is judged a side.

        Raises:
            ValueError: If there are not two sides, or fewer than ``2·folds`` groups on one.
        """
        check_delta(self.delta)
        x, y = self._checked(X, y)
        generator = np.random.default_rng(self.random_state)
        numbers = number_groups(groups, len(y))
        kept = one_row_a_group(numbers, y, generator)
        x, y, group = take(x, kept), y[kept], numbers[kept]
        sizes = np.bincount(y, minlength=2)
        fewest = 2 * max(self.folds, 2)
        if sizes.min() < fewest:
            raise ValueError(
                f"a two-sample test with {self.folds} folds needs at least {fewest} independent "
                f"units a side, got {sizes.tolist()}"
            )
        spent = self.delta / 2 if self.prequential else self.delta
        self._certify(x, y, group, fold_of(group, generator, 2), spent)
        self.share_p_value_ = self._share_p_value(x, y, group)
        least = min(p for p in (self.classifier_p_value_, self.share_p_value_) if p is not None)
        self.p_value_ = min(1.0, 2 * least)
        self.cross_fitted_ = _point(self.certificate_.value, HELD_OUT_GAP)
        if self.folds:
            self._estimate(x, y, fold_of(group, generator, self.folds))
        self.prequential_: PrequentialTest | None = None
        lower, method = self.certificate_.lower, self.certificate_.method
        assumptions = self.certificate_.assumptions
        if self.prequential:
            self.prequential_ = prequential_of(
                x, y, group, self._classifier(), spent, np.random.default_rng(self.random_state)
            )
            # the better of the two limits needs both events
            both = (*assumptions, *self.prequential_.tv.assumptions)
            assumptions = tuple(dict.fromkeys(both))
            if self.prequential_.tv.lower > lower:
                lower, method = self.prequential_.tv.lower, self.prequential_.tv.method
        self.tv_ = lower_estimate(self.cross_fitted_.value, lower, self.delta, method, assumptions)
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the frozen classifier's scores, higher where a row looks like the second side."""
        check_is_fitted(self)
        if hasattr(self, "n_features_in_"):
            X = validate_data(self, X, accept_sparse="csr", reset=False)  # noqa: N806
        return scores_of(self.classifier_, X)

    def __sklearn_tags__(self) -> Any:
        """Two labels are required; text and sparse matrices are welcome."""
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.classifier_tags = ClassifierTags(multi_class=False)
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        return tags

    def _checked(self, x: Any, y: Any) -> tuple[Any, NDArray[np.int64]]:
        if _is_plain_list(x):
            y = np.asarray(y)
            if len(x) != len(y):
                raise ValueError(f"{len(x)} examples and {len(y)} labels differ in number")
        else:
            x, y = validate_data(self, x, y, accept_sparse="csr")
        check_classification_targets(y)
        self.classes_, sides = np.unique(y, return_inverse=True)
        if len(self.classes_) != 2:
            what = f"one class: {len(self.classes_)} label" if len(self.classes_) == 1 else (
                f"{type_of_target(y)} labels: {len(self.classes_)} of them"
            )  # fmt: skip
            raise ValueError(f"Only two sides can be compared, got {what}")
        return x, sides

    def _classifier(self) -> Any:
        return clone(self.classifier) if self.classifier is not None else boosted_trees()

    def _certify(self, x: Any, y: Any, group: Any, half: Any, delta: float) -> None:
        self.classifier_ = self._classifier().fit(take(x, half == 0), y[half == 0])
        judged, truth = take(x, half == 1), y[half == 1]
        counts = int((truth == 0).sum()), int((truth == 1).sum())
        if min(counts) == 0 or len(np.unique(y[half == 0])) < 2:
            raise ValueError("one side has no held-out row; give more rows")
        says = self.classifier_.predict(judged) == 1
        self.held_out_, self.held_out_sides_ = counts, truth
        self.held_out_scores_ = scores_of(self.classifier_, judged)
        right = int((~says[truth == 0]).sum()), int(says[truth == 1].sum())
        self.held_out_rates_ = right[0] / counts[0], right[1] / counts[1]
        self.certificate_ = held_out_certificate(right, counts, delta)
        self.classifier_p_value_ = permutation_p_value(
            self.held_out_scores_,
            truth == 1,
            groups=group[half == 1].tolist(),
            permutations=self.permutations,
            seed=self.random_state,
        )
        self.detection_floor_, self.detection_floor_80_ = detection_floors(counts, self.delta)
        self.certificate_floor_80_ = certificate_floor(counts, delta)

    def _share_p_value(self, x: Any, y: Any, group: Any) -> float | None:
        if not hasattr(x, "shape") or x.ndim != 2:
            return None
        if self.classifier_p_value_ * (1 + self.permutations) < 1.5:
            return None
        return share_difference_p_value(
            x, y == 1,
            groups=group.tolist(), permutations=self.permutations, seed=self.random_state,
        )  # fmt: skip

    def _estimate(self, x: Any, y: Any, fold: Any) -> None:
        scores, says = np.zeros(len(y)), np.zeros(len(y), dtype=bool)
        for k in range(self.folds):
            inside, outside = fold != k, fold == k
            fitted = self._classifier().fit(take(x, inside), y[inside])
            rows = take(x, outside)
            says[outside] = fitted.predict(rows) == 1
            scores[outside] = scores_of(fitted, rows)
        self.cross_scores_, self.cross_sides_, self.cross_folds_ = scores, y, fold
        gap = float(says[y == 1].mean() - says[y == 0].mean())
        self.cross_fitted_ = _point(gap, CROSS_FITTED)

    @property
    def plug_in_(self) -> Estimate:
        """Point estimate, see the module; computed when it is asked for."""
        check_is_fitted(self, "cross_scores_")
        value = calibrated_plug_in(self.cross_scores_, self.cross_sides_, self.cross_folds_)
        return _point(value, PLUG_IN)


def held_out_certificate(right: tuple[int, int], counts: tuple[int, int], delta: float) -> Estimate:
    """Return the lower limit on TV from what a frozen rule got right on held-out rows.

    Args:
        right: Rows of (train side, test side) that the rule placed rightly.
        counts: Rows that it judged.
        delta: Shared by the two rates.
    """
    tnr, tpr = (clopper_pearson(k, m, delta) for k, m in zip(right, counts, strict=True))
    return lower_estimate(
        tnr.value + tpr.value - 1,
        max(0.0, tnr.lower + tpr.lower - 1),
        delta,
        "classifier two-sample test, held-out Clopper-Pearson",
        (FROZEN, INDEPENDENT),
    )


def calibrated_plug_in(scores: Any, y: Any, fold: Any) -> float:
    """Return ½ Σ_side E|2η - 1| with η the scores calibrated by the other folds' isotonic fit."""
    from sklearn.isotonic import IsotonicRegression

    weight = np.where(y == 1, 0.5 / (y == 1).sum(), 0.5 / (y == 0).sum())
    total = 0.0
    for k in np.unique(fold):
        inside, outside = fold != k, fold == k
        rule = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        rule.fit(scores[inside], y[inside], sample_weight=weight[inside])
        eta = rule.predict(scores[outside])
        total += float((weight[outside] * np.abs(2 * eta - 1)).sum())
    return total


def scores_of(fitted: Any, x: Any) -> NDArray[np.float64]:
    """What orders the rows: the probability of the test side, or the best that there is."""
    if hasattr(fitted, "predict_proba"):
        return np.asarray(fitted.predict_proba(x)[:, 1], dtype=np.float64)
    rule = fitted.decision_function if hasattr(fitted, "decision_function") else fitted.predict
    return np.asarray(rule(x), dtype=np.float64)


def boosted_trees(seed: int = 0) -> Any:
    """Return gradient boosting with equal class weights that stops where it learns no more."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=0.08,
        max_iter=200,
        max_leaf_nodes=15,
        min_samples_leaf=30,
        l2_regularization=1.0,
        class_weight="balanced",
        early_stopping=True,
        validation_fraction=0.15,
        n_iter_no_change=8,
        random_state=seed,
    )


def _is_plain_list(x: Any) -> bool:
    """Whether x holds what only the classifier can read: texts, for one."""
    if isinstance(x, list | tuple):
        return bool(x) and isinstance(x[0], str)
    return isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1


def lower_estimate(
    value: float, lower: float, delta: float, method: str, assumptions: tuple[str, ...]
) -> Estimate:
    """Return a lower certificate around a point value, which is never below it."""
    point = min(1.0, max(value, lower))
    return Estimate(
        point, lower, 1.0, 1 - delta, Guarantee.LOWER, method, assumptions, "probability"
    )


def _point(value: float, method: str) -> Estimate:
    inside = min(1.0, max(0.0, value))
    return Estimate(
        inside, 0.0, 1.0, 0.0, Guarantee.ESTIMATE, method, (INDEPENDENT,), "probability"
    )
