"""Reports: what each layer of a model costs and gains, as a table, JSON, a page, a picture."""

from .figures import Histogram, Layer
from .ledger import Report, report

__all__ = ["Histogram", "Layer", "Report", "report"]
