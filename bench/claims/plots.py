# SPDX-License-Identifier: MIT
"""The style of all figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot

STYLE = {
    "figure.dpi": 200,
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "axes.prop_cycle": matplotlib.cycler(
        color=["#0b62a4", "#d1491b", "#2c8a4b", "#8a4fa3", "#7a7a7a", "#c79a00"],
        marker=["o", "s", "^", "D", "v", "P"],
    ),
}


@contextmanager
def figure(path: Path, columns: int = 1, rows: int = 1) -> Iterator[Any]:
    """Give the axes of a figure, and write it to `path` afterwards."""
    with matplotlib.rc_context(STYLE):
        size = (7.2 if columns == 1 else 9.2, 4.0 if rows == 1 else 5.8)
        made, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
        try:
            yield axes[0][0] if rows == columns == 1 else axes
            made.tight_layout()
            made.canvas.draw()
            # 64 colours are enough for lines, and make files of a third of the size.
            image = Image.fromarray(numpy.asarray(made.canvas.buffer_rgba())).convert("RGB")
            image.quantize(64).save(path, optimize=True)
        finally:
            pyplot.close(made)


def line(axes: Any, series: dict[float, float], label: str, **style: Any) -> None:
    points = sorted(series.items())
    axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)


def label(axes: Any, x: str, y: str, *, log: str = "xy", title: str = "") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    if title:
        axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8)
