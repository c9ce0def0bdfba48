"""Reports: the cost and gain of each layer of a model, as a table, JSON, a page or a picture; charts of training losses."""

from .figures import Histogram, Layer
from .ledger import Report, report
from .losses import plot_losses

__all__ = ["Histogram", "Layer", "Report", "plot_losses", "report"]
