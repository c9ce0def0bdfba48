"""Reports: what each layer of a model costs and gains, as a table, JSON, a page, a picture; losses of training."""

from .figures import Histogram, Layer
from .ledger import Report, report
from .losses import plot_losses

__all__ = ["Histogram", "Layer", "Report", "plot_losses", "report"]
