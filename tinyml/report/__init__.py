"""Reports: what each layer of a model costs and gains, as a table, JSON, a page or a picture; the losses of a training."""

from .figures import Histogram, Layer
from .ledger import Report, report
from .losses import plot_losses

__all__ = ["Histogram", "Layer", "Report", "plot_losses", "report"]
