"""Measures of a detector on a labelled test set: image level, pixel level, and per region.

Names as in the field: AUROC and average precision (scikit-learn), F1 at its best threshold, and AUPRO (Bergmann
et al. 2020): the mean share of each defect region found, integrated up to a false-positive rate of 0.3.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from inspector.records import AnomalyMap

BINS = 1 << 16
AUPRO_LIMIT = 0.3


def image_measures(scores: list[float], defective: list[bool]) -> dict[str, float | None]:
    """`image_auroc`, `image_ap` and `image_f1_max`; infinite scores rank above all others. None without both kinds."""
    labels = np.array(defective, np.bool_)
    if not labels.any() or labels.all():
        return {"image_auroc": None, "image_ap": None, "image_f1_max": None}
    ranks = np.unique(np.array(scores, np.float64), return_inverse=True)[1]
    precision, recall, _ = precision_recall_curve(labels, ranks)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        "image_auroc": float(roc_auc_score(labels, ranks)),
        "image_ap": float(average_precision_score(labels, ranks)),
        "image_f1_max": float(f1.max()),
    }


class PixelMeasures:
    """Pixel measures at full frame resolution in bounded memory.

    Every pixel has the score of its map cell, so counting defective and good pixels for each cell loses nothing;
    scores fall into `BINS` bins, fine enough that the third decimal does not change.
    """

    def __init__(self) -> None:
        self._good = np.zeros(BINS, np.float64)
        self._defective = np.zeros(BINS, np.float64)
        self._regions = np.zeros(BINS, np.float64)
        self._region_count = 0

    def add(self, anomaly_map: AnomalyMap, mask: NDArray[np.bool_]) -> None:
        """One image: its map and its (H, W) bool mask, all False for a good image."""
        bins = score_bins(anomaly_map.scores)
        cell = anomaly_map.cell_px
        inside = count_in_cells(mask, cell, bins.shape)
        pixels = count_in_cells(np.ones(mask.shape, np.bool_), cell, bins.shape)
        self._defective += np.bincount(bins.ravel(), inside.ravel(), BINS)
        self._good += np.bincount(bins.ravel(), (pixels - inside).ravel(), BINS)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        for label in range(1, count):
            region = labels == label
            covered = count_in_cells(region, cell, bins.shape)
            self._regions += np.bincount(bins.ravel(), covered.ravel() / region.sum(), BINS)
        self._region_count += count - 1

    def measures(self) -> dict[str, float | None]:
        """`pixel_auroc`, `pixel_ap` and `aupro`; None where there are no defective or no good pixels."""
        if not self._defective.any() or not self._good.any():
            return {"pixel_auroc": None, "pixel_ap": None, "aupro": None}
        used = np.flatnonzero(self._good + self._defective)
        scores = np.concatenate([used, used])
        labels = np.repeat([False, True], len(used))
        weights = np.concatenate([self._good[used], self._defective[used]])
        kept = weights > 0
        scores, labels, weights = scores[kept], labels[kept], weights[kept]
        return {
            "pixel_auroc": float(roc_auc_score(labels, scores, sample_weight=weights)),
            "pixel_ap": float(average_precision_score(labels, scores, sample_weight=weights)),
            "aupro": self._aupro(),
        }

    def _aupro(self) -> float:
        false_positives = np.concatenate([[0.0], np.cumsum(self._good[::-1]) / self._good.sum()])
        overlap = np.concatenate([[0.0], np.cumsum(self._regions[::-1]) / self._region_count])
        kept = false_positives < AUPRO_LIMIT
        # Up to the first point at or beyond the limit: interpolating over points that share a rate takes the last.
        end = int(kept.sum()) + 1
        at_limit = float(np.interp(AUPRO_LIMIT, false_positives[:end], overlap[:end]))
        x = np.append(false_positives[kept], AUPRO_LIMIT)
        y = np.append(overlap[kept], at_limit)
        return float(np.trapezoid(y, x) / AUPRO_LIMIT)


def score_bins(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bin of each score: a monotone squeeze of 0..inf that keeps its resolution around the thresholds (near 1)."""
    squeezed = np.asarray(scores, np.float64) / (1.0 + np.asarray(scores, np.float64))
    return np.asarray(np.clip(squeezed * BINS, 0, BINS - 1), np.int64)


def count_in_cells(mask: NDArray[np.bool_], cell_px: int, grid: tuple[int, ...]) -> NDArray[np.float64]:
    """(rows, columns) number of set pixels of a (H, W) mask in each cell; cells at the end may be incomplete."""
    sums = np.pad(mask.astype(np.int32).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    ys = np.minimum(np.arange(grid[0] + 1) * cell_px, mask.shape[0])
    xs = np.minimum(np.arange(grid[1] + 1) * cell_px, mask.shape[1])
    corners = sums[np.ix_(ys, xs)]
    return np.asarray(np.diff(np.diff(corners, axis=0), axis=1), np.float64)
