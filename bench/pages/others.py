"""The pages beside the boards' and the tasks': what each is made of, and what its template may call."""

from collections.abc import Sequence

from bench.pages import compare, entries, tuning, words
from bench.pages.failures import failure_pages
from bench.pages.method import method_pages
from bench.pages.pareto import pareto_pages
from bench.pages.quantization import ends, quantization_pages
from bench.pages.runs import run_pages
from bench.pages.scale import scale_pages
from bench.pages.shell import Page
from bench.pages.views import BoardView, Material

FUNCTIONS = {
    "after_k_chart": tuning.after_k_chart, "sweep_chart": tuning.sweep_chart, "tuned_tables": tuning.tuned_tables,
    "STAGES": tuning.STAGES, "extent": words.extent, "result_chart": entries.result_chart,
    "compared": compare.compared, "seed_by_seed": compare.seed_by_seed, "signed": words.signed, "ends": ends,
}  # fmt: skip


def other_pages(material: Material, boards: Sequence[BoardView]) -> list[Page]:
    return [
        *entries.entry_pages(material, boards),
        *run_pages(material),
        *compare.compare_pages(material, boards),
        *pareto_pages(material, boards),
        *quantization_pages(material),
        *scale_pages(material, boards),
        *failure_pages(material),
        *method_pages(),
        Page("releases/index.html", "releases.html", {"views": material.releases}),
        *(Page(f"releases/{view.release.version}.html", "release.html", {"view": view}) for view in material.releases),
    ]
