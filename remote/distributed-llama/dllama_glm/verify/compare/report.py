"""What a comparison found, for people and for programs."""

from dataclasses import asdict, dataclass
from typing import Any

from dllama_glm.verify.compare.figures import Figures


@dataclass(frozen=True)
class Comparison:
    """The figures, the bound of their relative error, and where they come from."""

    figures: Figures
    bound: float
    file: str
    folder: str
    weight_type: str
    original_dtype: str
    measured_on: str

    @property
    def ok(self) -> bool:
        """Whether the file is within its bound (an error that is no number is not)."""
        return self.figures.relative_error <= self.bound

    def as_json(self) -> dict[str, Any]:
        """One flat JSON document."""
        own = {name: value for name, value in vars(self).items() if name != "figures"}
        return {"ok": self.ok, **own, **asdict(self.figures)}

    def as_text(self) -> str:
        """A few lines."""
        figures = self.figures
        rise = 100 * (figures.perplexity / figures.original_perplexity - 1)
        errors = f"largest error {figures.max_abs_error:.3g}, mean {figures.mean_abs_error:.3g}"
        perplexities = f"{figures.perplexity:.4f}, the original's {figures.original_perplexity:.4f} ({rise:+.2f} %)"
        lines = [
            f"{self.file} ({self.weight_type}) beside {self.folder} ({self.original_dtype}), {self.measured_on}",
            f"{figures.prompts} prompts, {figures.positions} positions",
            f"logits: {errors}, relative {figures.relative_error:.3g}",
            f"perplexity of the prompts: {perplexities}",
            f"equal greedy tokens: {100 * figures.equal_greedy:.1f} %",
            f"{'within' if self.ok else 'BEYOND'} the bound: relative error of the logits at most {self.bound:g}",
        ]
        return "\n".join(lines)
