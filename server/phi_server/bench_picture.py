"""The pictures of `phi-ls bench` and `phi-ls bench typing`: labelled curves, side by side, in a PNG.

Drawn with matplotlib (the extra `bench`), which is imported here when a picture is asked for and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phi_backends.errors import BadInput

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    title: str
    x: str
    """What the axis shows, with its unit."""
    y: str
    curves: Mapping[str, Curve]
    """By label."""
    doubling: bool = False
    """Both axes grow by doubling, as prompts of 32 to 2048 tokens do; otherwise they begin at 0."""


def check(file: Path) -> None:
    """Raises BadInput where no picture can be drawn there: better known before an hour of measuring than behind it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BadInput('A picture needs the package matplotlib. Install it with: pip install "phi-ls[bench]"') from error
    if file.suffix != ".png":
        raise BadInput(f'The picture is a PNG: give a name that ends in .png, not "{file}".')
    if not file.absolute().parent.is_dir():
        raise BadInput(f'There is no folder "{file.absolute().parent}" to put the picture into. Make it first.')


def draw(file: Path, title: str, panels: Sequence[Panel]) -> None:
    """Writes the picture. A curve has the same colour in all panels. Raises BadInput where it cannot be drawn."""
    check(file)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, whatever the machine has
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    labels = list(dict.fromkeys(label for panel in panels for label in panel.curves))
    figure = Figure(figsize=(5.2 * len(panels), 4.0 + 0.22 * len(labels)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for label, curve in panel.curves.items():
            axes.plot(*zip(*curve, strict=True), marker="o", markersize=3.5, color=f"C{labels.index(label) % 10}", label=label)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        axes.grid(True, which="major", alpha=0.3)
        if panel.doubling:
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(ScalarFormatter())
                axis.set_minor_formatter(NullFormatter())
            axes.yaxis.get_major_formatter().set_scientific(False)
        else:
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
    handles = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=1, frameon=False)
    try:
        figure.savefig(file)
    except OSError as error:
        raise BadInput(f'The picture cannot be written to "{file}" ({error.strerror}). Give another place.') from error
